package llamaserver

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
	"github.com/lathe-llm/lathe/infer/internal/sample"
	"github.com/lathe-llm/lathe/infer/llamacpp"
)

// faultEnv names what the fake server does wrong.
const faultEnv = "LATHE_TEST_SERVER_FAULT"

// TestMain makes the test binary a llama-server when it is started with the arguments of one.
func TestMain(m *testing.M) {
	llamacpp.RunIfChild()
	if len(os.Args) > 1 && os.Args[1] == "-m" {
		os.Exit(serve(os.Args[1:]))
	}
	for _, run := range programs {
		run()
	}
	os.Exit(m.Run())
}

// programs are what the test binary may be instead of a test; each returns if it is not.
var programs []func()

// fakeServer answers as llama-server does, in replies of the same shape. The model is any function of the tokens before.
type fakeServer struct {
	vocab vocab
	info  infer.Info
	key   string
	n     int // tokens of context
	fault string

	mu    sync.Mutex
	calls int     // of /completion
	cache []int32 // of the newest
}

func serve(args []string) int {
	flags := flag.NewFlagSet("llama-server", flag.ContinueOnError)
	path, host, port := flags.String("m", "", ""), flags.String("host", "", ""), flags.String("port", "", "")
	context := flags.Int("c", 0, "")
	for _, name := range []string{"np", "t", "ngl", "b", "ctk", "ctv"} {
		flags.String(name, "", "")
	}
	if err := flags.Parse(args); err != nil {
		return 2
	}
	s := &fakeServer{key: os.Getenv("LLAMA_API_KEY"), n: *context, fault: os.Getenv(faultEnv)}
	switch s.fault {
	case "exit":
		fmt.Fprintln(os.Stderr, "error: unknown model architecture: 'later'")
		return 1
	case "open":
		s.key = ""
	}
	if err := s.vocab.read(*path, &s.info); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stderr, "load_tensors: offloaded 3/4 layers to GPU")
	if err := http.ListenAndServe(*host+":"+*port, s); err != nil {
		return 1
	}
	return 0
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/health" && s.key != "" && r.Header.Get("Authorization") != "Bearer "+s.key {
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}`)
		return
	}
	var body struct {
		completionRequest
		Content string `json:"content"`
		Parse   bool   `json:"parse_special"`
		Add     bool   `json:"add_special"`
	}
	data, _ := io.ReadAll(r.Body)
	json.Unmarshal(data, &body)
	switch r.URL.Path {
	case "/health":
		if s.fault == "hang" {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}`)
			return
		}
		io.WriteString(w, `{"status":"ok"}`)
	case "/props":
		n := fmt.Sprint(s.n)
		if s.fault == "props" {
			n = `"many"`
		}
		fmt.Fprintf(w, `{"default_generation_settings":{"params":{"seed":4294967295},"n_ctx":%s},"total_slots":1,"build_info":"b7-test","is_sleeping":false}`, n)
	case "/v1/models":
		fmt.Fprintf(w, `{"object":"list","data":[{"id":"m","meta":{"vocab_type":2,"n_vocab":%d,"n_embd":%d,"n_params":%d}}]}`, len(s.vocab.texts), s.info.Hidden, s.info.Params)
	case "/tokenize":
		ids := []int32{}
		if body.Add && !s.vocab.bytePairs {
			ids = append(ids, s.vocab.BOS)
		}
		json.NewEncoder(w).Encode(map[string]any{"tokens": append(ids, s.split(body.Content, body.Parse)...)})
	case completion:
		s.mu.Lock()
		s.calls++
		s.mu.Unlock()
		s.complete(r.Context(), w, body.completionRequest)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// split spells text byte by byte.
func (s *fakeServer) split(text string, parse bool) (ids []int32) {
	for i := 0; i < len(text); {
		if t, ok := s.vocab.Controls.At(text[i:]); ok && parse {
			ids = append(ids, t.ID)
			i += len(t.Text)
			continue
		}
		ids = append(ids, s.byteToken(text[i]))
		i++
	}
	return ids
}

func (s *fakeServer) byteToken(b byte) int32 {
	for id := range s.vocab.texts {
		if !s.vocab.control(int32(id)) && s.vocab.piece(int32(id)) == string([]byte{b}) {
			return int32(id)
		}
	}
	panic("no token for a byte")
}

// logits prefers letters: some function of the newest tokens.
func (s *fakeServer) logits(past []int32) []float32 {
	out := make([]float32, len(s.vocab.texts))
	h := uint64(17)
	for _, id := range past[max(0, len(past)-3):] {
		h = (h ^ uint64(id)) * 0x9E3779B97F4A7C15
	}
	for i := range out {
		x := (h ^ uint64(i)*0xBF58476D1CE4E5B9) * 0x94D049BB133111EB
		out[i] = float32(x>>40) / (1 << 24)
	}
	for b := byte('a'); b <= 'z'; b++ {
		out[s.byteToken(b)] += 3
	}
	return out
}

func (s *fakeServer) complete(ctx context.Context, w http.ResponseWriter, r completionRequest) {
	for _, id := range r.Prompt {
		if id < 0 || int(id) >= len(s.vocab.texts) {
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"error":{"code":400,"message":"Prompt contains invalid tokens","type":"invalid_request_error"}}`)
			return
		}
	}
	sampler := sample.New(infer.Sampling{Temperature: r.Temperature, TopK: r.TopK, TopP: r.TopP, MinP: r.MinP, RepeatPenalty: r.RepeatPenalty, RepeatLast: r.RepeatLast, Seed: uint64(r.Seed)}, r.Prompt)
	past := append([]int32(nil), r.Prompt...)
	var generated []int32
	var text []byte
	kind := "limit"
	var list []any
	if s.fault == "endless" {
		r.Predict = s.n
	}
	for len(generated) < r.Predict && len(past) < s.n && kind == "limit" && ctx.Err() == nil {
		logits := s.logits(past)
		if script := os.Getenv("LATHE_TEST_SERVER_SAYS"); script != "" && len(past) >= 3 { // after a prompt of three tokens
			ids := s.split(script, true)
			logits[ids[(len(past)-3)%len(ids)]] += 20
		}
		id, err := sampler.Next(logits)
		if err != nil {
			panic(err)
		}
		past, generated = append(past, id), append(generated, id)
		if !s.vocab.control(id) {
			text = append(text, s.vocab.piece(id)...)
		}
		if id == s.info.EOS && !r.IgnoreEnd {
			kind = "eos"
		}
		if !utf8.Valid(text) {
			continue // as llama-server does
		}
		e := map[string]any{"index": 0, "content": "", "tokens": []int32{id}, "stop": false, "id_slot": -1, "tokens_predicted": len(generated), "tokens_evaluated": len(r.Prompt)}
		if r.Probs > 0 {
			sum := sample.LogSumExp(logits)
			ids, values := sample.Top(logits, r.Probs, sum)
			top := []any{}
			for i := range ids {
				top = append(top, map[string]any{"id": ids[i], "token": "", "bytes": []int{}, "logprob": values[i]})
			}
			one := map[string]any{"id": id, "token": "", "bytes": []int{}, "logprob": float64(logits[id]) - sum, "top_logprobs": top}
			switch s.fault {
			case "certain":
				one["logprob"] = 0.5
			case "null":
				one["logprob"] = nil
			case "others":
				one["id"] = id ^ 1
			case "tops":
				top[0] = map[string]any{"id": -1, "logprob": -1}
			}
			e["completion_probabilities"] = []any{one}
			list = append(list, one)
		}
		if r.Stream && s.broken(w, e, len(generated)) {
			return
		}
	}
	s.mu.Lock()
	same := 0
	for r.Cache && same < min(len(r.Prompt)-1, len(s.cache)) && r.Prompt[same] == s.cache[same] {
		same++
	}
	s.cache = past
	s.mu.Unlock()
	last := map[string]any{"index": 0, "content": "", "tokens": []int32{}, "stop": true, "tokens_predicted": len(generated), "tokens_evaluated": len(r.Prompt), "truncated": false,
		"stop_type": kind, "stopping_word": "", "tokens_cached": len(past), "timings": s.timings(len(r.Prompt)-same, len(generated))}
	if s.fault == "reason" {
		last["stop_type"] = "tired"
	}
	if r.Stream {
		s.event(w, last)
		io.WriteString(w, "data: [DONE]\n\n")
		return
	}
	last["tokens"] = generated
	if list != nil {
		last["completion_probabilities"] = list
	}
	json.NewEncoder(w).Encode(last)
}

func (s *fakeServer) timings(read, generated int) map[string]any {
	t := map[string]any{"cache_n": 0, "prompt_n": read, "prompt_ms": 2.5, "predicted_n": generated, "predicted_ms": 5.0}
	switch s.fault {
	case "instant":
		t["prompt_ms"], t["predicted_ms"] = 0, 0
	case "backwards":
		t["prompt_ms"], t["predicted_ms"] = -1, -1
	case "busy":
		t["prompt_n"], t["predicted_n"] = 1<<20, 1<<20
	}
	return t
}

func (s *fakeServer) event(w http.ResponseWriter, e map[string]any) {
	data, _ := json.Marshal(e)
	fmt.Fprintf(w, "data: %s\n\n", data)
	w.(http.Flusher).Flush()
}

// broken sends an event, the third one with the fault. It reports whether the stream is over.
func (s *fakeServer) broken(w http.ResponseWriter, e map[string]any, n int) bool {
	if n == 3 && s.calls == 1 {
		switch s.fault {
		case "crash":
			fmt.Fprintln(os.Stderr, "ggml_cuda: out of memory")
			os.Exit(3)
		case "token":
			e["tokens"] = []int32{1 << 30}
		case "type":
			e["tokens"] = "none"
		case "noids":
			e["tokens"] = []int32{}
		case "count":
			e["tokens_predicted"] = -4
		case "json":
			io.WriteString(w, "data: {\"tokens\":[\n\n")
			return true
		case "long":
			io.WriteString(w, "data: "+strings.Repeat("x", maxLine+1)+"\n\n")
			return true
		case "error":
			io.WriteString(w, "data: {\"error\":{\"code\":500,\"message\":\"the device is lost\"}}\n\n")
			return true
		case "silent":
			select {}
		}
	}
	s.event(w, e)
	return false
}

// newTestEngine returns an engine whose program is the test binary.
func newTestEngine(t testing.TB, o Options, env ...string) *Engine {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if o.URL == "" {
		o.Path = path
	}
	o.Fallback, o.LogDir, o.Env = scorers{fake.New(fake.Options{})}, t.TempDir(), env
	e := New(o)
	t.Cleanup(func() { e.Close() })
	return e
}

// scorers is the fallback of tests: it scores as the fake server generates.
type scorers struct{ infer.Engine }

func (scorers) Load(_ context.Context, o infer.LoadOptions, _ func(float64)) (infer.Model, error) {
	m := &scorer{context: o.Context}
	return m, m.server.vocab.read(o.Path, &m.server.info)
}

type scorer struct {
	infer.Model
	server  fakeServer
	context int
}

func (m *scorer) Close() error { return nil }

func (m *scorer) Distributions(ctx context.Context, windows [][]int32, o infer.DistributionOptions) ([][]infer.Position, error) {
	window := windows[0]
	if len(window) > m.context {
		return nil, infer.ErrContextFull
	}
	vocab := int32(len(m.server.vocab.texts))
	out := []infer.Position{}
	for at := o.From[0]; at < len(window); at++ {
		logits := m.server.logits(window[:at])
		sum := sample.LogSumExp(logits)
		if window[at] < 0 || window[at] >= vocab {
			return nil, infer.ErrBadToken
		}
		p := infer.Position{NLL: float32(sum - float64(logits[window[at]])), Greedy: sample.Argmax(logits) == window[at]}
		if o.Top > 0 {
			p.Top, p.TopProbs = sample.Top(logits, o.Top, sum)
		}
		if o.At != nil {
			for _, id := range o.At[0][at-o.From[0]] {
				if id < 0 || id >= vocab {
					return nil, infer.ErrBadToken
				}
				p.At = append(p.At, -float32(sum-float64(logits[id])))
			}
		}
		out = append(out, p)
		if o.Progress != nil {
			o.Progress(infer.Progress{Done: len(out), Total: len(window) - o.From[0]})
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return [][]infer.Position{out}, nil
}
