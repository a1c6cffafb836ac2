//go:build cgo && !nocgo

package llamacpp

import (
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// TestTemplates: whatever a file's template does, the chat works, and Fallback holds the reason for another form.
func TestTemplates(t *testing.T) {
	tests := []struct{ name, template, fallback, restarts string }{
		{"good", "{{ bos_token }}[{{ messages[0].content }}]", "", ""},
		{"refuses", "{{ raise_exception('not today') }}", "not today", ""},
		{"broken", "{% if %}", "cannot be parsed", ""},
		{"endless", "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "does not end", "yes"},
		{"recursive", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "crashed", "yes"},
		{"none", "", "no chat template", ""},
	}
	e := newEngine(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := tiny(t, e, func(kv *gguf.KV) {
				kv.Delete("tokenizer.chat_template")
				if tt.template != "" {
					if err := kv.Set("tokenizer.chat_template", tt.template); err != nil {
						t.Error(err)
					}
				}
			})
			defer m.Close()
			before := m.process
			p, err := m.Prompt(t.Context(), hello())
			if err != nil {
				t.Fatal(err)
			}
			if tt.fallback == "" {
				if p.Fallback != "" || !strings.HasSuffix(p.Text, "[Hello]") {
					t.Errorf("prompt %+v", p)
				}
				// The template writes the start token; it must not be there twice.
				if len(p.Tokens) < 2 || p.Tokens[0] != m.Info().BOS || p.Tokens[1] == m.Info().BOS {
					t.Errorf("tokens %v, start token %d", p.Tokens, m.Info().BOS)
				}
			} else if !strings.Contains(p.Fallback, tt.fallback) || p.Text != "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n" {
				t.Errorf("prompt %+v, want a fallback for %q", p, tt.fallback)
			}
			if restarted := m.process != before; restarted != (tt.restarts != "") {
				t.Errorf("restarted: %v", restarted)
			}
			stats, err := m.Chat(t.Context(), hello(), infer.Sampling{MaxTokens: 3}, nil)
			if err != nil || !strings.Contains(stats.Fallback, tt.fallback) {
				t.Errorf("chat %+v, %v", stats, err)
			}
		})
	}
}
