package infertest

import (
	"math"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer"
)

func near(a, b float32) bool { return math.Abs(float64(a-b)) <= tolerance }

func (s *suite) score(t *testing.T) {
	long := s.window(contextSize)
	windows := [][]int32{long, {}, long[:1], long[:2], long[:70], long[30:60]}
	var last infer.Progress
	nll, err := s.model.Score(s.ctx, windows, func(p infer.Progress) {
		if p.Done < last.Done || p.Done > p.Total || last.Total != 0 && p.Total != last.Total {
			t.Errorf("progress %+v after %+v", p, last)
		}
		last = p
	})
	if err != nil {
		t.Fatal(err)
	}
	if last.Done != last.Total || last.Total == 0 {
		t.Errorf("progress ends at %+v", last)
	}
	if len(nll) != len(windows) {
		t.Fatalf("%d results for %d windows", len(nll), len(windows))
	}
	for w, window := range windows {
		if len(nll[w]) != max(0, len(window)-1) {
			t.Errorf("window %d of %d tokens has %d values", w, len(window), len(nll[w]))
		}
		for i, v := range nll[w] {
			if !(v >= 0) || math.IsInf(float64(v), 0) {
				t.Errorf("window %d: value %d is %g", w, i, v)
			}
			if w == 3 || w == 4 { // a prefix of the first window
				if !near(v, nll[0][i]) {
					t.Errorf("token %d: %g in a prefix of %d tokens, %g in the whole window", i+1, v, len(window), nll[0][i])
				}
			}
		}
	}
	again, err := s.model.Score(s.ctx, [][]int32{long}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(again[0], nll[0], near) {
		t.Error("the same window scored again differs")
	}
	if none, err := s.model.Score(s.ctx, nil, nil); err != nil || len(none) != 0 {
		t.Errorf("no windows: %v, %v", none, err)
	}
}

func (s *suite) distributions(t *testing.T) {
	window := s.window(90)
	vocab := s.model.Info().Vocab
	nll, err := s.model.Score(s.ctx, [][]int32{window}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const from = 41
	at := make([][]int32, len(window)-from)
	for i := range at {
		at[i] = []int32{window[from+i], 5, 0}[:1+i%3]
	}
	o := infer.DistributionOptions{From: []int{from, 1, 7}, Top: infer.MaxTop, At: [][][]int32{at, make([][]int32, 1), nil}}
	got, err := s.model.Distributions(s.ctx, [][]int32{window, window[:2], window[:3]}, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || len(got[0]) != len(at) || len(got[1]) != 1 || len(got[2]) != 0 {
		t.Fatalf("%d windows; want %d, 1 and 0 positions", len(got), len(at))
	}
	if !near(got[1][0].NLL, nll[0][0]) || len(got[1][0].At) != 0 {
		t.Errorf("the second window: %+v, want %g", got[1][0], nll[0][0])
	}
	for i, p := range got[0] {
		if !near(p.NLL, nll[0][from+i-1]) {
			t.Errorf("position %d: %g, scored %g", from+i, p.NLL, nll[0][from+i-1])
		}
		if len(p.At) != len(at[i]) || p.At[0] != -p.NLL {
			t.Errorf("position %d: tokens %v have %v beside %g", from+i, at[i], p.At, -p.NLL)
		}
		if n := min(vocab, infer.MaxTop); len(p.Top) != n || len(p.TopProbs) != n {
			t.Fatalf("position %d: %d tokens and %d values of %d", from+i, len(p.Top), len(p.TopProbs), n)
		}
		if p.Greedy != (p.Top[0] == window[from+i]) {
			t.Errorf("position %d: token %d, the most likely is %d, greedy: %v", from+i, window[from+i], p.Top[0], p.Greedy)
		}
		sum := 0.0
		for j, v := range p.TopProbs {
			sum += math.Exp(float64(v))
			if j > 0 && v > p.TopProbs[j-1] {
				t.Errorf("position %d: the most likely tokens are not best first: %v", from+i, p.TopProbs)
				break
			}
		}
		if sum > 1+1e-4 || vocab <= infer.MaxTop && sum < 1-1e-4 {
			t.Errorf("position %d: the probabilities add up to %g", from+i, sum)
		}
		for j, id := range at[i] {
			if k := slices.Index(p.Top, id); k >= 0 && math.Abs(float64(p.TopProbs[k]-p.At[j])) > 1e-5 {
				t.Errorf("position %d: token %d has %g among the most likely, %g where requested", from+i, id, p.TopProbs[k], p.At[j])
			}
		}
	}
	few, err := s.model.Distributions(s.ctx, [][]int32{window}, infer.DistributionOptions{Top: 3})
	if err != nil {
		t.Fatal(err)
	}
	if p := few[0][from-1]; len(p.Top) != 3 || p.At != nil || !near(p.TopProbs[0], got[0][0].TopProbs[0]) {
		t.Errorf("three tokens: %+v", p)
	}
}

func (s *suite) bench(t *testing.T) {
	var runs []string
	got, err := s.model.Bench(s.ctx, infer.BenchOptions{Prompt: []int{16, 40}, Gen: []int{3}, Repeats: 2, Progress: func(test string, p infer.Progress) {
		if p.Done != len(runs) || p.Total != 6 {
			t.Errorf("progress %+v before run %d", p, len(runs))
		}
		runs = append(runs, test)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"pp16", "pp16", "pp40", "pp40", "tg3", "tg3"}; !slices.Equal(runs, want) {
		t.Errorf("runs %q, want %q", runs, want)
	}
	names, sizes := []string{"pp16", "pp40", "tg3"}, []int{16, 40, 3}
	if len(got.Rows) != len(names) || got.Load <= 0 || got.Memory.Weights <= 0 {
		t.Fatalf("result %+v", got)
	}
	for i, row := range got.Rows {
		if row.Test != names[i] || row.Tokens != sizes[i] || row.Threads != 1 || len(row.Samples) != 2 || !(row.Mean() > 0) || !(row.StdDev() >= 0) {
			t.Errorf("row %d: %+v", i, row)
		}
	}
	if got, err = s.model.Bench(s.ctx, infer.BenchOptions{Gen: []int{1}, Depth: 20}); err != nil || len(got.Rows) != 1 ||
		got.Rows[0].Test != "tg1@d20" || len(got.Rows[0].Samples) != infer.DefaultRepeats {
		t.Errorf("at a depth: %+v, %v", got, err)
	}
	if out := s.run(t, s.window(8), infer.Sampling{MaxTokens: 1}); out.stats.ReusedTokens > 7 {
		t.Errorf("after a benchmark: %+v", out.stats)
	}
}
