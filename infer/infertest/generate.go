package infertest

import (
	"context"
	"errors"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
)

func (s *suite) generate(t *testing.T) {
	prompt := s.openEnded(t, 24)
	greedy := s.run(t, prompt, infer.Sampling{MaxTokens: 24})
	if again := s.run(t, prompt, infer.Sampling{MaxTokens: 24, Seed: 9}); !slices.Equal(greedy.ids, again.ids) || greedy.text != again.text {
		t.Errorf("greedy text %q, then %q", greedy.text, again.text)
	}
	if one := s.run(t, prompt, infer.Sampling{MaxTokens: 24, Temperature: 1, TopK: 1, Seed: 9}); !slices.Equal(greedy.ids, one.ids) {
		t.Errorf("the most likely token each time: %v, and of one candidate: %v", greedy.ids, one.ids)
	}
	for i, token := range greedy.all {
		if token.Piece != "" || token.LogProb != 0 || token.Top != nil {
			t.Errorf("token %d has log-probabilities that nobody asked for: %+v", i, token)
		}
		if !utf8.ValidString(token.Text) {
			t.Errorf("token %d: text %q", i, token.Text)
		}
	}
	text, err := s.model.Detokenize(s.ctx, greedy.ids)
	if err != nil || strings.ToValidUTF8(text, "") != strings.ReplaceAll(greedy.text, "\uFFFD", "") {
		t.Errorf("the tokens spell %q, %v; their texts add up to %q", text, err, greedy.text)
	}
	st := greedy.stats
	if len(greedy.ids) != 24 || st.PromptTokens != len(prompt) || st.Tokens != 24 || st.Context != contextSize || st.Stop != infer.StopLength || st.Total < st.FirstToken || st.Warning != "" {
		t.Errorf("statistics %+v", st)
	}
	if st.ContextUsed < len(prompt) || st.ContextUsed > len(prompt)+st.Tokens {
		t.Errorf("%d tokens in the cache after %d and %d", st.ContextUsed, len(prompt), st.Tokens)
	}
	if _, err := s.model.Generate(s.ctx, prompt, infer.Sampling{MaxTokens: 3}, nil); err != nil {
		t.Errorf("without a callback: %v", err)
	}
}

func (s *suite) seeds(t *testing.T) {
	prompt := s.openEnded(t, 24)
	sampling := func(seed uint64) infer.Sampling {
		return infer.Sampling{MaxTokens: 16, Temperature: 3, Seed: seed, RepeatPenalty: 1.1}
	}
	first := s.run(t, prompt, sampling(1))
	if again := s.run(t, prompt, sampling(1)); !slices.Equal(first.ids, again.ids) {
		t.Errorf("seed 1: %v, then %v", first.ids, again.ids)
	}
	differs := false
	for seed := range uint64(8) {
		differs = differs || !slices.Equal(first.ids, s.run(t, prompt, sampling(seed+2)).ids)
	}
	if !differs {
		t.Error("every seed gives the same tokens")
	}
}

func (s *suite) logProbs(t *testing.T) {
	prompt := s.openEnded(t, 8)
	out := s.run(t, prompt, infer.Sampling{MaxTokens: 8, TopLogProbs: infer.MaxTop})
	vocab := s.model.Info().Vocab
	for i, token := range out.all {
		if !slices.IsSortedFunc(token.Top, func(a, b infer.TokenProb) int { return -compare(a.LogProb, b.LogProb) }) || len(token.Top) != min(vocab, infer.MaxTop) {
			t.Fatalf("token %d: %d of %d alternatives, or not best first", i, len(token.Top), vocab)
		}
		best := token.Top[0]
		if token.ID != best.ID || math.Abs(token.LogProb-best.LogProb) > 1e-5 || token.Piece != best.Text {
			t.Errorf("greedy token %d %q %g, the most likely is %+v", token.ID, token.Piece, token.LogProb, best)
		}
		sum := 0.0
		for _, p := range token.Top {
			sum += math.Exp(p.LogProb)
		}
		if sum > 1+1e-4 || vocab <= infer.MaxTop && sum < 1-1e-4 {
			t.Errorf("token %d: the probabilities add up to %g", i, sum)
		}
	}
	one := s.run(t, prompt, infer.Sampling{MaxTokens: 1, LogProbs: true}).all[0]
	if one.Top != nil || one.Piece == "" || !(one.LogProb <= 0) || math.Abs(one.LogProb-out.all[0].LogProb) > tolerance {
		t.Errorf("log-probabilities without alternatives: %+v", one)
	}

	// Scoring agrees with what was generated: each token was the most likely one, within what rounding changes.
	window := append(slices.Clone(prompt), out.ids...)
	positions, err := s.model.Distributions(s.ctx, [][]int32{window}, infer.DistributionOptions{From: []int{len(prompt)}, Top: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range positions[0] {
		if math.Abs(float64(p.NLL)+out.all[i].LogProb) > tolerance || float64(p.NLL) > -float64(p.TopProbs[0])+tolerance {
			t.Errorf("token %d: generated with log-probability %g, scored with %+v", i, out.all[i].LogProb, p)
		}
	}
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (s *suite) reuse(t *testing.T) {
	prompt := s.openEnded(t, 12)
	if err := s.forget(); err != nil {
		t.Fatal(err)
	}
	fresh := s.run(t, prompt, infer.Sampling{MaxTokens: 12})
	if fresh.stats.ReusedTokens >= len(prompt) {
		t.Errorf("%+v", fresh.stats)
	}
	again := s.run(t, prompt, infer.Sampling{MaxTokens: 12})
	if again.stats.ReusedTokens != len(prompt)-1 || !slices.Equal(fresh.ids, again.ids) {
		t.Errorf("the same prompt again: %+v, %v, before %v", again.stats, again.ids, fresh.ids)
	}
	next := append(append(slices.Clone(prompt), again.ids...), prompt...)
	if out := s.run(t, next, infer.Sampling{MaxTokens: 1}); out.stats.ReusedTokens < len(prompt)+len(again.ids)-1 {
		t.Errorf("the next turn: %+v after %d tokens", out.stats, len(prompt)+len(again.ids))
	}
}

// forget replaces what the model's cache holds.
func (s *suite) forget() error {
	w := s.window(9)
	_, err := s.model.Score(s.ctx, [][]int32{w}, nil)
	return err
}

func (s *suite) stop(t *testing.T) {
	prompt := s.openEnded(t, 8)
	for _, n := range []int{1, 5} {
		if out := s.run(t, prompt, infer.Sampling{MaxTokens: n}); out.stats.Stop != infer.StopLength || len(out.ids) != n || out.stats.Tokens != n {
			t.Errorf("limit of %d tokens: %d, %+v", n, len(out.ids), out.stats)
		}
	}

	// A full context, unless the model ends before: at least one of some seeds fills it.
	full := false
	for seed := range uint64(8) {
		out := s.run(t, s.window(contextSize-6), infer.Sampling{Temperature: 1, Seed: seed})
		switch out.stats.Stop {
		case infer.StopContext:
			full = true
		case infer.StopEnd:
			if len(out.ids) != out.stats.Tokens+1 {
				t.Errorf("%d tokens were emitted: %+v, the end token is one more", len(out.ids), out.stats)
			}
		default:
			t.Errorf("without a limit: %+v", out.stats)
		}
		if out.stats.ContextUsed > contextSize || out.stats.Tokens > 6 {
			t.Errorf("a context of %d: %+v", contextSize, out.stats)
		}
	}
	if !full {
		t.Error("no generation filled the context")
	}

	// Stop strings: the text ends before the first of them, which no token gives away.
	for seed := range uint64(20) {
		o := infer.Sampling{Temperature: 1, Seed: seed, MaxTokens: 60}
		text := s.run(t, prompt, o).text
		found := regexp.MustCompile(`.[[:graph:]]{3}`).FindString(text)
		if found == "" {
			continue
		}
		o.Stop = []string{"\x00 never", found[1:]}
		out := s.run(t, prompt, o)
		want, _, _ := strings.Cut(text, o.Stop[1])
		if out.stats.Stop != infer.StopString || out.text != want {
			t.Errorf("stopped at %q: %q, %+v; want %q", o.Stop[1], out.text, out.stats, want)
		}
		return
	}
	t.Error("no generation has three letters in a row to stop at")
}

func (s *suite) interrupt(t *testing.T) {
	prompt := s.openEnded(t, 64)
	before := s.run(t, prompt, infer.Sampling{MaxTokens: 10})
	usable := func(after string) {
		t.Helper()
		if out := s.run(t, prompt, infer.Sampling{MaxTokens: 10}); !slices.Equal(before.ids, out.ids) {
			t.Errorf("after %s: %v, before %v", after, out.ids, before.ids)
		}
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	calls, returned := 0, false
	stats, err := s.model.Generate(ctx, prompt, infer.Sampling{MaxTokens: 64}, func(infer.Token) error {
		if returned {
			t.Error("a callback after the call has returned")
		}
		if calls++; calls == 3 {
			cancel()
		}
		return nil
	})
	returned = true
	expect(t, "cancelled while generating", err, context.Canceled)
	if stats.Stop != infer.StopAborted || stats.Tokens < 3 || stats.PromptTokens != len(prompt) {
		t.Errorf("cancelled at the third token: %+v", stats)
	}
	usable("a cancelled generation")

	own := errors.New("disk full")
	for _, n := range []int{64, 1} { // in the middle, and with the last token
		calls = 0
		stats, err = s.model.Generate(s.ctx, prompt, infer.Sampling{MaxTokens: n}, func(infer.Token) error { calls++; return own })
		expect(t, "an error of the callback", err, own)
		if stats.Stop != infer.StopAborted || calls != 1 {
			t.Errorf("an error of the callback at a limit of %d: %+v after %d calls", n, stats, calls)
		}
	}
	usable("an error of the callback")

	ctx, cancel = context.WithCancel(s.ctx)
	defer cancel()
	windows := slices.Repeat([][]int32{s.window(100)}, 8)
	nll, err := s.model.Score(ctx, windows, func(infer.Progress) { cancel() })
	expect(t, "cancelled while scoring", err, context.Canceled)
	if nll != nil {
		t.Error("a cancelled scoring has a result")
	}
	usable("a cancelled scoring")
}
