package llamaserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/infertest"
)

func TestContract(t *testing.T) {
	for _, family := range []string{"llama", "qwen2"} {
		t.Run(family, func(t *testing.T) {
			infertest.Run(t, infertest.Subject{
				Engine: func(t testing.TB) infer.Engine { return newTestEngine(t, Options{}) },
				Model:  gguftest.Write(t, gguftest.Tiny(family)),
				Except: map[string]string{
					"threads":                   "a llama-server keeps its number of threads",
					"context beyond the memory": "only the server knows its devices",
				},
			})
		})
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		text, path, url string
		server, bad     bool
	}{
		{text: ""}, {text: "llama.cpp"}, {text: "llama-server", server: true}, {text: "llama-server=/opt/a b", path: "/opt/a b", server: true},
		{text: "llama-server=http://10.0.0.1:80/x/", url: "http://10.0.0.1:80/x", server: true}, {text: "llama-server=", bad: true},
		{text: "vllm", bad: true}, {text: "llama-server=ftp://x", bad: true}, {text: "llama-server=http://", bad: true}, {text: "llama-server=http://x?y", bad: true},
	} {
		o, server, err := Parse(test.text)
		if o.Path != test.path || o.URL != test.url || server != test.server || errors.Is(err, infer.ErrInvalid) != test.bad {
			t.Errorf("%q: %+v, %v, %v", test.text, o, server, err)
		}
	}
}

func load(t *testing.T, e *Engine) *Model {
	t.Helper()
	o := infer.Defaults(gguftest.Write(t, gguftest.Tiny("qwen2")))
	o.Context, o.Threads = 128, 1
	m, err := e.Load(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*Model)
}

// generate returns ids and text of a greedy generation behind three tokens.
func generate(t *testing.T, m *Model, s infer.Sampling) (all []infer.Token, text string, stats infer.GenStats, err error) {
	t.Helper()
	stats, err = m.Generate(t.Context(), []int32{50, 51, 52}, s, func(token infer.Token) error {
		all, text = append(all, token), text+token.Text
		return nil
	})
	return all, text, stats, err
}

// TestRunes streams a text whose tokens are bytes, of which the server's events leave some out.
func TestRunes(t *testing.T) {
	const want = "a é 世界 😀b"
	var lines []string
	e := newTestEngine(t, Options{Report: func(line string) { lines = append(lines, line) }}, "LATHE_TEST_SERVER_SAYS="+want+"</s>")
	m := load(t, e)
	all, text, stats, err := generate(t, m, infer.Sampling{})
	if err != nil || text != want || stats.Stop != infer.StopEnd || stats.Tokens != len(want) || len(all) != len(want)+1 {
		t.Fatalf("%q of %d tokens, %+v, %v", text, len(all), stats, err)
	}
	var ids []int32
	for _, token := range all {
		ids = append(ids, token.ID)
	}
	if spelled, err := m.Detokenize(t.Context(), ids); err != nil || spelled != want+"</s>" || !all[len(all)-1].Control {
		t.Errorf("the tokens spell %q, %v", spelled, err)
	}
	if len(lines) != 0 {
		t.Errorf("without log-probabilities: %q", lines)
	}
	all, text, _, err = generate(t, m, infer.Sampling{LogProbs: true, TopLogProbs: 2})
	if err != nil || text != want {
		t.Fatalf("%q, %v", text, err)
	}
	for i, token := range all {
		if token.ID != ids[i] || len(token.Top) != 2 || !(token.LogProb < 0) {
			t.Errorf("token %d: %+v", i, token)
		}
	}
	if len(lines) != 1 || !strings.Contains(lines[0], "computes no log-probabilities of given tokens") {
		t.Errorf("reported %q", lines)
	}
	for stop, want := range map[string]string{"世": "a é ", "é 世": "a ", "</s>": want} {
		_, text, stats, err := generate(t, m, infer.Sampling{Stop: []string{stop}})
		if err != nil || text != want || stats.Stop != infer.StopString {
			t.Errorf("stop %q: %q, %+v, %v", stop, text, stats, err)
		}
	}
	if _, text, stats, err := generate(t, m, infer.Sampling{Stop: []string{"a é 世界?"}, MaxTokens: 4}); err != nil || text != "a é" || stats.Stop != infer.StopLength {
		t.Errorf("text held back for a stop string: %q, %+v, %v", text, stats, err)
	}
}

// TestFaults generates while the server fails in the first generation, and once more.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		fault, want string
		is          error
	}{
		{"crash", "exit status 3: load_tensors: offloaded 3/4 layers to GPU | ggml_cuda: out of memory (log: ", infer.ErrEngineCrashed},
		{"token", "/completion, field tokens: token 1073741824 of a vocabulary of", nil},
		{"type", "/completion, field tokens: a JSON string", nil},
		{"noids", "field tokens", nil},
		{"count", "field tokens_predicted: -4 after 2", nil},
		{"json", "/completion: unexpected end of JSON input", nil},
		{"long", "an event longer than", nil},
		{"error", "the device is lost", nil},
	} {
		t.Run(test.fault, func(t *testing.T) {
			m := load(t, newTestEngine(t, Options{}, faultEnv+"="+test.fault))
			_, _, stats, err := generate(t, m, infer.Sampling{MaxTokens: 5})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if stats.Stop != infer.StopAborted || stats.Tokens != 2 {
				t.Errorf("%+v", stats)
			}
			if test.fault == "crash" { // a new server crashes in its first generation again
				return
			}
			if _, _, stats, err := generate(t, m, infer.Sampling{MaxTokens: 5}); err != nil || stats.Tokens != 5 {
				t.Errorf("after it: %+v, %v", stats, err)
			}
		})
	}
}

// TestLies: replies that are well formed and cannot be true are errors.
func TestLies(t *testing.T) {
	for _, test := range []struct {
		fault, want string
		is          error
	}{
		{"endless", "/completion, field tokens_predicted: 6 tokens, at most 5 were asked for", nil},
		{"certain", "field completion_probabilities.logprob: 0.5 of token", nil},
		{"null", "", infer.ErrNotFinite},
		{"others", "field completion_probabilities: nothing about token", nil},
		{"tops", "field completion_probabilities.top_logprobs.id: token -1 of a vocabulary of", nil},
		{"reason", `field stop_type: "tired"`, nil},
	} {
		_, _, stats, err := generate(t, load(t, newTestEngine(t, Options{}, faultEnv+"="+test.fault)), infer.Sampling{MaxTokens: 5, TopLogProbs: 2})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s: error %v, want %q", test.fault, err, test.want)
		}
		if stats.Stop != infer.StopAborted {
			t.Errorf("%s: %+v", test.fault, stats)
		}
	}
	for fault, want := range map[string]string{
		"instant": "field timings: 16 prompt tokens in 0 ms", "backwards": "field timings: 16 prompt tokens in -1 ms", "busy": "field timings: 1048576 prompt tokens",
	} {
		m := load(t, newTestEngine(t, Options{}, faultEnv+"="+fault))
		if r, err := m.Bench(t.Context(), infer.BenchOptions{Prompt: []int{16}, Repeats: 1}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", fault, r.Rows, err, want)
		}
		if r, err := m.Bench(t.Context(), infer.BenchOptions{Gen: []int{4}, Repeats: 1}); err == nil || !strings.Contains(err.Error(), "field timings: ") {
			t.Errorf("%s: %+v, %v", fault, r.Rows, err)
		}
	}
}

func TestRestart(t *testing.T) {
	m := load(t, newTestEngine(t, Options{}))
	want, _, _, err := generate(t, m, infer.Sampling{MaxTokens: 5})
	if err != nil || m.Info().GPULayers != 3 || m.Info().Placement != "3 of 4 layers on GPUs" {
		t.Fatalf("%+v, %v", m.Info(), err)
	}
	first := m.server
	stats, err := m.Generate(t.Context(), []int32{50, 51, 52}, infer.Sampling{}, func(infer.Token) error {
		if err := first.cmd.Process.Kill(); !errors.Is(err, os.ErrProcessDone) { // at a later token
			return err
		}
		return nil
	})
	if !errors.Is(err, infer.ErrEngineCrashed) && stats.Stop != infer.StopContext {
		t.Errorf("a killed server: %+v, %v", stats, err)
	}
	<-first.ended
	got, _, _, err := generate(t, m, infer.Sampling{MaxTokens: 5})
	same := func(a, b infer.Token) bool { return a.ID == b.ID }
	if err != nil || !slices.EqualFunc(got, want, same) || m.server == first {
		t.Errorf("after a restart: %v, %v, before %v", got, err, want)
	}
	running := m.server
	if err := m.Close(); err != nil || running.alive() {
		t.Errorf("Close: %v, the server runs: %v", err, running.alive())
	}
	if _, err := os.Stat(running.logPath); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the log of a closed server: %v", err)
	}
}

// TestClosedConnections: a request on a connection that the server closes after the one before is sent again.
func TestClosedConnections(t *testing.T) {
	var mu sync.Mutex
	used, closed := map[string]bool{}, 0
	at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		again := used[r.RemoteAddr]
		used[r.RemoteAddr] = true
		if again {
			closed++
		}
		mu.Unlock()
		if again {
			if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
				c.Close()
			}
			return
		}
		io.WriteString(w, `{"content": "x"}`)
	}))
	defer at.Close()
	c := newClient(at.URL, "")
	var reply struct{ Content string }
	for i := range 4 {
		if err := c.post(t.Context(), "/x", map[string]int{"n": i}, &reply); err != nil || reply.Content != "x" {
			t.Errorf("request %d: %+v, %v", i, reply, err)
		}
	}
	if closed == 0 {
		t.Error("no connection was used twice")
	}
}

// TestSilence aborts a generation of which nothing arrives any more.
func TestSilence(t *testing.T) {
	m := load(t, newTestEngine(t, Options{}, faultEnv+"=silent"))
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	stats, err := m.Generate(ctx, []int32{50, 51, 52}, infer.Sampling{}, func(infer.Token) error {
		if n++; n == 2 {
			time.AfterFunc(time.Millisecond, cancel)
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || stats.Tokens != 2 {
		t.Errorf("%+v, %v", stats, err)
	}
	if _, _, stats, err := generate(t, m, infer.Sampling{MaxTokens: 5}); err != nil || stats.Tokens != 5 {
		t.Errorf("after it: %+v, %v", stats, err)
	}
}

func TestStart(t *testing.T) {
	path := gguftest.Write(t, gguftest.Tiny("qwen2"))
	for _, test := range []struct {
		fault, want string
		is          error
	}{
		{"exit", "exit status 1: error: unknown model architecture: 'later'", infer.ErrEngineCrashed},
		{"hang", "the server has not loaded the model in 100ms", nil},
		{"open", "answers requests without its key", nil},
		{"props", "/props, field default_generation_settings.n_ctx: a JSON string", nil},
	} {
		o := Options{}
		if test.fault == "hang" {
			o.StartTimeout = 100 * time.Millisecond
		}
		_, err := newTestEngine(t, o, faultEnv+"="+test.fault).Load(t.Context(), infer.Defaults(path), nil)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s: error %v, want %q", test.fault, err, test.want)
		}
	}
	e := New(Options{Path: t.TempDir() + "/none"})
	if _, err := e.Load(t.Context(), infer.Defaults(path), nil); !errors.Is(err, infer.ErrUnavailable) {
		t.Errorf("a program that does not exist: %v", err)
	}
}

// TestURL uses a server that runs.
func TestURL(t *testing.T) {
	path := gguftest.Write(t, gguftest.Tiny("qwen2"))
	running := &fakeServer{key: "secret", n: 64}
	if err := running.vocab.read(path, &running.info); err != nil {
		t.Fatal(err)
	}
	running.info.Hidden = 64
	at := httptest.NewServer(running)
	defer at.Close()
	open := func(key, path string, context int) (infer.Model, error) {
		o := infer.Defaults(path)
		o.Context = context
		return newTestEngine(t, Options{URL: at.URL, Key: key}).Load(t.Context(), o, nil)
	}
	info, err := open("secret", path, 0)
	if err == nil {
		running.info.Hidden = info.Info().Hidden
	}
	m, err := open("secret", path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if i := m.Info(); i.Context != 64 || !strings.Contains(i.Engine, at.URL+" b7-test") {
		t.Errorf("%+v", i)
	}
	if _, _, stats, err := generate(t, m.(*Model), infer.Sampling{MaxTokens: 5}); err != nil || stats.Tokens != 5 {
		t.Errorf("%+v, %v", stats, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := open("other", path, 0); err == nil || !strings.Contains(err.Error(), "refuses the key: Invalid API Key") {
		t.Errorf("another key: %v", err)
	}
	if _, err := open("secret", path, 65); !errors.Is(err, infer.ErrInvalid) {
		t.Errorf("a longer context: %v", err)
	}
	smaller := gguftest.Tiny("qwen2")
	smaller.Layers = smaller.Layers[:1]
	if _, err := open("secret", gguftest.Write(t, smaller), 0); !errors.Is(err, infer.ErrBadModel) {
		t.Errorf("another model: %v", err)
	}
	at.Close()
	if _, err := open("secret", path, 0); !errors.Is(err, infer.ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
}
