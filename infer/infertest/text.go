package infertest

import (
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
)

func (s *suite) tokens(t *testing.T) {
	info := s.model.Info()
	for _, text := range []string{"x", "Hello, world!", " two  spaces ", "line\nline\n\n\ttab", "Grüße, 世界 😀", "zero\x00byte", "1234567890", strings.Repeat("long ", 60)} {
		ids := s.tokenize(t, text, false)
		for _, id := range ids {
			if id < 0 || int(id) >= info.Vocab {
				t.Errorf("%q: token %d of a vocabulary of %d", text, id, info.Vocab)
			}
		}
		got, err := s.model.Detokenize(s.ctx, ids)
		if err != nil || got != text && got != " "+text {
			t.Errorf("%q became %q, %v", text, got, err)
		}
		pieces, err := s.model.Pieces(s.ctx, ids)
		if err != nil || len(pieces) != len(ids) || strings.Join(pieces, "") != got {
			t.Errorf("%q: pieces %q, %v", text, pieces, err)
		}
		if again := s.tokenize(t, text, false); !slices.Equal(ids, again) {
			t.Errorf("%q: tokens %v, then %v", text, ids, again)
		}
		with := s.tokenize(t, text, true)
		if info.AddBOS != (len(with) > 0 && with[0] == info.BOS) {
			t.Errorf("%q: tokens %v with a start token %d, wanted: %v", text, with, info.BOS, info.AddBOS)
		}
	}
	if ids := s.tokenize(t, "", false); len(ids) != 0 {
		t.Errorf("an empty text has tokens %v", ids)
	}
	if text, err := s.model.Detokenize(s.ctx, nil); err != nil || text != "" {
		t.Errorf("no tokens are %q, %v", text, err)
	}

	// A special token by name.
	name, err := s.model.Detokenize(s.ctx, []int32{info.EOS})
	if err != nil || name == "" {
		t.Fatalf("the end token is %q, %v", name, err)
	}
	if ids := s.tokenize(t, "a"+name, true); ids[len(ids)-1] != info.EOS {
		t.Errorf("%q with special tokens: %v, want the last to be %d", "a"+name, ids, info.EOS)
	}
	if ids := s.tokenize(t, "a"+name, false); slices.Contains(ids, info.EOS) {
		t.Errorf("%q without special tokens: %v contain %d", "a"+name, ids, info.EOS)
	}
}

func (s *suite) prompt(t *testing.T) {
	messages := conversation()
	p, err := s.model.Prompt(s.ctx, messages)
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for _, m := range messages {
		at := strings.Index(p.Text, m.Content)
		if at <= last {
			t.Errorf("%q is missing in %q, or out of order", m.Content, p.Text)
		}
		last = at
	}
	text, err := s.model.Detokenize(s.ctx, p.Tokens)
	if err != nil || !strings.HasSuffix(withoutSpaces(text), withoutSpaces(p.Text)) { // after a start token, perhaps
		t.Errorf("the tokens spell %q, %v; the text is %q", text, err, p.Text)
	}
	if n := len(p.Tokens); n == 0 || slices.Contains(p.Tokens[1:], s.model.Info().BOS) && s.model.Info().AddBOS {
		t.Errorf("tokens %v", p.Tokens)
	}
}

func withoutSpaces(s string) string { return strings.ReplaceAll(s, " ", "") }

func conversation() []infer.Message {
	return []infer.Message{{Role: infer.User, Content: "Good morning"}, {Role: infer.Assistant, Content: "And to you"}, {Role: infer.User, Content: "How are things"}}
}

func (s *suite) chat(t *testing.T) {
	p, err := s.model.Prompt(s.ctx, conversation())
	if err != nil {
		t.Fatal(err)
	}
	var ids []int32
	running := ""
	stats, err := s.model.Chat(s.ctx, conversation(), infer.Sampling{MaxTokens: 6}, func(token infer.Token) error {
		ids = append(ids, token.ID)
		running = s.model.Queue().Running
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if running != "chat" {
		t.Errorf("the queue runs %q during a chat", running)
	}
	if stats.Warning != p.Warning || stats.PromptTokens != len(p.Tokens) {
		t.Errorf("%+v of a prompt of %d tokens with warning %q", stats, len(p.Tokens), p.Warning)
	}
	if p.Warning == "" { // a built-in format adds stop strings
		if out := s.run(t, p.Tokens, infer.Sampling{MaxTokens: 6}); !slices.Equal(out.ids, ids) {
			t.Errorf("chat gives %v, its prompt %v", ids, out.ids)
		}
	}
}
