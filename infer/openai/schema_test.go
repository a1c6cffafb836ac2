package openai

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

// The rules of the published schema for requests: what is not allowed in a field, and the words for what is. Every field may be
// left out or null but those that are required.
var requestRules = []struct {
	path, field, must string
	wrong             []string
}{
	{"chat", "messages", "an array of messages", []string{`"x"`, `{}`, `5`}},
	{"chat", "messages[0]", "an object", []string{`"x"`, `5`, `[]`, `null`}},
	{"chat", "messages[0].role", "a string", []string{`5`, `null`, `[]`}},
	{"chat", "messages[0].content", "a string or an array of parts", []string{`5`, `true`, `{}`, `null`}},
	{"chat", "messages[0].content[0]", "an object", []string{`"x"`, `5`}},
	{"chat", "messages[0].content[0].type", "a string", []string{`5`, `null`}},
	{"chat", "messages[0].content[0].text", "a string", []string{`5`, `null`, `[]`}},
	{"chat", "max_completion_tokens", "an integer", []string{`"5"`, `1.5`, `[]`}},
	{"chat", "logprobs", "a boolean", []string{`1`, `"true"`}},
	{"chat", "top_logprobs", "an integer", []string{`"1"`, `1.5`, `true`}},
	{"chat", "response_format", "an object", []string{`"text"`, `5`}},
	{"chat", "response_format.type", "a string", []string{`5`}},
	{"chat", "tools", "an array of tools", []string{`"x"`, `{}`, `5`}},
	{"chat", "tools[0]", "an object", []string{`"x"`, `5`, `null`}},
	{"chat", "tools[0].type", "a string", []string{`5`, `null`}},
	{"chat", "tools[0].function", "an object", []string{`5`, `"x"`, `null`}},
	{"chat", "tools[0].function.name", "a string", []string{`5`, `null`}},
	{"chat", "parallel_tool_calls", "a boolean", []string{`1`, `"x"`}},
	{"chat", "documents", "an array of objects", []string{`5`, `{}`}},
	{"chat", "messages[0].tool_call_id", "a string", []string{`5`}},
	{"chat", "messages[0].tool_calls", "an array of tool calls", []string{`5`, `{}`}},
	{"chat", "messages[0].tool_calls[0].function.arguments", "a JSON object", []string{`"x"`, `"[]"`, `"{"`}},
	{"text", "parse_special", "a boolean", []string{`1`}},
	{"text", "prompt", "a string, an array of strings, an array of tokens or an array of arrays of tokens", []string{`5`, `{}`, `[true]`, `["a",5]`, `[[1],"a"]`, `[1.5]`}},
	{"text", "logprobs", "an integer", []string{`true`, `"1"`}},
	{"text", "echo", "a boolean", []string{`1`, `"x"`}},
	{"text", "suffix", "a string", []string{`1`}},
	{"text", "best_of", "an integer", []string{`"1"`, `1.5`}},
	{"both", "model", "a string", []string{`5`, `[]`}},
	{"both", "max_tokens", "an integer", []string{`"5"`, `1.5`, `true`}},
	{"both", "temperature", "a number", []string{`"1"`, `[]`, `true`}},
	{"both", "top_p", "a number", []string{`"1"`}},
	{"both", "seed", "an integer", []string{`"1"`, `1.5`}},
	{"both", "n", "an integer", []string{`"1"`}},
	{"both", "stop", "a string or an array of strings", []string{`5`, `[5]`, `{}`, `true`}},
	{"both", "stream", "a boolean", []string{`"yes"`, `1`}},
	{"both", "stream_options", "an object", []string{`true`, `"x"`}},
	{"both", "stream_options.include_usage", "a boolean", []string{`1`}},
	{"both", "presence_penalty", "a number", []string{`"1"`}},
	{"both", "frequency_penalty", "a number", []string{`"1"`}},
}

// TestRequestSchema: what the schema does not allow is an error in its words, which names the field, and has nothing of Go.
func TestRequestSchema(t *testing.T) {
	s, _ := serve(t, Options{}, fake.Options{})
	for _, rule := range requestRules {
		for kind, path := range map[string]string{"chat": "/v1/chat/completions", "text": "/v1/completions"} {
			if rule.path != kind && rule.path != "both" {
				continue
			}
			for _, value := range rule.wrong {
				body := requestBody(kind, rule.field, value)
				status, got := call(t, s, "POST", path, body)
				want := rule.field + " must be " + rule.must
				if status != 400 || at(t, got, "error", "message") != want || at(t, got, "error", "param") != rule.field || at(t, got, "error", "type") != "invalid_request_error" {
					t.Errorf("%s: %d %v, want %q", body, status, got, want)
				}
			}
		}
	}
	for _, body := range []string{`[]`, `5`, `"x"`, `{`, ``, `{"messages":[{"role":"user"`, "\x00"} {
		status, got := call(t, s, "POST", "/v1/chat/completions", body)
		message, _ := at(t, got, "error", "message").(string)
		if status != 400 || !strings.HasPrefix(message, "the body ") || strings.Contains(message, "Go ") || strings.Contains(message, "openai") {
			t.Errorf("%q: %d %q", body, status, message)
		}
	}
}

// requestBody returns a valid request but for one field.
func requestBody(kind, field, value string) string {
	switch {
	case kind == "chat" && strings.HasPrefix(field, "messages"):
		for path, form := range map[string]string{
			"messages": `{"messages":%s}`, "messages[0]": `{"messages":[%s]}`,
			"messages[0].role":                             `{"messages":[{"role":%s,"content":"x"}]}`,
			"messages[0].content":                          `{"messages":[{"role":"user","content":%s}]}`,
			"messages[0].content[0]":                       `{"messages":[{"role":"user","content":[%s]}]}`,
			"messages[0].content[0].type":                  `{"messages":[{"role":"user","content":[{"type":%s,"text":"x"}]}]}`,
			"messages[0].content[0].text":                  `{"messages":[{"role":"user","content":[{"type":"text","text":%s}]}]}`,
			"messages[0].tool_call_id":                     `{"messages":[{"role":"tool","content":"x","tool_call_id":%s}]}`,
			"messages[0].tool_calls":                       `{"messages":[{"role":"assistant","tool_calls":%s}]}`,
			"messages[0].tool_calls[0].function.arguments": `{"messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":%s}}]}]}`,
		} {
			if path == field {
				return fmt.Sprintf(form, value)
			}
		}
	case strings.HasPrefix(field, "tools["):
		form := map[string]string{
			"tools[0]": `%s`, "tools[0].type": `{"type":%s}`, "tools[0].function": `{"type":"function","function":%s}`, "tools[0].function.name": `{"type":"function","function":{"name":%s}}`,
		}[field]
		return `{"messages":[{"role":"user","content":"x"}],"tools":[` + fmt.Sprintf(form, value) + `]}`
	case field == "prompt":
		return `{"prompt":` + value + `}`
	}
	if outer, inner, ok := strings.Cut(field, "."); ok {
		field, value = outer, `{"`+inner+`":`+value+`}`
	}
	if kind == "chat" {
		return `{"messages":[{"role":"user","content":"x"}],"` + field + `":` + value + `}`
	}
	return `{"prompt":"x","` + field + `":` + value + `}`
}

// shape is a rule of the schema for an answer: the required fields of an object with their types, where "?" allows null, or the
// items of a list.
type shape map[string]any

// The rules of the published schema for answers.
var (
	topRule     = shape{"token": "string", "logprob": "number", "bytes": []any{"number"}}
	probRule    = shape{"token": "string", "logprob": "number", "bytes": []any{"number"}, "top_logprobs": []any{topRule}}
	usageRule   = shape{"prompt_tokens": "number", "completion_tokens": "number", "total_tokens": "number"}
	messageRule = shape{"role": "string", "content": "string", "refusal": "null"}
	chatRule    = shape{
		"id": "string", "object": "chat.completion", "created": "number", "model": "string", "usage": usageRule,
		"choices": []any{shape{"index": "number", "finish_reason": "string", "message": messageRule, "logprobs": shape{"content": []any{probRule}, "refusal": "null"}}},
	}
	chunkRule = shape{
		"id": "string", "object": "chat.completion.chunk", "created": "number", "model": "string",
		"choices": []any{shape{"index": "number", "finish_reason": "string?", "delta": shape{}}},
	}
	textRule = shape{
		"id": "string", "object": "text_completion", "created": "number", "model": "string", "usage": usageRule,
		"choices": []any{shape{"index": "number", "finish_reason": "string", "text": "string", "logprobs": shape{
			"tokens": []any{"string"}, "token_logprobs": []any{"number?"}, "top_logprobs": []any{"object?"}, "text_offset": []any{"number"},
		}}},
	}
	errorRule = shape{"error": shape{"message": "string", "type": "string", "param": "string?", "code": "string?"}}
)

// against reports where decoded JSON breaks a rule.
func against(at string, rule, v any) []string {
	bad := func(want any) []string { return []string{fmt.Sprintf("%s is %v, want %v", at, v, want)} }
	switch rule := rule.(type) {
	case shape:
		object, ok := v.(map[string]any)
		if !ok {
			return bad("an object")
		}
		var out []string
		for _, field := range slices.Sorted(maps.Keys(rule)) {
			if _, there := object[field]; !there {
				out = append(out, at+"."+field+" is not there")
				continue
			}
			out = append(out, against(at+"."+field, rule[field], object[field])...)
		}
		return out
	case []any:
		list, ok := v.([]any)
		if !ok {
			return bad("an array")
		}
		var out []string
		for i, item := range list {
			out = append(out, against(fmt.Sprintf("%s[%d]", at, i), rule[0], item)...)
		}
		return out
	case string:
		kind := map[bool]string{true: "null"}[v == nil]
		switch v.(type) {
		case string:
			kind = "string"
		case float64:
			kind = "number"
		case map[string]any:
			kind = "object"
		}
		if want := strings.TrimSuffix(rule, "?"); kind != want && v != any(rule) && (v != nil || want == rule) {
			return bad(rule)
		}
	}
	return nil
}

func TestAnswerSchema(t *testing.T) {
	s, _ := serve(t, Options{}, fake.Options{})
	ask := `"messages":[{"role":"user","content":"x"}],"max_tokens":3,"temperature":0`
	for _, tt := range []struct {
		path, body string
		rule       shape
	}{
		{"/v1/chat/completions", `{` + ask + `,"logprobs":true}`, chatRule},
		{"/v1/chat/completions", `{` + ask + `,"logprobs":true,"top_logprobs":2}`, chatRule},
		{"/v1/completions", `{"prompt":"The l","max_tokens":3,"logprobs":2,"echo":true}`, textRule},
		{"/v1/chat/completions", `{"messages":5}`, errorRule},
		{"/v1/chat/completions", `{}`, errorRule},
		{"/v1/completions", `{"model":"other","prompt":"x"}`, errorRule},
	} {
		_, got := call(t, s, "POST", tt.path, tt.body)
		for _, problem := range against("answer", tt.rule, got) {
			t.Errorf("%s: %s", tt.body, problem)
		}
	}
	_, got := call(t, s, "POST", "/v1/chat/completions", `{`+ask+`,"logprobs":true}`)
	if top := at(t, got, "choices", 0, "logprobs", "content", 0, "top_logprobs").([]any); len(top) != 0 {
		t.Errorf("alternatives %v", top)
	}
	data, _, done := events(t, post(t.Context(), t, s, "/v1/chat/completions", `{`+ask+`,"stream":true}`).Body)
	if !done || len(data) == 0 {
		t.Errorf("a stream of %d events", len(data))
	}
	for _, event := range data {
		for _, problem := range against("event", chunkRule, event) {
			t.Error(problem)
		}
	}
}

// TestNotFinite: a model that computes NaN is status 500 with the reason, whatever is asked for.
func TestNotFinite(t *testing.T) {
	s, _ := serve(t, Options{}, fake.Options{Logits: func(_ []int32, logits []float32) { logits[7] = float32(math.NaN()) }})
	for path, bodies := range map[string][]string{
		"/v1/completions": {`{"prompt":"ab"}`, `{"prompt":"ab","logprobs":1}`, `{"prompt":"ab","max_tokens":0,"echo":true,"logprobs":1}`, `{"prompt":"ab","stream":true}`},
		"/v1/chat/completions": {
			`{"messages":[{"role":"user","content":"x"}]}`, `{"messages":[{"role":"user","content":"x"}],"logprobs":true,"top_logprobs":1}`,
		},
	} {
		for _, body := range bodies {
			status, got := call(t, s, "POST", path, body)
			if message, _ := at(t, got, "error", "message").(string); status != 500 || at(t, got, "error", "code") != "not_finite" || !strings.Contains(message, "token 7: logit NaN") {
				t.Errorf("%s: %d %v", body, status, got)
			}
		}
	}
	w := &recorder{header: http.Header{}}
	send(w, http.StatusOK, map[string]any{"x": math.NaN()})
	if w.status != 500 || !strings.Contains(w.body.String(), "NaN") {
		t.Errorf("a number that JSON does not have: %d %q", w.status, w.body.String())
	}
}

type recorder struct {
	header http.Header
	status int
	body   strings.Builder
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// TestControlTokensInCompletions: control tokens of a prompt are names among its tokens, and no part of its text.
func TestControlTokensInCompletions(t *testing.T) {
	s, _ := serve(t, Options{}, fake.Options{})
	_, got := call(t, s, "POST", "/v1/completions", `{"prompt":"<|im_start|>ab","max_tokens":0,"echo":true,"logprobs":0,"parse_special":true}`)
	if text := at(t, got, "choices", 0, "text"); text != "ab" {
		t.Errorf("text %q", text)
	}
	if names := at(t, got, "choices", 0, "logprobs", "tokens").([]any); len(names) != 3 || names[0] != "<|im_start|>" {
		t.Errorf("tokens %v", names)
	}
	if offsets := at(t, got, "choices", 0, "logprobs", "text_offset").([]any); !slices.Equal(offsets, []any{0.0, 0.0, 1.0}) {
		t.Errorf("offsets %v", offsets)
	}
	_, got = call(t, s, "POST", "/v1/completions", `{"prompt":"<|im_end|>","max_tokens":0,"echo":true,"logprobs":0}`)
	if text := at(t, got, "choices", 0, "text"); text != "<|im_end|>" || len(at(t, got, "choices", 0, "logprobs", "tokens").([]any)) != len("<|im_end|>") {
		t.Errorf("what a prompt spells without parse_special: %v", got)
	}
	// Offsets count characters; a token inside a character is at that character.
	_, got = call(t, s, "POST", "/v1/completions", `{"prompt":"aé世b","max_tokens":0,"echo":true,"logprobs":0}`)
	if offsets := at(t, got, "choices", 0, "logprobs", "text_offset").([]any); !slices.Equal(offsets, []any{0.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0}) {
		t.Errorf("offsets %v", offsets)
	}
}

// TestOverlong: more than the context can hold is refused before anything is computed.
func TestOverlong(t *testing.T) {
	s, m := serve(t, Options{}, fake.Options{Gate: func(_ context.Context, step string) error {
		if step != "load" {
			t.Errorf("%s is computed", step)
		}
		return nil
	}, Fail: func(call string) error {
		if call == "tokenize" || call == "prompt" {
			t.Errorf("%s was called", call)
		}
		return nil
	}})
	long := strings.Repeat("x", m.Info().Context*m.Info().LongestToken+1)
	for path, body := range map[string]string{
		"/v1/completions":      `{"prompt":"` + long + `"}`,
		"/v1/chat/completions": `{"messages":[{"role":"user","content":"` + long + `"}]}`,
	} {
		if status, got := call(t, s, "POST", path, body); status != 400 || at(t, got, "error", "code") != "context_length_exceeded" {
			t.Errorf("%s: %d %v", path, status, got)
		}
	}
	if status, got := call(t, s, "POST", "/v1/chat/completions", `{"messages":[`+strings.Repeat(`{},`, 1<<17)+`{}]}`); status != 400 {
		t.Errorf("many messages: %d %v", status, got)
	}
}

// slow starts a request whose body does not arrive.
func slow(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_, err = fmt.Fprintf(c, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSlowBodies: requests whose bodies do not arrive keep no place, and end.
func TestSlowBodies(t *testing.T) {
	e := fake.New(fake.Options{})
	t.Cleanup(func() { e.Close() })
	m, err := e.Load(t.Context(), infer.Defaults("toy.gguf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	h := New(m, Options{MaxWaiting: 4})
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	address := s.Listener.Addr().String()
	started := h.reading.Load()
	for range 8 {
		slow(t, address)
	}
	eventually(t, "eight bodies on their way", func() bool { return h.reading.Load() == started+8 })
	if status, got := call(t, s, "POST", "/v1/completions", `{"prompt":"A","max_tokens":1}`); status != 200 {
		t.Errorf("an honest client: %d %v", status, got)
	}

	impatient := New(m, Options{})
	impatient.grace = time.Millisecond
	s = httptest.NewServer(impatient)
	t.Cleanup(s.Close)
	answer := make([]byte, 1000)
	n, err := slow(t, s.Listener.Addr().String()).Read(answer)
	if err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 408") {
		t.Errorf("a body that does not arrive: %q, %v", answer[:n], err)
	}
}
