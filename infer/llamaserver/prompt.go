package llamaserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/chat"
)

// Prompt implements [infer.Model].
func (m *Model) Prompt(ctx context.Context, messages []infer.Message) (infer.Prompt, error) {
	return m.PromptWith(ctx, infer.Conversation{Messages: messages})
}

// PromptWith implements [infer.Model].
func (m *Model) PromptWith(ctx context.Context, c infer.Conversation) (infer.Prompt, error) {
	ctx, s, end, err := m.begin(ctx, "prompt")
	if err != nil {
		return infer.Prompt{}, err
	}
	defer end()
	prompt, err := m.prompt(ctx, s, c)
	return prompt, ended(ctx, s, "prompt", err)
}

// prompt renders with the file's template or, where it has none, with the one that the server uses.
func (m *Model) prompt(ctx context.Context, s *server, c infer.Conversation) (infer.Prompt, error) {
	info := m.Info()
	if n := len(c.Messages); n > info.Context {
		return infer.Prompt{}, fmt.Errorf("a conversation of %d messages, context of %d tokens: %w", n, info.Context, infer.ErrContextFull)
	}
	spelled := func(id int32) string {
		if id < 0 {
			return ""
		}
		return m.vocab.piece(id)
	}
	start := spelled(info.BOS)
	in := chat.Input{Messages: c.Messages, Tools: c.Tools, Documents: c.Documents, BOS: start, EOS: spelled(info.EOS), Now: time.Now()}
	mark, err := m.vocab.Controls.Guard(&in)
	if err != nil {
		return infer.Prompt{}, err
	}
	render := m.rendered
	if info.ChatTemplate == "" {
		render = m.builtin
	}
	text, warning, err := render(ctx, s, in)
	if err != nil {
		return infer.Prompt{}, err
	}
	prompt := infer.Prompt{Text: text, Warning: warning}
	if mark != "" {
		prompt.Text = strings.ReplaceAll(text, mark, "")
	}
	if n := len(prompt.Text) / max(1, m.vocab.longest); n >= info.Context {
		return infer.Prompt{}, fmt.Errorf("prompt of at least %d tokens, context of %d: %w", n, info.Context, infer.ErrContextFull)
	}
	// Many templates write the start token themselves; models are not trained on two of them.
	first := info.AddBOS && (start == "" || !strings.HasPrefix(text, start))
	t := m.tokenizer(ctx, s)
	if mark == "" {
		prompt.Tokens, err = t.Tokenize(text, first, true)
	} else {
		prompt.Tokens, err = t.Guarded(text, mark, first)
	}
	return prompt, err
}

// rendered renders with the file's template.
func (m *Model) rendered(ctx context.Context, _ *server, in chat.Input) (text, warning string, err error) {
	template, err := m.template()
	if err != nil {
		return "", "", errTemplate(m.info.Path, err)
	}
	text, warning, err = template.Prompt(ctx, in)
	if err != nil && !isContext(err) {
		err = fmt.Errorf("%w: %w", infer.ErrTemplate, err)
	}
	return text, warning, err
}

// builtin renders on the server.
func (m *Model) builtin(ctx context.Context, s *server, in chat.Input) (text, warning string, err error) {
	if !in.Plain() {
		return "", "", fmt.Errorf("%w: the file has none, and the server's has no tools and documents", infer.ErrTemplate)
	}
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	messages := make([]message, len(in.Messages))
	for i, one := range in.Messages {
		if messages[i] = (message{one.Role, one.Content}); in.Mark != nil {
			messages[i] = message{in.Mark(one.Role), in.Mark(one.Content)}
		}
	}
	var reply struct {
		Prompt string `json:"prompt"`
	}
	err = s.post(ctx, "/apply-template", map[string]any{"messages": messages}, &reply)
	if refused := (*statusError)(nil); errors.As(err, &refused) && refused.status != http.StatusUnauthorized {
		err = fmt.Errorf("%w: the file has none, and %w", infer.ErrTemplate, err)
	}
	return reply.Prompt, "the file has no chat template: the one that llama-server chooses is used", err
}

// Chat implements [infer.Model].
func (m *Model) Chat(ctx context.Context, messages []infer.Message, o infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	ctx, s, end, err := m.begin(ctx, "chat")
	if err != nil {
		return infer.GenStats{Stop: infer.StopAborted}, err
	}
	defer end()
	prompt, err := m.prompt(ctx, s, infer.Conversation{Messages: messages})
	if err != nil {
		return infer.GenStats{Stop: infer.StopAborted}, ended(ctx, s, "chat", err)
	}
	stats, err := m.generate(ctx, s, prompt.Tokens, o, emit)
	stats.Warning = prompt.Warning
	return stats, err
}
