package openai

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

// serve starts a server on a fake model.
func serve(t *testing.T, o Options, f fake.Options) (*httptest.Server, infer.Model) {
	t.Helper()
	e := fake.New(f)
	m, err := e.Load(t.Context(), infer.Defaults("toy.gguf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(New(m, o))
	t.Cleanup(func() { s.Close(); e.Close() })
	return s, m
}

// call makes a request and decodes its answer into a map.
func call(t *testing.T, s *httptest.Server, method, path, body string, header ...string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	response, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(response.Body).Decode(&out); err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return response.StatusCode, out
}

// at follows keys and indices into decoded JSON.
func at(t *testing.T, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch key := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				t.Fatalf("%v of %v", path, v)
			}
			v = m[key]
		case int:
			l, ok := v.([]any)
			if !ok || key >= len(l) {
				t.Fatalf("%v of %v", path, v)
			}
			v = l[key]
		}
	}
	return v
}

func TestModels(t *testing.T) {
	s, _ := serve(t, Options{Name: "org/toy"}, fake.Options{})
	status, list := call(t, s, "GET", "/v1/models", "")
	if status != 200 || at(t, list, "data", 0, "id") != "org/toy" || at(t, list, "object") != "list" {
		t.Errorf("%d %v", status, list)
	}
	if status, one := call(t, s, "GET", "/v1/models/org/toy", ""); status != 200 || at(t, one, "id") != "org/toy" {
		t.Errorf("%d %v", status, one)
	}
	if status, none := call(t, s, "GET", "/v1/models/other", ""); status != 404 || at(t, none, "error", "code") != "model_not_found" {
		t.Errorf("%d %v", status, none)
	}
	if status, h := call(t, s, "GET", "/health", ""); status != 200 || at(t, h, "status") != "ok" || at(t, h, "waiting") != 0.0 {
		t.Errorf("%d %v", status, h)
	}
}

func TestCompletion(t *testing.T) {
	s, m := serve(t, Options{}, fake.Options{})
	status, got := call(t, s, "POST", "/v1/completions", `{"model":"toy.gguf","prompt":"A model is a t","max_tokens":50,"temperature":0,"stop":","}`)
	if status != 200 || at(t, got, "choices", 0, "text") != "ool" || at(t, got, "choices", 0, "finish_reason") != "stop" ||
		at(t, got, "usage", "prompt_tokens") != 14.0 || at(t, got, "usage", "completion_tokens") != 4.0 || at(t, got, "choices", 0, "logprobs") != nil {
		t.Errorf("%d %v", status, got)
	}
	ids, err := m.Tokenize(t.Context(), "A model is a t", false)
	if err != nil {
		t.Fatal(err)
	}
	asTokens, _ := json.Marshal(ids)
	_, got = call(t, s, "POST", "/v1/completions", `{"prompt":[`+string(asTokens)+`,[65]],"max_tokens":3,"temperature":0}`)
	if at(t, got, "choices", 0, "text") != "ool" || at(t, got, "choices", 0, "finish_reason") != "length" || at(t, got, "choices", 1, "index") != 1.0 {
		t.Errorf("prompts of tokens: %v", got)
	}
	_, got = call(t, s, "POST", "/v1/completions", `{"prompt":["A model is a t"]}`)
	if n := at(t, got, "usage", "completion_tokens"); n.(float64) > defaultMaxTokens {
		t.Errorf("%v tokens by default", n)
	}
	// Equal seeds give equal text.
	body := `{"prompt":"The","max_tokens":20,"temperature":1.5,"seed":-5}`
	_, one := call(t, s, "POST", "/v1/completions", body)
	_, two := call(t, s, "POST", "/v1/completions", body)
	if at(t, one, "choices", 0, "text") != at(t, two, "choices", 0, "text") {
		t.Error("equal seeds differ")
	}
}

// TestEcho requests the log-probabilities of a prompt as lm-evaluation-harness does.
func TestEcho(t *testing.T) {
	s, m := serve(t, Options{}, fake.Options{})
	const prompt = "A tool holds."
	_, got := call(t, s, "POST", "/v1/completions", `{"prompt":"`+prompt+`","max_tokens":1,"temperature":0,"logprobs":1,"echo":true}`)
	ids, _ := m.Tokenize(t.Context(), prompt, false)
	nll, err := m.Score(t.Context(), [][]int32{ids}, nil)
	if err != nil {
		t.Fatal(err)
	}
	probs := at(t, got, "choices", 0, "logprobs")
	if n := len(at(t, probs, "token_logprobs").([]any)); n != len(ids)+1 {
		t.Fatalf("%d log-probabilities, want those of %d tokens and one more", n, len(ids))
	}
	if at(t, probs, "token_logprobs", 0) != nil || at(t, probs, "top_logprobs", 0) != nil {
		t.Error("the first token has a log-probability")
	}
	for i, want := range nll[0] {
		if own := at(t, probs, "token_logprobs", i+1).(float64); math.Abs(own+float64(want)) > 1e-6 {
			t.Errorf("token %d: %v, want %v", i+1, own, -want)
		}
		piece := at(t, probs, "tokens", i+1).(string)
		top := at(t, probs, "top_logprobs", i+1).(map[string]any)
		if piece != prompt[i+1:i+2] || top[piece] != at(t, probs, "token_logprobs", i+1) || len(top) > 2 || at(t, probs, "text_offset", i+1) != float64(i+1) {
			t.Errorf("token %d: %q among %v", i+1, piece, top)
		}
	}
	if text := at(t, got, "choices", 0, "text").(string); !strings.HasPrefix(text, prompt) || len(text) != len(prompt)+1 {
		t.Errorf("text %q", text)
	}
	_, got = call(t, s, "POST", "/v1/completions", `{"prompt":"`+prompt+`","max_tokens":0,"echo":true}`)
	if at(t, got, "choices", 0, "text") != prompt || at(t, got, "choices", 0, "logprobs") != nil {
		t.Errorf("echo alone: %v", got)
	}
}

func TestChat(t *testing.T) {
	s, m := serve(t, Options{}, fake.Options{Text: "<hi>assistant\nA good day to you.", Fail: nil})
	body := `{"messages":[{"role":"developer","content":"x"},{"role":"user","content":[{"type":"text","text":"Hel"},{"type":"text","text":"lo"}]}],
		"max_completion_tokens":30,"temperature":0,"logprobs":true,"top_logprobs":2}`
	status, got := call(t, s, "POST", "/v1/chat/completions", body)
	if status != 200 {
		t.Fatalf("%d %v", status, got)
	}
	message := at(t, got, "choices", 0, "message")
	if at(t, message, "role") != "assistant" || !strings.HasPrefix("A good day to you.", at(t, message, "content").(string)) {
		t.Errorf("message %v", message)
	}
	first := at(t, got, "choices", 0, "logprobs", "content", 0)
	if at(t, first, "token") != "A" || at(t, first, "bytes", 0) != 65.0 || len(at(t, first, "top_logprobs").([]any)) != 2 ||
		at(t, first, "top_logprobs", 0, "logprob") != at(t, first, "logprob") {
		t.Errorf("first token %v", first)
	}
	prompt, err := m.Prompt(t.Context(), []infer.Message{{Role: "system", Content: "x"}, {Role: "user", Content: "Hello"}})
	if err != nil {
		t.Fatal(err)
	}
	if at(t, got, "usage", "prompt_tokens") != float64(len(prompt.Tokens)) {
		t.Errorf("usage %v, want %d prompt tokens", at(t, got, "usage"), len(prompt.Tokens))
	}
}

// eventually waits for a condition that nothing reports.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("still waiting for %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// events reads a stream to its end.
func events(t *testing.T, body io.Reader) (data []map[string]any, comments []string, done bool) {
	t.Helper()
	scan := bufio.NewScanner(body)
	for scan.Scan() {
		line := scan.Text()
		switch text, isData := strings.CutPrefix(line, "data: "); {
		case isData && text == "[DONE]":
			done = true
		case isData:
			var v map[string]any
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				t.Fatal(err)
			}
			data = append(data, v)
		case strings.HasPrefix(line, ":"):
			comments = append(comments, line)
		case line != "":
			t.Errorf("line %q", line)
		}
	}
	return data, comments, done
}

func post(ctx context.Context, t *testing.T, s *httptest.Server, path, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	response, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func TestStream(t *testing.T) {
	s, _ := serve(t, Options{}, fake.Options{})
	for _, tt := range []struct {
		path, body string
		text       func(event map[string]any) string
	}{
		{"/v1/completions", `{"prompt":"A model is a t","max_tokens":6,"temperature":0,"logprobs":0,`,
			func(e map[string]any) string { return at(t, e, "choices", 0, "text").(string) }},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"A model is a t"}],"max_tokens":6,"temperature":0,`,
			func(e map[string]any) string { return at(t, e, "choices", 0, "delta", "content").(string) }},
	} {
		response := post(t.Context(), t, s, tt.path, tt.body+`"stream":true,"stream_options":{"include_usage":true}}`)
		if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != "text/event-stream; charset=utf-8" {
			t.Fatalf("%s: %d %s", tt.path, response.StatusCode, kind)
		}
		data, _, done := events(t, response.Body)
		if !done || len(data) < 3 {
			t.Fatalf("%s: %d events, ended %v", tt.path, len(data), done)
		}
		var text strings.Builder
		for _, e := range data[:len(data)-1] {
			text.WriteString(tt.text(e))
			if at(t, e, "usage") != nil {
				t.Errorf("%s: usage in the middle", tt.path)
			}
		}
		_, whole := call(t, s, "POST", tt.path, strings.TrimSuffix(tt.body, ",")+"}")
		want := at(t, whole, "choices", 0, "text")
		if want == nil {
			want = at(t, whole, "choices", 0, "message", "content")
		}
		if text.String() != want {
			t.Errorf("%s: streamed %q, whole %q", tt.path, text.String(), want)
		}
		last := data[len(data)-1]
		if len(at(t, last, "choices").([]any)) != 0 || at(t, last, "usage", "total_tokens") != at(t, whole, "usage", "total_tokens") {
			t.Errorf("%s: last event %v", tt.path, last)
		}
		if reason := at(t, data[len(data)-2], "choices", 0, "finish_reason"); reason != at(t, whole, "choices", 0, "finish_reason") {
			t.Errorf("%s: ended for %v", tt.path, reason)
		}
	}
}

func TestRefusals(t *testing.T) {
	s, _ := serve(t, Options{}, fake.Options{})
	long := `"` + strings.Repeat("x", 5000) + `"`
	tests := []struct {
		path, body string
		status     int
		text       string
	}{
		{"/v1/completions", `{`, 400, "JSON"},
		{"/v1/completions", `{}`, 400, "prompt"},
		{"/v1/completions", `{"prompt":""}`, 400, "empty"},
		{"/v1/completions", `{"prompt":[]}`, 400, "prompt"},
		{"/v1/completions", `{"prompt":{"a":1}}`, 400, "prompt"},
		{"/v1/completions", `{"prompt":[1.5]}`, 400, "prompt"},
		{"/v1/completions", `{"prompt":[[-1]]}`, 400, "vocabulary"},
		{"/v1/completions", `{"prompt":` + long + `}`, 400, "context"},
		{"/v1/completions", `{"prompt":"x","model":"gpt-4"}`, 404, "toy.gguf"},
		{"/v1/completions", `{"prompt":"x","n":2}`, 400, "n must"},
		{"/v1/completions", `{"prompt":"x","best_of":2}`, 400, "best_of"},
		{"/v1/completions", `{"prompt":"x","suffix":"y"}`, 400, "suffix"},
		{"/v1/completions", `{"prompt":"x","logprobs":21}`, 400, "logprobs"},
		{"/v1/completions", `{"prompt":"x","temperature":-1}`, 400, "temperature"},
		{"/v1/completions", `{"prompt":"x","top_p":2}`, 400, "top_p"},
		{"/v1/completions", `{"prompt":"x","max_tokens":-1}`, 400, "max_tokens"},
		{"/v1/completions", `{"prompt":"x","frequency_penalty":0.5}`, 400, "penalty"},
		{"/v1/completions", `{"prompt":"x","logit_bias":{"1":5}}`, 400, "logit_bias"},
		{"/v1/completions", `{"prompt":["x","y"],"stream":true}`, 400, "streamed"},
		{"/v1/completions", `{"prompt":"x","stop":[` + strings.TrimSuffix(strings.Repeat(`"a",`, 17), ",") + `]}`, 400, "stop"},
		{"/v1/chat/completions", `{"messages":[]}`, 400, "messages"},
		{"/v1/chat/completions", `{"messages":[{"role":"function","content":"x"}]}`, 400, "role"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "image_url"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":7}]}`, 400, "content"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}]}`, 400, "tools are not supported for this model"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search"}]}`, 400, "web_search"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"tool_choice":"required"}`, 400, "tool_choice must be auto or none"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"function"}}`, 400, "tool_choice must be auto or none"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"parallel_tool_calls":false}`, 400, "parallel_tool_calls must be true"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"functions":[{}]}`, 400, "tools are"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"}}`, 400, "json_object"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"top_logprobs":2}`, 400, "logprobs"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"max_tokens":0}`, 400, "max_tokens"},
		{"/v1/embeddings", `{}`, 404, "embeddings"},
		{"/v1/completions", `{"prompt":"` + strings.Repeat("x", maxBody) + `"}`, 413, "16 MiB"},
	}
	for _, tt := range tests {
		status, got := call(t, s, "POST", tt.path, tt.body)
		message, _ := at(t, got, "error", "message").(string)
		if status != tt.status || !strings.Contains(message, tt.text) {
			t.Errorf("%s %.80s: %d %q, want %d with %q", tt.path, tt.body, status, message, tt.status, tt.text)
		}
	}
	status, _ := call(t, s, "POST", "/v1/completions", `{"prompt":"x"}`, "Content-Type", "text/plain")
	if status != http.StatusUnsupportedMediaType {
		t.Errorf("text that is not declared as JSON: %d", status)
	}
	// Unsupported fields with values that change nothing are accepted.
	status, got := call(t, s, "POST", "/v1/completions", `{"prompt":"x","n":1,"stop":null,"logit_bias":{},"presence_penalty":0,"user":"me","max_tokens":1}`)
	if status != 200 {
		t.Errorf("%d %v", status, got)
	}
}

// FuzzRequests: any body yields an answer or an error in the interface's form.
func FuzzRequests(f *testing.F) {
	f.Add(true, `{"messages":[{"role":"user","content":"x"}],"max_tokens":2,"logprobs":true,"stop":["a"]}`)
	f.Add(false, `{"prompt":[1,2],"max_tokens":2,"logprobs":3,"echo":true}`)
	f.Add(false, `{"prompt":"x","stream":true,"max_tokens":1}`)
	f.Add(true, `{"messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":[1]}"}}]},`+
		`{"role":"tool","tool_call_id":"1","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"documents":[{"a":1}],"max_tokens":2}`)
	e := fake.New(fake.Options{Template: "<tool_call> tools"})
	defer e.Close()
	m, err := e.Load(context.Background(), infer.Defaults("toy.gguf"), nil)
	if err != nil {
		f.Fatal(err)
	}
	h := New(m, Options{})
	f.Fuzz(func(t *testing.T, chat bool, body string) {
		path := "/v1/completions"
		if chat {
			path = "/v1/chat/completions"
		}
		r := httptest.NewRequest(http.MethodPost, "http://localhost"+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
			return
		}
		var v map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatalf("%d %q: %v", w.Code, w.Body, err)
		}
		if (w.Code == 200) != (v["error"] == nil) || w.Code >= 500 {
			t.Errorf("%d %v", w.Code, v)
		}
	})
}
