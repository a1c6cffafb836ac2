package llamaserver

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/piece"
)

const completion = "/completion"

// completionRequest is the body of a request to /completion.
type completionRequest struct {
	Prompt        []int32  `json:"prompt"`
	Predict       int      `json:"n_predict"`
	Stream        bool     `json:"stream"`
	Tokens        bool     `json:"return_tokens"`
	Cache         bool     `json:"cache_prompt"`
	IgnoreEnd     bool     `json:"ignore_eos,omitempty"`
	Temperature   float64  `json:"temperature"`
	TopK          int      `json:"top_k"`
	TopP          float64  `json:"top_p"`
	MinP          float64  `json:"min_p"`
	RepeatPenalty float64  `json:"repeat_penalty"`
	RepeatLast    int      `json:"repeat_last_n"`
	Seed          uint32   `json:"seed"`
	Probs         int      `json:"n_probs,omitempty"`
	Samplers      []string `json:"samplers"`
}

// completionEvent is an event of a stream, or a whole reply.
type completionEvent struct {
	Tokens    []int32    `json:"tokens"`
	Stop      bool       `json:"stop"`
	StopType  string     `json:"stop_type"`
	Predicted int        `json:"tokens_predicted"`
	Probs     []probs    `json:"completion_probabilities"`
	Timings   timings    `json:"timings"`
	Error     *errorBody `json:"error"`
}

type errorBody struct {
	Message string `json:"message"`
}

type probs struct {
	prob
	Top []prob `json:"top_logprobs"`
}

type prob struct {
	ID      int32    `json:"id"`
	LogProb *float64 `json:"logprob"` // null for numbers that JSON does not have
}

// timings are the server's own, of one request. The generation's begin with the first token, which they count.
type timings struct {
	PromptN     int     `json:"prompt_n"`
	PromptMS    float64 `json:"prompt_ms"`
	PredictedN  int     `json:"predicted_n"`
	PredictedMS float64 `json:"predicted_ms"`
}

// request returns a request for at most n tokens behind a prompt. at is the number of tokens generated before: the server's random
// numbers begin anew with each request.
func request(prompt []int32, n, at int, s infer.Sampling) completionRequest {
	r := completionRequest{
		Prompt: prompt, Predict: n, Stream: true, Tokens: true, Cache: true, Temperature: s.Temperature, TopK: s.TopK, TopP: s.TopP, MinP: s.MinP,
		RepeatPenalty: s.RepeatPenalty, RepeatLast: s.RepeatLast, Samplers: []string{"penalties", "top_k", "top_p", "min_p", "temperature"},
	}
	if r.TopP <= 0 {
		r.TopP = 1
	}
	if r.RepeatPenalty <= 0 {
		r.RepeatPenalty = 1
	}
	if r.RepeatLast == 0 {
		r.RepeatLast = 64
	}
	const random = math.MaxUint32 // the server takes it as a request for any seed
	mixed := (s.Seed ^ uint64(at)<<40) * 0x9E3779B97F4A7C15
	r.Seed = uint32(mixed>>32) % random
	if s.LogProbs || s.TopLogProbs > 0 {
		r.Probs = max(1, min(s.TopLogProbs, infer.MaxTop))
	}
	return r
}

// Generate implements [infer.Model].
func (m *Model) Generate(ctx context.Context, prompt []int32, o infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	ctx, s, end, err := m.begin(ctx, "generate")
	if err != nil {
		return infer.GenStats{Stop: infer.StopAborted}, err
	}
	defer end()
	return m.generate(ctx, s, prompt, o, emit)
}

// generation is one generation that runs.
type generation struct {
	m     *Model
	o     infer.Sampling
	emit  func(infer.Token) error
	text  piece.Assembler
	all   []int32 // the prompt and the tokens generated
	begin time.Time
	last  time.Time
	held  *infer.Token // the newest token, if it may be an end token or its text is not complete
	open  []byte       // of a rune that is not finished
	stats infer.GenStats
}

func (m *Model) generate(ctx context.Context, s *server, prompt []int32, o infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	info := m.Info()
	g := &generation{m: m, o: o, emit: emit, text: piece.Assembler{Stop: o.Stop}, all: slices.Clone(prompt), begin: time.Now()}
	g.stats = infer.GenStats{PromptTokens: len(prompt), Context: info.Context, Stop: infer.StopAborted}
	err := m.check(prompt)
	switch {
	case err != nil:
	case len(prompt) == 0:
		err = fmt.Errorf("empty prompt: %w", infer.ErrInvalid)
	case len(prompt) >= info.Context:
		err = fmt.Errorf("prompt of %d tokens, context of %d: %w", len(prompt), info.Context, infer.ErrContextFull)
	default:
		err = g.run(ctx, s)
	}
	g.stats.Total = time.Since(g.begin)
	g.stats.ContextUsed = len(prompt) + max(0, g.stats.Tokens-1)
	if seconds := g.last.Sub(g.begin.Add(g.stats.FirstToken)).Seconds(); g.stats.Tokens > 1 && seconds > 0 {
		g.stats.TokensPerSecond = float64(g.stats.Tokens-1) / seconds
	}
	if err != nil {
		g.stats.Stop = infer.StopAborted
	}
	return g.stats, ended(ctx, s, "generate", err)
}

// run generates until a reason to stop. The server sends no event for a token that ends inside a rune: where one is missing the stream is
// closed, and tokens are requested one by one, each reply with its token, until the rune is finished.
func (g *generation) run(ctx context.Context, s *server) error {
	limit := g.stats.Context - g.stats.PromptTokens
	full := infer.StopContext
	if n := g.o.MaxTokens; n > 0 && n <= limit {
		limit, full = n, infer.StopLength
	}
	single := false
	for g.stats.Stop == infer.StopAborted {
		if g.stats.Tokens >= limit {
			return g.finish(full)
		}
		r := request(g.all, limit-g.stats.Tokens, g.stats.Tokens, g.o)
		var err error
		if single {
			err = g.one(ctx, s, r)
			single = len(g.open) > 0
		} else {
			single, err = g.stream(ctx, s, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// stream generates with one request. It reports whether an event is missing.
func (g *generation) stream(ctx context.Context, s *server, r completionRequest) (missing bool, err error) {
	got := 0
	err = s.stream(ctx, completion, r, func(data []byte) (bool, error) {
		if ctx.Err() != nil { // events that arrived before it
			return true, context.Cause(ctx)
		}
		e, err := g.decode(data)
		if err != nil {
			return true, err
		}
		want := e.Predicted - got
		if want < len(e.Tokens) || want < 0 {
			return true, replyError(completion, "tokens_predicted", "%d after %d", e.Predicted, got)
		}
		if missing = want > len(e.Tokens); missing {
			return true, nil
		}
		if e.Predicted > r.Predict {
			return true, replyError(completion, "tokens_predicted", "%d tokens, at most %d were asked for", e.Predicted, r.Predict)
		}
		for i, id := range e.Tokens {
			if err := g.take(ctx, id, e.Probs, i); err != nil || g.stats.Stop != infer.StopAborted {
				return true, err
			}
		}
		got = e.Predicted
		if e.Stop {
			return true, g.stopped(e, r.Predict, got)
		}
		return false, nil
	})
	return missing, err
}

// one generates one token.
func (g *generation) one(ctx context.Context, s *server, r completionRequest) error {
	r.Predict, r.Stream = 1, false
	var e completionEvent
	if err := s.post(ctx, completion, r, &e); err != nil {
		return err
	}
	if len(e.Tokens) != 1 {
		return replyError(completion, "tokens", "%d tokens, 1 was asked for", len(e.Tokens))
	}
	if err := g.m.known(completion, "tokens", e.Tokens); err != nil {
		return err
	}
	if err := g.take(ctx, e.Tokens[0], e.Probs, 0); err != nil || g.stats.Stop != infer.StopAborted {
		return err
	}
	return g.stopped(e, 1, 1)
}

func (g *generation) decode(data []byte) (e completionEvent, err error) {
	if err := decode(completion, data, &e); err != nil {
		return e, err
	}
	if e.Error != nil {
		return e, &statusError{completion, oneLine(e.Error.Message), 500}
	}
	if len(e.Tokens) == 0 && !e.Stop && e.Predicted > 0 {
		return e, replyError(completion, "tokens", "no token ids: the server may be too old")
	}
	return e, g.m.known(completion, "tokens", e.Tokens)
}

// stopped handles the end of a request for n tokens, of which got arrived.
func (g *generation) stopped(e completionEvent, n, got int) error {
	if g.stats.PromptPerSecond == 0 && e.Timings.PromptMS > 0 {
		g.stats.PromptPerSecond = float64(e.Timings.PromptN) / e.Timings.PromptMS * 1000
		g.stats.ReusedTokens = max(0, g.stats.PromptTokens-e.Timings.PromptN)
	}
	switch e.StopType {
	case "eos":
		return g.finish(infer.StopEnd)
	case "limit":
		if got >= n {
			return nil
		}
		return g.finish(infer.StopContext)
	}
	return replyError(completion, "stop_type", "%q", oneLine(e.StopType))
}

// take handles a token. i is its index in the event.
func (g *generation) take(ctx context.Context, id int32, list []probs, i int) error {
	if err := g.release(""); err != nil {
		return err
	}
	bytes := g.m.vocab.piece(id)
	token := infer.Token{ID: id, Control: g.m.vocab.control(id)}
	if g.o.LogProbs || g.o.TopLogProbs > 0 {
		if err := g.probabilities(ctx, &token, bytes, list, i); err != nil {
			return err
		}
	}
	g.last = time.Now()
	if g.stats.Tokens == 0 {
		g.stats.FirstToken = g.last.Sub(g.begin)
	}
	g.all = append(g.all, id)
	g.stats.Tokens++
	g.open = unfinished(append(g.open, bytes...))
	if token.Control {
		g.open = nil
		if slices.ContainsFunc(g.o.Stop, func(stop string) bool { return stop != "" && strings.HasPrefix(stop, bytes) }) {
			g.stats.Stop = infer.StopString
			token.Text = g.text.Flush()
			return g.pass(token)
		}
	} else {
		var stopped bool
		if token.Text, stopped = g.text.Push([]byte(bytes)); stopped {
			g.stats.Stop = infer.StopString
			return g.pass(token)
		}
	}
	if !strings.HasSuffix(token.Text, bytes) || g.m.vocab.kind(id) == tokenUser || strings.HasPrefix(bytes, "<") {
		g.held = &token
		return nil
	}
	return g.pass(token)
}

// unfinished returns the bytes of a rune at the end of b that is not finished.
func unfinished(b []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if end := b[len(b)-n:]; utf8.RuneStart(end[0]) {
			if !utf8.FullRune(end) {
				return slices.Clone(end)
			}
			return nil
		}
	}
	return nil
}

// release passes on the token that is held, with more text.
func (g *generation) release(text string) error {
	if g.held == nil {
		return nil
	}
	token := *g.held
	g.held = nil
	token.Text += text
	return g.pass(token)
}

func (g *generation) pass(t infer.Token) error {
	if g.emit == nil {
		return nil
	}
	return g.emit(t)
}

// finish ends a generation whose last token was passed on, or is held. An end token is not counted.
func (g *generation) finish(why string) error {
	g.stats.Stop = why
	if why == infer.StopEnd {
		g.stats.Tokens--
	}
	return g.release(g.text.Flush()) // there is no text unless a token is held
}

// probabilities fills in the log-probabilities of a token. For one that ends inside a rune the server sends none; then the fallback
// computes them.
func (g *generation) probabilities(ctx context.Context, t *infer.Token, text string, list []probs, i int) error {
	t.Piece = text
	if len(list) == 0 {
		got, err := g.m.distributions(ctx, append(slices.Clone(g.all), t.ID), infer.DistributionOptions{From: []int{len(g.all)}, Top: g.o.TopLogProbs})
		if err != nil {
			return err
		}
		p := got[len(got)-1]
		t.LogProb = -float64(p.NLL)
		for j, id := range p.Top {
			t.Top = append(t.Top, infer.TokenProb{ID: id, Text: g.m.vocab.piece(id), LogProb: float64(p.TopProbs[j])})
		}
		return nil
	}
	if i >= len(list) || list[i].ID != t.ID {
		return replyError(completion, "completion_probabilities", "nothing about token %d", t.ID)
	}
	value := func(p prob, field string) (float64, error) {
		switch {
		case p.LogProb == nil:
			return 0, fmt.Errorf("token %d: %w", p.ID, infer.ErrNotFinite)
		case *p.LogProb > 0:
			return 0, replyError(completion, field, "%g of token %d, which is above 0", *p.LogProb, p.ID)
		}
		return *p.LogProb, nil
	}
	var err error
	if t.LogProb, err = value(list[i].prob, "completion_probabilities.logprob"); err != nil {
		return err
	}
	if g.o.TopLogProbs == 0 {
		return nil
	}
	for _, p := range list[i].Top[:min(len(list[i].Top), g.o.TopLogProbs)] {
		if err := g.m.known(completion, "completion_probabilities.top_logprobs.id", []int32{p.ID}); err != nil {
			return err
		}
		v, err := value(p, "completion_probabilities.top_logprobs.logprob")
		if err != nil {
			return err
		}
		t.Top = append(t.Top, infer.TokenProb{ID: p.ID, Text: g.m.vocab.piece(p.ID), LogProb: v})
	}
	return nil
}
