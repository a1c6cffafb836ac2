package score_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/score"
	"github.com/lathe-llm/lathe/search/space"
)

func text(seed uint64, count, tokens, vocab int) [][]int32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([][]int32, count)
	for i := range out {
		for range tokens {
			out[i] = append(out[i], int32(rng.IntN(vocab)))
		}
	}
	return out
}

// set is a tiny random model with its levels and an evaluator.
type set struct {
	m     *decoder.Model
	store *levels.Store
	eval  *score.Evaluator
	text  [][]int32
}

func newSet(t *testing.T, opts ...decoder.Option) set {
	t.Helper()
	be, err := decoder.OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	m, err := decoder.Load(t.Context(), be, gguftest.Open(t, gguftest.Tiny("llama")), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	vocab := m.Geometry().Vocab
	store, err := levels.Build(t.Context(), m, text(1, 3, 48, vocab), t.TempDir(), levels.Options{Steps: 4, Granularity: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	s := set{m: m, store: store, text: text(2, 4, 32, vocab)}
	if s.eval, err = score.New(m, store, s.text, score.Perplexity); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.eval.Close)
	return s
}

// plain scores a candidate by a forward pass of a subnet made separately.
func (s set) plain(t *testing.T, c space.Choice, windows [][]int32) float64 {
	t.Helper()
	spec, err := s.store.Subnet(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := s.m.Subnet(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	got, err := s.m.Score(t.Context(), sub, windows)
	if err != nil {
		t.Fatal(err)
	}
	return got.NLL / float64(got.Tokens)
}

func (s set) candidate(t *testing.T, c space.Choice) search.Candidate {
	t.Helper()
	masks, err := s.store.Levels().Masks(c)
	if err != nil {
		t.Fatal(err)
	}
	return search.Candidate{Masks: masks, Choice: c}
}

// TestNothingInCommon scores subnets that keep one layer each, one made from the other.
func TestNothingInCommon(t *testing.T) {
	s := newSet(t)
	l := s.store.Levels()
	for _, only := range []int{0, 2, 1} {
		c := l.Smallest()
		for module := range subnet.Modules {
			c[subnet.Modules*only+module] = 0
		}
		want := s.plain(t, c, s.text[:2])
		err := s.eval.Evaluate(t.Context(), []search.Candidate{s.candidate(t, c)}, search.Tier{Tokens: 64}, func(_ int, got search.Score) {
			if math.Abs(got.Fitness-want) > 1e-5 {
				t.Errorf("layer %d alone: %v, a separate forward pass has %v", only, got.Fitness, want)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestAgainstPlainForward scores random choices, near and far from one another.
func TestAgainstPlainForward(t *testing.T) {
	s := newSet(t)
	l := s.store.Levels()
	rng := rand.New(rand.NewPCG(3, 3))
	c := l.Dense()
	for range 12 {
		c = append(space.Choice(nil), c...)
		for range 1 + rng.IntN(3) {
			slot := rng.IntN(l.Slots())
			c[slot] = int16(rng.IntN(len(l.Ladder(slot))))
		}
		if _, err := l.Masks(c); err != nil {
			continue
		}
		want := s.plain(t, c, s.text[:2])
		err := s.eval.Evaluate(t.Context(), []search.Candidate{s.candidate(t, c)}, search.Tier{Tokens: 64}, func(_ int, got search.Score) {
			if math.Abs(got.Fitness-want) > 1e-5 || got.Tokens != 64 {
				t.Errorf("%v: %v on %d tokens, a separate forward pass has %v", c, got.Fitness, got.Tokens, want)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestTiers(t *testing.T) {
	s := newSet(t)
	c := s.store.Levels().Dense()
	on := func(tier search.Tier) search.Score {
		var out search.Score
		if err := s.eval.Evaluate(t.Context(), []search.Candidate{s.candidate(t, c)}, tier, func(_ int, got search.Score) { out = got }); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if a, b := on(search.Tier{Tokens: 16, Draw: 5}), on(search.Tier{Tokens: 16, Draw: 5}); !reflect.DeepEqual(a, b) || a.Tokens != 16 {
		t.Errorf("the same tier gave %+v and %+v", a, b)
	}
	if a, b := on(search.Tier{Tokens: 16, Draw: 5}), on(search.Tier{Tokens: 16, Draw: 6}); a.Fitness == b.Fitness {
		t.Error("another draw gave the same")
	}
	if got := on(search.Tier{Tokens: 96, Draw: 3}); got.Tokens != 96 {
		t.Errorf("three windows have %d tokens", got.Tokens)
	}
	if got, want := on(search.Tier{Tokens: 10_000}), s.plain(t, c, s.text); got.Tokens != 128 || math.Abs(got.NLL-want) > 1e-5 {
		t.Errorf("all the text: %+v, want %v", got, want)
	}
}

// TestDivergence: the dense model diverges from itself by nothing, a cut one by
// something, and candidates that begin alike share the work.
func TestDivergence(t *testing.T) {
	s := newSet(t)
	eval, err := score.New(s.m, s.store, s.text, "")
	if err != nil {
		t.Fatal(err)
	}
	defer eval.Close()
	l := s.store.Levels()
	batch := []search.Candidate{s.candidate(t, l.Dense())}
	for slot := range l.Slots() {
		c := l.Dense()
		c[slot] = 1
		batch = append(batch, s.candidate(t, c))
	}
	err = eval.Evaluate(t.Context(), batch, search.Tier{Tokens: 64}, func(i int, got search.Score) {
		if got.Fitness != got.KL || i == 0 && math.Abs(got.KL) > 1e-5 || i > 0 && got.KL < 1e-6 || got.NLL <= 0 {
			t.Errorf("candidate %d: %+v", i, got)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if share := eval.Reused(); share <= 0 || share >= 1 {
		t.Errorf("%.2f of the layers were reused", share)
	}
}

// TestWeightLimit scores random choices with all weights on the device and with room for one block, to the last bit the same.
func TestWeightLimit(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	var scores [2][]search.Score
	var batch []search.Candidate
	for i, limit := range []int64{0, 1} {
		s := newSet(t, decoder.WithWeights(limit))
		l := s.store.Levels()
		for i == 0 && len(batch) < 8 {
			c := l.Dense()
			for slot := range c {
				c[slot] = int16(rng.IntN(len(l.Ladder(slot))))
			}
			if _, err := l.Masks(c); err == nil {
				batch = append(batch, s.candidate(t, c))
			}
		}
		scores[i] = make([]search.Score, len(batch))
		if err := s.eval.Evaluate(t.Context(), batch, search.Tier{Tokens: 64}, func(j int, got search.Score) { scores[i][j] = got }); err != nil {
			t.Fatal(err)
		}
		if _, most := s.m.ResidentBytes(); limit > 0 && most > decoder.WeightBytes(s.m.Geometry(), limit) {
			t.Errorf("%d bytes of weights at most", most)
		}
	}
	for i, want := range scores[0] {
		if !reflect.DeepEqual(scores[1][i], want) {
			t.Errorf("candidate %d: %+v, want %+v", i, scores[1][i], want)
		}
	}
}

// TestSearch runs a whole search over a real, if tiny, model.
func TestSearch(t *testing.T) {
	s := newSet(t)
	if _, err := s.eval.Probe(t.Context(), 4, nil, nil); err != nil {
		t.Fatal(err)
	}
	ladder := search.DefaultLadder()
	ladder.Lambda, ladder.Tiers, ladder.Front = 4, []int{32, 128}, nil
	job, err := search.NewJob(search.Options{
		Strategy: ladder, Evaluator: s.eval, Budget: search.Budget{Generations: 3}, Unattended: true,
		Problem: search.Problem{Model: "tiny", Geometry: s.m.Geometry(), Levels: s.store.Levels(), Target: search.Ratio(0.7), Seed: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	result, err := job.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if result.Best.Ratio > 0.7 || result.Best.Score.Fitness > result.State.History[0].Best {
		t.Errorf("best has ratio %v and fitness %v, it began at %v", result.Best.Ratio, result.Best.Score.Fitness, result.State.History[0].Best)
	}
	if want := s.plain(t, result.Best.Choice, s.text); math.Abs(result.Best.Score.Fitness-want) > 1e-5 {
		t.Errorf("fitness %v, a separate forward pass has %v", result.Best.Score.Fitness, want)
	}
}

func TestMasksAlone(t *testing.T) {
	s := newSet(t)
	m := subnet.Dense(s.m.Geometry())
	l := m.Layer(0)
	l.Channels = subnet.Range(l.Channels.N(), 0, 16)
	m = m.With(0, l)
	if err := s.eval.Evaluate(t.Context(), []search.Candidate{{Masks: m}}, search.Tier{Tokens: 32}, func(_ int, got search.Score) {
		if got.NLL <= 0 {
			t.Errorf("%+v", got)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestRefuses(t *testing.T) {
	s := newSet(t)
	if _, err := score.New(s.m, s.store, nil, ""); !errors.Is(err, score.ErrText) {
		t.Errorf("no text: %v", err)
	}
	if _, err := score.New(s.m, s.store, s.text, "beauty"); !errors.Is(err, search.ErrConfig) {
		t.Errorf("unknown fitness: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.eval.Evaluate(ctx, []search.Candidate{s.candidate(t, s.store.Levels().Dense())}, search.Tier{Tokens: 32}, func(int, search.Score) {})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPredicted(t *testing.T) {
	s := newSet(t)
	l := s.store.Levels()
	_, err := score.Predicted(s.store, func(m subnet.Masks) float64 { return float64(m.Geometry().BlockParams() - m.BlockParams()) })
	if err != nil {
		t.Fatal(err)
	}
	for slot := range l.Slots() {
		ladder := l.Ladder(slot)
		half := ladder[len(ladder)/2]
		if want := float64(ladder[0].Params - half.Params); math.Abs(half.Loss-want) > 1e-6*want {
			t.Errorf("slot %d: half of it is predicted to lose %v, want %v", slot, half.Loss, want)
		}
	}
}
