package sample

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
)

func logs(p ...float64) []float32 {
	out := make([]float32, len(p))
	for i := range p {
		out[i] = float32(math.Log(p[i]))
	}
	return out
}

// next samples a token from finite logits.
func next(t testing.TB, s *Sampler, logits []float32) int32 {
	t.Helper()
	id, err := s.Next(logits)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestFilters(t *testing.T) {
	logits := logs(0.1, 0.4, 0.05, 0.3, 0.15)
	tests := []struct {
		name string
		o    infer.Sampling
		want []int32 // possible tokens
	}{
		{"greedy", infer.Sampling{}, []int32{1}},
		{"all", infer.Sampling{Temperature: 1}, []int32{0, 1, 2, 3, 4}},
		{"top-k", infer.Sampling{Temperature: 1, TopK: 2}, []int32{1, 3}},
		{"top-k above the vocabulary", infer.Sampling{Temperature: 1, TopK: 99}, []int32{0, 1, 2, 3, 4}},
		{"top-p", infer.Sampling{Temperature: 1, TopP: 0.71}, []int32{1, 3, 4}},
		{"top-p below the first", infer.Sampling{Temperature: 1, TopP: 0.01}, []int32{1}},
		{"min-p", infer.Sampling{Temperature: 1, MinP: 0.5}, []int32{1, 3}},
		{"min-p of one", infer.Sampling{Temperature: 1, MinP: 1}, []int32{1}},
		{"top-k then top-p", infer.Sampling{Temperature: 1, TopK: 3, TopP: 0.6}, []int32{1, 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := New(tt.o, nil)
			seen := map[int32]bool{}
			for range 2000 {
				seen[next(t, s, logits)] = true
			}
			var got []int32
			for id := range seen {
				got = append(got, id)
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("sampled %v, want %v", got, tt.want)
			}
		})
	}
}

// TestFrequencies compares frequencies with the softmax at a temperature, within four standard errors.
func TestFrequencies(t *testing.T) {
	p := []float64{0.1, 0.4, 0.05, 0.3, 0.15}
	const n, temperature = 40000, 2.0
	sum := 0.0
	for _, x := range p {
		sum += math.Pow(x, 1/temperature)
	}
	s := New(infer.Sampling{Temperature: temperature, Seed: 7}, nil)
	counts := make([]float64, len(p))
	logits := logs(p...)
	for range n {
		counts[next(t, s, logits)]++
	}
	for i, x := range p {
		want := math.Pow(x, 1/temperature) / sum
		if tolerance := 4 * math.Sqrt(want*(1-want)/n); math.Abs(counts[i]/n-want) > tolerance {
			t.Errorf("token %d: %.4f, want %.4f ± %.4f", i, counts[i]/n, want, tolerance)
		}
	}
}

func TestSeed(t *testing.T) {
	logits := make([]float32, 100)
	draw := func(seed uint64) (out []int32) {
		s := New(infer.Sampling{Temperature: 1, Seed: seed}, nil)
		for range 20 {
			out = append(out, next(t, s, logits))
		}
		return out
	}
	if !slices.Equal(draw(3), draw(3)) {
		t.Error("equal seeds differ")
	}
	if slices.Equal(draw(3), draw(4)) {
		t.Error("different seeds agree")
	}
}

func TestRepeatPenalty(t *testing.T) {
	logits := []float32{2, 1.9, -1, -1.1}
	s := New(infer.Sampling{RepeatPenalty: 1.2, RepeatLast: 2}, []int32{2, 0, -5, 99})
	var got []int32
	for range 4 {
		got = append(got, next(t, s, logits))
	}
	// 99 and -5 fill the memory of two at first; after 0 the penalty gives 2/1.2 < 1.9; after 0, 1 both are penalised.
	if want := []int32{0, 1, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("sampled %v, want %v", got, want)
	}
	if logits[0] != 2 {
		t.Error("the caller's logits changed")
	}
}

// TestNextAllocatesNothing: one token of a vocabulary of usual size takes no memory.
func TestNextAllocatesNothing(t *testing.T) {
	logits := make([]float32, 5000)
	for i := range logits {
		logits[i] = float32(i*i%97) / 10
	}
	s := New(infer.Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05, RepeatPenalty: 1.1}, nil)
	for range 2 * DefaultRepeatLast { // the buffers reach their size
		next(t, s, logits)
	}
	if n := testing.AllocsPerRun(100, func() { next(t, s, logits) }); n >= 1 {
		t.Errorf("%g allocations per token", n)
	}
}

// TestBrokenLogits: one logit that is NaN or infinite is an error that names its token, whatever is sampled.
func TestBrokenLogits(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, o := range []infer.Sampling{{}, {Temperature: 1}, {Temperature: 1, TopK: 1}, {RepeatPenalty: 1.3}} {
		for _, tt := range []struct {
			logits []float32
			token  int32
			text   string
		}{
			{[]float32{0, 1, nan, 3}, 2, "token 2: logit NaN"},
			{[]float32{0, inf, nan, 3}, 1, "token 1: logit +Inf"},
			{[]float32{-inf, 1, 2, 3}, 0, "token 0: logit -Inf"},
		} {
			_, err := New(o, nil).Next(tt.logits)
			var bad *BadLogit
			if !errors.As(err, &bad) || bad.Token != tt.token || !errors.Is(err, infer.ErrNotFinite) || !strings.HasPrefix(err.Error(), tt.text) {
				t.Errorf("%+v, %v: got %v", o, tt.logits, err)
			}
		}
	}
}

func TestTop(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		logits := make([]float32, 1+rng.IntN(300))
		for i := range logits {
			logits[i] = float32(rng.IntN(40)) // many ties
		}
		order := make([]int32, len(logits))
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortStableFunc(order, func(a, b int32) int { return int(logits[b] - logits[a]) })
		k := 1 + rng.IntN(len(logits))
		lse := LogSumExp(logits)
		ids, probs := Top(logits, k, lse)
		if !slices.Equal(ids, order[:k]) {
			t.Fatalf("top %d of %v: %v, want %v", k, logits, ids, order[:k])
		}
		if want := float64(logits[ids[0]]) - lse; math.Abs(float64(probs[0])-want) > 1e-6 {
			t.Errorf("log-probability %v, want %v", probs[0], want)
		}
	}
}

func TestLogSumExp(t *testing.T) {
	logits := logs(0.5, 0.25, 0.25)
	for i := range logits {
		logits[i] += 300 // far beyond what exp holds in float32
	}
	if got := LogSumExp(logits); math.Abs(got-300) > 1e-4 {
		t.Errorf("got %v, want 300", got)
	}
}

func BenchmarkNext(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	logits := make([]float32, 49152)
	for i := range logits {
		logits[i] = float32(rng.NormFloat64() * 3)
	}
	s := New(infer.Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05, RepeatPenalty: 1.1}, nil)
	for b.Loop() {
		if _, err := s.Next(logits); err != nil {
			b.Fatal(err)
		}
	}
}
