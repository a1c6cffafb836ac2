package fake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/piece"
	"github.com/lathe-llm/lathe/infer/internal/sample"
)

// Model implements [infer.Model].
type Model struct {
	engine *Engine
	grams  grams
	queue  infer.Queue
	ctx    context.Context // done once closed
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	info    infer.Info
	threads int

	past []int32 // tokens "in the cache"; accessed in a turn of the queue only
}

// Info implements [infer.Model].
func (m *Model) Info() infer.Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	info := m.info
	info.Threads = m.threads
	return info
}

// SetThreads implements [infer.Model].
func (m *Model) SetThreads(n int) error {
	if err := infer.ValidateThreads(n); err != nil {
		return fmt.Errorf("fake: %w", err)
	}
	if err := m.open(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.threads = max(n, 1)
	return nil
}

// Queue implements [infer.Model].
func (m *Model) Queue() infer.QueueState { return m.queue.State() }

// Close implements [infer.Model].
func (m *Model) Close() error {
	m.cancel(infer.ErrClosed)
	return nil
}

func (m *Model) open() error {
	if m.ctx.Err() != nil {
		return fmt.Errorf("fake: %w", infer.ErrClosed)
	}
	return nil
}

// begin waits for a turn of the queue, in which the call goes by name; end gives it back. The context it returns is done
// when ctx is, or when the model is closed.
func (m *Model) begin(ctx context.Context, call, name string) (_ context.Context, end func(), err error) {
	if err := m.open(); err != nil {
		return nil, nil, err
	}
	if err := m.engine.fail(call); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	detach := context.AfterFunc(m.ctx, func() { cancel(infer.ErrClosed) })
	release := func() { detach(); cancel(nil) }
	leave, err := m.queue.Enter(ctx, name)
	if err != nil {
		err = fmt.Errorf("fake: %w", context.Cause(ctx))
		release()
		return nil, nil, err
	}
	if err := m.open(); err != nil { // its context may not have ended yet
		leave()
		release()
		return nil, nil, err
	}
	return ctx, func() { leave(); release() }, nil
}

// step precedes each step of a call's work.
func (m *Model) step(ctx context.Context, step string) error {
	if err := m.open(); err != nil {
		return err
	}
	if err := m.engine.gate(ctx, step); err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
			err = cause
		}
		return fmt.Errorf("fake: %w", err)
	}
	return nil
}

// Tokenize implements [infer.Model].
func (m *Model) Tokenize(ctx context.Context, text string, parse bool) ([]int32, error) {
	_, end, err := m.begin(ctx, "tokenize", "tokenize")
	if err != nil {
		return nil, err
	}
	defer end()
	return tokenize(text, parse), nil
}

func tokenize(text string, parse bool) (tokens []int32) {
next:
	for text != "" {
		if parse {
			for id, name := range special {
				if strings.HasPrefix(text, name) {
					tokens, text = append(tokens, id), text[len(name):]
					continue next
				}
			}
		}
		tokens, text = append(tokens, int32(text[0])), text[1:]
	}
	return tokens
}

// Detokenize implements [infer.Model].
func (m *Model) Detokenize(ctx context.Context, tokens []int32) (string, error) {
	pieces, err := m.Pieces(ctx, tokens)
	return strings.Join(pieces, ""), err
}

// Pieces implements [infer.Model].
func (m *Model) Pieces(ctx context.Context, tokens []int32) ([]string, error) {
	_, end, err := m.begin(ctx, "pieces", "pieces")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := check(tokens); err != nil {
		return nil, err
	}
	out := make([]string, len(tokens))
	for i, t := range tokens {
		out[i] = text(t)
	}
	return out, nil
}

// Control implements [infer.Model].
func (m *Model) Control(ctx context.Context, tokens []int32) ([]bool, error) {
	_, end, err := m.begin(ctx, "pieces", "pieces")
	if err != nil {
		return nil, err
	}
	defer end()
	if err := check(tokens); err != nil {
		return nil, err
	}
	out := make([]bool, len(tokens))
	for i, t := range tokens {
		out[i] = control(t)
	}
	return out, nil
}

func control(t int32) bool {
	_, ok := special[t]
	return ok
}

// logits computes log-probabilities, as Options.Logits changes them.
func (m *Model) logits(past []int32, logits []float32) {
	m.grams.logits(past, logits)
	if change := m.engine.options.Logits; change != nil {
		change(past, logits)
	}
}

func text(t int32) string {
	if name, ok := special[t]; ok {
		return name
	}
	return string([]byte{byte(t)})
}

// check returns ErrBadToken for the first token outside the vocabulary.
func check(tokens []int32) error {
	for _, t := range tokens {
		if t < 0 || t >= vocab {
			return fmt.Errorf("fake: token %d: %w", t, infer.ErrBadToken)
		}
	}
	return nil
}

// Prompt implements [infer.Model]; the template is ChatML.
func (m *Model) Prompt(ctx context.Context, messages []infer.Message) (infer.Prompt, error) {
	return m.PromptWith(ctx, infer.Conversation{Messages: messages})
}

// PromptWith implements [infer.Model]. Tools, documents and calls are lines of JSON.
func (m *Model) PromptWith(ctx context.Context, c infer.Conversation) (infer.Prompt, error) {
	_, end, err := m.begin(ctx, "prompt", "prompt")
	if err != nil {
		return infer.Prompt{}, err
	}
	defer end()
	return render(c), nil
}

// render writes a conversation as ChatML.
func render(c infer.Conversation) infer.Prompt {
	var b strings.Builder
	for _, raw := range slices.Concat(c.Tools, c.Documents) {
		fmt.Fprintf(&b, "<|im_start|>system\n%s<|im_end|>\n", raw)
	}
	for _, msg := range c.Messages {
		fmt.Fprintf(&b, "<|im_start|>%s\n%s", msg.Role, msg.Content)
		for _, call := range msg.Calls {
			fmt.Fprintf(&b, "<tool_call>%s %s</tool_call>", call.Name, call.Arguments)
		}
		b.WriteString("<|im_end|>\n")
	}
	b.WriteString("<|im_start|>assistant\n")
	return infer.Prompt{Text: b.String(), Tokens: tokenize(b.String(), true)}
}

// Chat implements [infer.Model].
func (m *Model) Chat(ctx context.Context, messages []infer.Message, s infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	if err := m.engine.fail("prompt"); err != nil {
		return infer.GenStats{Stop: infer.StopAborted}, err
	}
	return m.run(ctx, "chat", render(infer.Conversation{Messages: messages}).Tokens, s, emit)
}

// Generate implements [infer.Model].
func (m *Model) Generate(ctx context.Context, prompt []int32, s infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	return m.run(ctx, "generate", prompt, s, emit)
}

func (m *Model) run(ctx context.Context, name string, prompt []int32, s infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	stats := infer.GenStats{PromptTokens: len(prompt), Context: m.info.Context, Stop: infer.StopAborted}
	ctx, end, err := m.begin(ctx, "generate", name)
	if err != nil {
		return stats, err
	}
	defer end()
	if err := check(prompt); err != nil {
		return stats, err
	}
	switch n := len(prompt); {
	case n == 0:
		return stats, fmt.Errorf("fake: a prompt without tokens: %w", infer.ErrInvalid)
	case n >= m.info.Context:
		return stats, fmt.Errorf("fake: prompt of %d tokens: %w", n, infer.ErrContextFull)
	}
	start := time.Now()
	if err := m.step(ctx, "prompt"); err != nil {
		return stats, err
	}
	for stats.ReusedTokens < min(len(m.past), len(prompt)-1) && m.past[stats.ReusedTokens] == prompt[stats.ReusedTokens] {
		stats.ReusedTokens++
	}
	m.past = append(m.past[:0], prompt...)
	err = m.generate(ctx, s, emit, &stats, start)
	stats.Total = time.Since(start)
	stats.ContextUsed = len(m.past)
	if rest := stats.Total - stats.FirstToken; stats.Tokens > 1 && rest > 0 {
		stats.TokensPerSecond = float64(stats.Tokens-1) / rest.Seconds()
	}
	if err != nil {
		stats.Stop = infer.StopAborted
	}
	return stats, err
}

func (m *Model) generate(ctx context.Context, s infer.Sampling, emit func(infer.Token) error, stats *infer.GenStats, start time.Time) error {
	sampler := sample.New(s, m.past)
	pieces := piece.Assembler{Stop: s.Stop}
	logits := make([]float32, vocab)
	send := func(t infer.Token) error {
		if emit == nil {
			return nil
		}
		return emit(t)
	}
	for {
		if err := m.step(ctx, "token"); err != nil {
			return err
		}
		m.logits(m.past, logits)
		id, err := sampler.Next(logits)
		if err != nil {
			return fmt.Errorf("fake: %w", err)
		}
		if stats.Tokens == 0 {
			stats.FirstToken = time.Since(start)
		}
		token := infer.Token{ID: id, Control: control(id)}
		if s.LogProbs || s.TopLogProbs > 0 {
			token.Piece, token.LogProb = text(id), float64(logits[id])
			if s.TopLogProbs > 0 {
				ids, probs := sample.Top(logits, min(s.TopLogProbs, infer.MaxTop), 0)
				for i, id := range ids {
					token.Top = append(token.Top, infer.TokenProb{ID: id, Text: text(id), LogProb: float64(probs[i])})
				}
			}
		}
		if id >= tokenBOS {
			stats.Stop = infer.StopEnd
			token.Text = pieces.Flush()
			return send(token)
		}
		m.past = append(m.past, id)
		stats.Tokens++
		stopped := false
		token.Text, stopped = pieces.Push([]byte{byte(id)})
		switch {
		case stopped:
			stats.Stop = infer.StopString
		case s.MaxTokens > 0 && stats.Tokens >= s.MaxTokens:
			stats.Stop = infer.StopLength
		case len(m.past) >= m.info.Context:
			stats.Stop = infer.StopContext
		default:
			if err := send(token); err != nil {
				return err
			}
			continue
		}
		token.Text += pieces.Flush()
		return send(token)
	}
}
