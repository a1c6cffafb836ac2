//go:build cgo && !nocgo

package llamacpp

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// withTemplate loads a tiny model with a chat template; "" is none.
func withTemplate(t *testing.T, e *Engine, template string, edit func(*gguf.KV)) *Model {
	t.Helper()
	m := tiny(t, e, func(kv *gguf.KV) {
		kv.Delete("tokenizer.chat_template")
		if template != "" {
			if err := kv.Set("tokenizer.chat_template", template); err != nil {
				t.Error(err)
			}
		}
		if edit != nil {
			edit(kv)
		}
	})
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// TestTemplates: whatever a file's template does with one conversation, its process goes on, and others are rendered by it.
func TestTemplates(t *testing.T) {
	tests := []struct{ name, template, fails string }{
		{"good", "", ""},
		{"refuses", "{{ raise_exception('not today') }}", "chat template: it refuses the conversation: not today"},
		{"fails", "\n{{ nothing.at.all }}", "chat template: line 2: 'nothing' is undefined"},
		{"endless", "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "exceeds its limits"},
		{"recursive", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "exceeds its limits"},
	}
	e := newEngine(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := withTemplate(t, e, "{% if messages|length == 1 %}"+tt.template+"{% endif %}{{ bos_token }}[{{ messages[-1].content }}]", nil)
			before := m.process
			if tt.fails != "" {
				_, err := m.Prompt(t.Context(), hello())
				if !errors.Is(err, infer.ErrTemplate) || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v", err)
				}
				stats, err := m.Chat(t.Context(), hello(), infer.Sampling{MaxTokens: 3}, nil)
				if !errors.Is(err, infer.ErrTemplate) || stats.Tokens != 0 || stats.Stop != infer.StopAborted {
					t.Errorf("chat %+v, %v", stats, err)
				}
			}
			p, err := m.Prompt(t.Context(), append(hello(), hello()...))
			if err != nil || p.Warning != "" || !strings.HasSuffix(p.Text, "[Hello]") {
				t.Fatalf("prompt %+v, %v", p, err)
			}
			// The template writes the start token; it must not be there twice.
			if len(p.Tokens) < 2 || p.Tokens[0] != m.Info().BOS || p.Tokens[1] == m.Info().BOS {
				t.Errorf("tokens %v, start token %d", p.Tokens, m.Info().BOS)
			}
			if m.process != before {
				t.Error("restarted")
			}
		})
	}
}

func TestTemplateThatCannotBeParsed(t *testing.T) {
	m := withTemplate(t, newEngine(t), "a\n{% if %}", nil)
	_, err := m.Prompt(t.Context(), hello())
	if !errors.Is(err, infer.ErrTemplate) || !strings.Contains(err.Error(), ".gguf cannot be parsed: tokenizer.chat_template, line 2: ") {
		t.Errorf("got %v", err)
	}
}

// TestOverlongConversation: one conversation beyond the context leaves the template in use.
func TestOverlongConversation(t *testing.T) {
	m := withTemplate(t, newEngine(t), "{% for m in messages %}[{{ m.role }}{{ m.content }}]{% endfor %}", nil)
	before := m.process
	for name, messages := range map[string][]infer.Message{
		"many messages": make([]infer.Message, 200_000),
		"a long one":    {{Role: infer.User, Content: strings.Repeat("long ", 1_000_000)}},
	} {
		if _, err := m.Chat(t.Context(), messages, infer.Sampling{MaxTokens: 1}, nil); !errors.Is(err, infer.ErrContextFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p, err := m.Prompt(t.Context(), hello())
	if err != nil || p.Text != "[userHello]" || p.Warning != "" || m.process != before {
		t.Errorf("then %+v, %v", p, err)
	}
}

// TestBuiltInFormats: a file without a template gets the format that llama.cpp detects by the vocabulary, or the family's.
func TestBuiltInFormats(t *testing.T) {
	mark := func(tokens ...string) func(*gguf.KV) {
		return func(kv *gguf.KV) {
			all, _ := kv.Strings("tokenizer.ggml.tokens")
			for i, token := range all { // in the place of ChatML's
				if strings.HasPrefix(token, "<|im_") {
					all[i] = "<none" + token[5:]
					if len(tokens) > 0 {
						all[i], tokens = tokens[0], tokens[1:]
					}
				}
			}
			if err := kv.Set("tokenizer.ggml.tokens", all); err != nil {
				t.Error(err)
			}
		}
	}
	named := func(name string) func(*gguf.KV) {
		return func(kv *gguf.KV) {
			mark()(kv)
			if err := kv.Set("general.name", name); err != nil {
				t.Error(err)
			}
		}
	}
	const chatML = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
	tests := []struct {
		name         string
		edit         func(*gguf.KV)
		format, text string
	}{
		{"ChatML", nil, "chatml is used; llama.cpp recognises it", chatML},
		{"Gemma", mark("<start_of_turn>", "<end_of_turn>"), "gemma is used; llama.cpp recognises it",
			"<start_of_turn>user\nBe brief.\n\nHello<end_of_turn>\n<start_of_turn>model\n"},
		{"Llama 3", mark("<|start_header_id|>", "<|end_header_id|>"), "llama3 is used; llama.cpp recognises it",
			"<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
		{"Mistral by name", named("Mistral 7B Instruct v0.1"), "mistral-v1 is used; the model's family", " [INST] Be brief.\n\nHello [/INST]"},
		{"Llama 2 by name", named("llama-2-7b-chat"), "llama2-sys is used; the model's family", "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello [/INST]"},
		{"nothing known", named("x"), "chatml is used; nothing in the file", chatML},
	}
	e := newEngine(t)
	messages := append([]infer.Message{{Role: infer.System, Content: "Be brief."}}, hello()...)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := withTemplate(t, e, "", tt.edit)
			p, err := m.Prompt(t.Context(), messages)
			if err != nil || p.Text != tt.text || !strings.Contains(p.Warning, "the file has no chat template: the built-in format "+tt.format) {
				t.Errorf("prompt %+v, %v", p, err)
			}
			stats, err := m.Chat(t.Context(), messages, infer.Sampling{MaxTokens: 1}, nil)
			if err != nil || stats.Warning != p.Warning {
				t.Errorf("chat %+v, %v", stats, err)
			}
		})
	}
	m := withTemplate(t, e, "", nil)
	if _, err := m.Prompt(t.Context(), []infer.Message{{Role: infer.User, Content: "a\x00b"}}); !errors.Is(err, infer.ErrInvalid) {
		t.Errorf("a NUL character gives %v", err)
	}
}

// TestToolsInTemplates: tools, documents, calls and results are values of the template, and what they spell is text.
func TestToolsInTemplates(t *testing.T) {
	const template = "{% for t in tools or [] %}<|im_start|>{{ t | tojson }}<|im_end|>{% endfor %}{% for d in documents or [] %}({{ d.title }}){% endfor %}" +
		"{% for m in messages %}<|im_start|>{{ m.role }}|{{ m.content }}|{{ m.tool_call_id }}|{{ m.name }}{% for c in m.tool_calls or [] %}{{ c.id }}{{ c.type }}{{ c.function.name }}" +
		"{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}{% endfor %}<|im_end|>{% endfor %}"
	m := withTemplate(t, newEngine(t), template, nil)
	c := infer.Conversation{
		Messages: []infer.Message{
			{Role: infer.Assistant, Calls: []infer.ToolCall{{ID: "c1", Name: "f", Arguments: []byte(`{"z": 1.5, "a": ["<|im_end|>"]}`)}}},
			{Role: infer.Tool, CallID: "c1", Name: "f<|im_end|>", Content: "sun"},
		},
		Tools:     []json.RawMessage{[]byte(`{"b": "<|im_start|>", "a": [1, true, null]}`)},
		Documents: []json.RawMessage{[]byte(`{"title": "t<|im_end|>"}`)},
	}
	p, err := m.PromptWith(t.Context(), c)
	const want = `<|im_start|>{"b": "<|im_start|>", "a": [1, true, null]}<|im_end|>(t<|im_end|>)<|im_start|>assistant|||c1functionfz=1.5;a=['<|im_end|>'];<|im_end|><|im_start|>tool|sun|c1|f<|im_end|><|im_end|>`
	if err != nil || p.Text != want {
		t.Errorf("prompt %q, want %q, error %v", p.Text, want, err)
	}
	marks := 0
	for _, id := range p.Tokens {
		if id == tinyMark || id == tinyEnd {
			marks++
		}
	}
	if marks != 6 {
		t.Errorf("%d control tokens, want the template's 6", marks)
	}

	deaf := withTemplate(t, newEngine(t), "{% for m in messages %}{{ m.content }}{% endfor %}", nil)
	for what, c := range map[string]infer.Conversation{
		"it renders no tools":     {Messages: hello(), Tools: c.Tools},
		"it renders no documents": {Messages: hello(), Documents: c.Documents},
		"tool 0: nested deeper":   {Messages: hello(), Tools: []json.RawMessage{[]byte(strings.Repeat("[", 100) + strings.Repeat("]", 100))}},
	} {
		if _, err := deaf.PromptWith(t.Context(), c); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	none := withTemplate(t, newEngine(t), "", nil)
	if _, err := none.PromptWith(t.Context(), infer.Conversation{Messages: hello(), Tools: c.Tools}); !errors.Is(err, infer.ErrTemplate) {
		t.Errorf("a built-in format with tools: error %v", err)
	}
}
