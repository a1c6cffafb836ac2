package openai

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

// replies makes a fake model answer with a text, and then end.
func replies(text string) func(past []int32, logits []float32) {
	return func(past []int32, logits []float32) {
		prompt := "<|im_start|>assistant\n"
		var b strings.Builder
		for _, id := range past {
			switch {
			case id < 256:
				b.WriteByte(byte(id))
			case id == 257:
				b.WriteString("<|im_start|>")
			}
		}
		said := b.String()[strings.LastIndex(b.String(), prompt)+len(prompt):]
		next := int32(258) // <|im_end|>
		if len(said) < len(text) {
			next = int32(text[len(said)])
		}
		for i := range logits {
			logits[i] = -1e9
		}
		logits[next] = 0
	}
}

const weather = `"tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}],"temperature":0,"max_tokens":200`

// TestToolCalls: calls in a reply are those of the schema, with the text beside them.
func TestToolCalls(t *testing.T) {
	type want struct {
		text      any
		reason    string
		arguments []string
	}
	const mistral, llama = "tools [TOOL_CALLS]", `tools "parameters" ipython`
	for _, tt := range []struct {
		name, template, reply string
		want                  want
	}{
		{"none", "tools <tool_call>", "Sunny.", want{"Sunny.", "stop", nil}},
		{"one", "tools <tool_call>", "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"b\": 1, \"a\": \"é\"}}\n</tool_call>", want{nil, "tool_calls", []string{`{"b":1,"a":"é"}`}}},
		{"two and a text", "tools <tool_call>", "I ask.\n<tool_call>{\"name\":\"weather\",\"arguments\":{}}</tool_call>\n<tool_call>{\"name\":\"weather\",\"arguments\":{\"a\":2}}</tool_call>", want{"I ask.", "tool_calls", []string{`{}`, `{"a":2}`}}},
		{"without an end", "tools <tool_call>", "<tool_call>{\"name\":\"weather\",\"arguments\":{}}", want{nil, "tool_calls", []string{`{}`}}},
		{"arguments as a text", "tools <tool_call>", `<tool_call>{"name":"weather","arguments":"{\"a\":2}"}</tool_call>`, want{nil, "tool_calls", []string{`{"a":2}`}}},
		{"no JSON", "tools <tool_call>", "<tool_call>weather</tool_call>", want{"<tool_call>weather</tool_call>", "stop", nil}},
		{"another function", "tools <tool_call>", `<tool_call>{"name":"x","arguments":{}}</tool_call>`, want{`<tool_call>{"name":"x","arguments":{}}</tool_call>`, "stop", nil}},
		{"a list", mistral, `[TOOL_CALLS] [{"name": "weather", "arguments": {"a": 1}}, {"name": "weather", "arguments": {}}]`, want{nil, "tool_calls", []string{`{"a":1}`, `{}`}}},
		{"a name", mistral, `[TOOL_CALLS]weather[ARGS]{"a": 1}[TOOL_CALLS]weather[CALL_ID]123456789[ARGS]{}`, want{nil, "tool_calls", []string{`{"a":1}`, `{}`}}},
		{"no list", mistral, `[TOOL_CALLS] [{]`, want{`[TOOL_CALLS] [{]`, "stop", nil}},
		{"the whole reply", llama, `{"name": "weather", "parameters": {"a": 1}}`, want{nil, "tool_calls", []string{`{"a":1}`}}},
		{"several", llama, `<|python_tag|>{"name": "weather", "parameters": {}}; {"name": "weather", "parameters": {"a": 1}}`, want{nil, "tool_calls", []string{`{}`, `{"a":1}`}}},
		{"JSON that is no call", llama, `{"temperature": 5}`, want{`{"temperature": 5}`, "stop", nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := serve(t, Options{}, fake.Options{Template: tt.template, Logits: replies(tt.reply)})
			body := `{"messages":[{"role":"user","content":"x"}],` + weather
			status, got := call(t, s, "POST", "/v1/chat/completions", body+`}`)
			if status != 200 {
				t.Fatalf("%d %v", status, got)
			}
			choice := at(t, got, "choices", 0)
			check := func(where string, content any, reason any, calls any) {
				var arguments []string
				list, _ := calls.([]any)
				for _, c := range list {
					id, _ := at(t, c, "id").(string)
					if at(t, c, "type") != "function" || at(t, c, "function", "name") != "weather" || id == "" {
						t.Errorf("%s: call %v", where, c)
					}
					arguments = append(arguments, at(t, c, "function", "arguments").(string))
				}
				if w := (want{content, reason.(string), arguments}); !reflect.DeepEqual(w, tt.want) {
					t.Errorf("%s: %+v, want %+v", where, w, tt.want)
				}
			}
			check("answer", at(t, choice, "message", "content"), at(t, choice, "finish_reason"), at(t, choice, "message", "tool_calls"))

			data, _, done := events(t, post(t.Context(), t, s, "/v1/chat/completions", body+`,"stream":true}`).Body)
			if !done || len(data) != 2 {
				t.Fatalf("a stream of %d events: %v", len(data), data)
			}
			delta := at(t, data[0], "choices", 0, "delta")
			content := at(t, delta, "content")
			if content == "" {
				content = nil
			}
			check("stream", content, at(t, data[1], "choices", 0, "finish_reason"), at(t, delta, "tool_calls"))
		})
	}
}

// TestToolPrompt: tools, documents, calls and results reach the template; tools do not with tool_choice none.
func TestToolPrompt(t *testing.T) {
	s, m := serve(t, Options{}, fake.Options{Template: "tools <tool_call>"})
	const tool, document = `{"type":"function","function":{"name":"weather","x":[1,{"b":2,"a":1}]}}`, `{"title":"t"}`
	messages := `"messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"weather","arguments":"{\"a\": 1}"}}]},` +
		`{"role":"tool","tool_call_id":"c1","content":"sun"}]`
	history := []infer.Message{
		{Role: infer.User, Content: "x"}, {Role: infer.Assistant, Calls: []infer.ToolCall{{ID: "c1", Name: "weather", Arguments: json.RawMessage(`{"a": 1}`)}}},
		{Role: infer.Tool, CallID: "c1", Content: "sun"},
	}
	for body, c := range map[string]infer.Conversation{
		`{` + messages + `}`:                                                    {Messages: history},
		`{` + messages + `,"tools":[` + tool + `]}`:                             {Messages: history, Tools: []json.RawMessage{json.RawMessage(tool)}},
		`{` + messages + `,"tools":[` + tool + `],"tool_choice":"none"}`:        {Messages: history},
		`{` + messages + `,"tools":[],"documents":[` + document + `]}`:          {Messages: history, Documents: []json.RawMessage{json.RawMessage(document)}},
		`{` + messages + `,"tools":null,"parallel_tool_calls":true,"tools":[]}`: {Messages: history},
	} {
		want, err := m.PromptWith(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		status, got := call(t, s, "POST", "/v1/chat/completions", body[:len(body)-1]+`,"max_tokens":1}`)
		if status != 200 || at(t, got, "usage", "prompt_tokens") != float64(len(want.Tokens)) {
			t.Errorf("%s: %d %v, want %d tokens", body, status, got, len(want.Tokens))
		}
	}
}

// TestFormOf: the form of calls is the one that a template shows.
func TestFormOf(t *testing.T) {
	for template, want := range map[string]callForm{
		"": callsUnknown, "{{ messages }} <tool_call>": callsUnknown, "{{ tools }}": callsUnknown, "{{ tools }}<tool_call>": callsTagged, "{{ tools }}<tool_call><function=": callsUnknown, "{{ tools }}<tool_call>f<arg_key>": callsUnknown,
		"{{ tools }}[TOOL_CALLS]": callsListed, `{{ tools }} "parameters" ipython`: callsBare,
	} {
		if got := formOf(template); got != want {
			t.Errorf("%q: %d, want %d", template, got, want)
		}
	}
	if got := callsListed.marks(); !slices.Contains(got, "[TOOL_CALLS]") {
		t.Errorf("marks %q", got)
	}
}
