package llamacpp

import (
	"context"

	"github.com/lathe-llm/lathe/infer"
)

// Generate implements [infer.Model].
func (m *Model) Generate(ctx context.Context, prompt []int32, s infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	return m.resume(emit, func(emit func(infer.Token) error) (infer.GenStats, error) {
		ctx, p, end, err := m.begin(ctx, "generate")
		if err != nil {
			return infer.GenStats{Stop: infer.StopAborted}, err
		}
		defer end()
		return m.generate(ctx, p, prompt, s, emit)
	})
}

// resume calls run, and once more if a GPU fails before the first token.
func (m *Model) resume(emit func(infer.Token) error, run func(emit func(infer.Token) error) (infer.GenStats, error)) (infer.GenStats, error) {
	emitted := false
	count := func(t infer.Token) error {
		emitted = true
		if emit == nil {
			return nil
		}
		return emit(t)
	}
	stats, err := run(count)
	if m.resumes(err) && !emitted {
		return run(count)
	}
	return stats, err
}

// Chat implements [infer.Model].
func (m *Model) Chat(ctx context.Context, messages []infer.Message, s infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	return m.resume(emit, func(emit func(infer.Token) error) (infer.GenStats, error) { return m.chat(ctx, messages, s, emit) })
}

func (m *Model) chat(ctx context.Context, messages []infer.Message, s infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	ctx, p, end, err := m.begin(ctx, "chat")
	if err != nil {
		return infer.GenStats{Stop: infer.StopAborted}, err
	}
	defer end()
	prompt, stops, err := m.prompt(ctx, p, infer.Conversation{Messages: messages})
	if err != nil {
		return infer.GenStats{Stop: infer.StopAborted}, m.fail("chat", err)
	}
	s.Stop = append(s.Stop[:len(s.Stop):len(s.Stop)], stops...)
	stats, err := m.generate(ctx, p, prompt.Tokens, s, emit)
	stats.Warning = prompt.Warning
	return stats, err
}

func (m *Model) generate(ctx context.Context, p *process, prompt []int32, s infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	f, err := p.call(ctx, kindGenerate, generateRequest{prompt, s}, func(f frame) error {
		e, err := decode[tokenEvent](f)
		if err != nil || emit == nil {
			return err
		}
		token := infer.Token{ID: e.ID, Text: e.Text, Control: e.Control, Piece: string(e.Piece), LogProb: e.LogProb}
		for _, t := range e.Top {
			token.Top = append(token.Top, infer.TokenProb{ID: t.ID, Text: string(t.Text), LogProb: t.LogProb})
		}
		return emit(token)
	})
	stats := infer.GenStats{PromptTokens: len(prompt), Stop: infer.StopAborted}
	if f.Kind == kindResult {
		reply, decodeErr := decode[generateReply](f)
		if decodeErr != nil && err == nil {
			err = decodeErr
		}
		stats = reply.Stats
		if err != nil {
			stats.Stop = infer.StopAborted
		}
	}
	return stats, m.fail("generate", err)
}
