//go:build cgo && !nocgo

package llamacpp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/piece"
	"github.com/lathe-llm/lathe/infer/internal/sample"
)

func (s *session) generate(r generateRequest) (generateReply, error) {
	begin := time.Now()
	stats := infer.GenStats{PromptTokens: len(r.Prompt), Context: s.net.info.Context}
	if err := s.check(r.Prompt); err != nil {
		return generateReply{}, err
	}
	if len(r.Prompt) == 0 {
		return generateReply{}, fmt.Errorf("a prompt without tokens: %w", infer.ErrInvalid)
	}
	if len(r.Prompt) >= s.net.info.Context {
		return generateReply{}, fmt.Errorf("prompt of %d tokens, context of %d: %w",
			len(r.Prompt), s.net.info.Context, infer.ErrContextFull)
	}
	stats.ReusedTokens = s.reuse(r.Prompt, len(r.Prompt)-1)
	err := s.extend(r.Prompt[stats.ReusedTokens:], nil)
	if err == nil {
		if read := time.Since(begin).Seconds(); read > 0 {
			stats.PromptPerSecond = float64(len(r.Prompt)-stats.ReusedTokens) / read
		}
		err = s.continueText(r.Sampling, &stats, begin)
	}
	if errors.Is(err, errAborted) {
		stats.Stop, err = infer.StopAborted, nil
	}
	stats.Total = time.Since(begin)
	stats.ContextUsed = len(s.past)
	if rest := (stats.Total - stats.FirstToken).Seconds(); stats.Tokens > 1 && rest > 0 {
		stats.TokensPerSecond = float64(stats.Tokens-1) / rest
	}
	return generateReply{stats}, err
}

// continueText samples and computes tokens until a stop condition. The logits of the last prompt token have been computed.
func (s *session) continueText(o infer.Sampling, stats *infer.GenStats, begin time.Time) error {
	sampler := sample.New(o, s.past)
	pieces := piece.Assembler{Stop: o.Stop}
	last := (len(s.past) - stats.ReusedTokens - 1) % s.net.size // index in the last batch of the prompt
	for {
		logits, err := s.logits(last)
		if err != nil {
			return err
		}
		last = 0
		id, err := sampler.Next(logits)
		if err != nil {
			return s.named(err)
		}
		if stats.Tokens == 0 {
			stats.FirstToken = time.Since(begin)
		}
		token := tokenEvent{ID: id, Control: s.net.isControl(id)}
		if o.LogProbs || o.TopLogProbs > 0 {
			s.addLogProbs(&token, logits, o.TopLogProbs)
		}
		if s.net.isEnd(id) {
			stats.Stop = infer.StopEnd
			token.Text = pieces.Flush()
			return s.event(token)
		}
		stats.Tokens++
		stopped := false
		if token.Control {
			if stopped = names(o.Stop, s.net.text(id)); stopped {
				token.Text = pieces.Flush()
			}
		} else {
			token.Text, stopped = pieces.Push(s.net.piece(id))
		}
		switch {
		case stopped:
			stats.Stop = infer.StopString
		case o.MaxTokens > 0 && stats.Tokens >= o.MaxTokens:
			stats.Stop = infer.StopLength
		case len(s.past)+1 >= s.net.info.Context:
			stats.Stop = infer.StopContext
		default:
			if err := s.event(token); err != nil {
				return err
			}
			if err := s.decode([]int32{id}, false); err != nil {
				return err
			}
			continue
		}
		if !stopped {
			token.Text += pieces.Flush()
		}
		return s.event(token)
	}
}

// names reports whether one of the stop texts is a control token, spelled out.
func names(stops []string, control string) bool {
	return slices.ContainsFunc(stops, func(stop string) bool { return strings.TrimSpace(stop) == control })
}

// named adds the text of a token to the error of its logit.
func (s *session) named(err error) error {
	var bad *sample.BadLogit
	if !errors.As(err, &bad) {
		return err
	}
	return fmt.Errorf("the logit of token %d, %q, is %v: %w", bad.Token, s.net.text(bad.Token), bad.Value, infer.ErrNotFinite)
}

func (s *session) addLogProbs(t *tokenEvent, logits []float32, top int) {
	sum := sample.LogSumExp(logits)
	t.Piece, t.LogProb = s.net.piece(t.ID), float64(logits[t.ID])-sum
	if top <= 0 {
		return
	}
	ids, probs := sample.Top(logits, min(top, infer.MaxTop), sum)
	for i, id := range ids {
		t.Top = append(t.Top, topTokenWire{ID: id, Text: s.net.piece(id), LogProb: float64(probs[i])})
	}
}

// score sends the distribution of each token of the window from r.From on, in events.
func (s *session) score(r scoreRequest) (struct{}, error) {
	switch {
	case r.From < 1 || (r.At != nil && len(r.At) != max(0, len(r.Window)-r.From)):
		return struct{}{}, fmt.Errorf("%w: score from %d with %d lists of tokens", errProtocol, r.From, len(r.At))
	case len(r.Window) > s.net.info.Context:
		return struct{}{}, fmt.Errorf("window of %d tokens, context of %d: %w", len(r.Window), s.net.info.Context, infer.ErrContextFull)
	}
	if err := s.check(r.Window); err != nil {
		return struct{}{}, err
	}
	for _, ids := range r.At {
		if err := s.check(ids); err != nil {
			return struct{}{}, err
		}
	}
	if len(r.Window) <= r.From {
		return struct{}{}, nil
	}
	// The token before the first scored one is always computed: its logits are not in the cache. Those before it are reused
	// or computed without logits.
	first := r.From - 1
	reused := s.reuse(r.Window, first)
	if err := s.extend(r.Window[reused:first], nil); err != nil {
		return struct{}{}, err
	}
	return struct{}{}, s.extend(r.Window[first:len(r.Window)-1], func(at, n int) error {
		e, err := s.positions(r, first+at, n)
		if err != nil {
			return err
		}
		return s.event(e)
	})
}

// positions describes the token that follows each of the n tokens of the last batch, whose first is window[at].
func (s *session) positions(r scoreRequest, at, n int) (positionsEvent, error) {
	e := positionsEvent{NLL: make(floats, n), Greedy: make([]bool, n)}
	k := min(r.Top, infer.MaxTop, s.net.info.Vocab)
	if k > 0 {
		e.Top, e.TopProbs = make(tokens, n*k), make(floats, n*k)
	}
	at0 := make([]int, n+1) // where the requested values of each position start
	for i := range n {
		at0[i+1] = at0[i]
		if r.At != nil {
			at0[i+1] += len(r.At[at+i+1-r.From])
		}
	}
	e.At = make(floats, at0[n])

	rows := make([][]float32, n)
	for i := range rows {
		var err error
		if rows[i], err = s.logits(i); err != nil {
			return e, err
		}
	}
	// ggml's threads are idle between batches: the sums may use the processors.
	workers := max(1, min(s.applied, n))
	var wg sync.WaitGroup
	bad := make([]error, n)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				if bad[i] = sample.Check(rows[i]); bad[i] != nil {
					return
				}
				sum := sample.LogSumExp(rows[i])
				id := r.Window[at+i+1]
				e.NLL[i] = float32(sum - float64(rows[i][id]))
				e.Greedy[i] = sample.Argmax(rows[i]) == id
				if k > 0 {
					ids, probs := sample.Top(rows[i], k, sum)
					for j := range k {
						e.Top[i*k+j], e.TopProbs[i*k+j] = ids[j], probs[j]
					}
				}
				for j := range at0[i+1] - at0[i] {
					e.At[at0[i]+j] = float32(float64(rows[i][r.At[at+i+1-r.From][j]]) - sum)
				}
			}
		})
	}
	wg.Wait()
	for i, err := range bad {
		if err != nil {
			return e, fmt.Errorf("after token %d of the window: %w", at+i, s.named(err))
		}
	}
	return e, nil
}

// bench times one run as llama-bench does: r.Prompt random tokens in batches, or r.Gen random tokens one by one, after r.Depth
// tokens that are not timed.
func (s *session) bench(r infer.BenchTest) (benchReply, error) {
	if r.Prompt < 0 || r.Gen < 0 || r.Depth < 0 || r.Prompt+r.Gen+r.Depth > s.net.info.Context {
		return benchReply{}, fmt.Errorf("benchmark of %d tokens, context of %d: %w",
			r.Prompt+r.Gen+r.Depth, s.net.info.Context, infer.ErrContextFull)
	}
	defer func(governed bool) { s.governed = governed }(s.governed)
	s.governed = false // measure with the requested threads
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = rng.Int32N(int32(s.net.info.Vocab))
		}
		return ids
	}
	s.keep(0)
	if err := s.extend(random(r.Depth), nil); err != nil {
		return benchReply{}, err
	}
	prompt, gen := random(r.Prompt), random(r.Gen)
	s.net.finish()
	begin := time.Now()
	if err := s.extend(prompt, nil); err != nil {
		return benchReply{}, err
	}
	for _, id := range gen {
		if err := s.decode([]int32{id}, false); err != nil {
			return benchReply{}, err
		}
		s.net.finish()
	}
	s.net.finish()
	took := time.Since(begin).Seconds()
	last := 0 // index in its batch of the token computed last
	if len(gen) == 0 {
		last = (len(prompt) - 1) % s.net.size
	}
	logits, err := s.logits(last)
	if err == nil {
		err = s.named(sample.Check(logits))
	}
	return benchReply{took}, err
}
