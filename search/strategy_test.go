package search_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/searchtest"
)

// strategies returns every strategy, in sizes for tests.
func strategies() map[string]search.Strategy {
	ladder := search.DefaultLadder()
	ladder.Tiers = []int{64, 256, 1024}
	paper := search.PaperLaptop()
	paper.Tokens, paper.Epochs, paper.Granularity = 256, 0, 4
	random := search.DefaultRandom()
	random.Tokens = 1024
	return map[string]search.Strategy{"ladder": ladder, "paper": paper, "random": random}
}

func landscape() *searchtest.Landscape {
	return searchtest.New(searchtest.Options{Seed: 1, Coupling: 0.3, Noise: 0.02, Text: 4, Error: 0.5})
}

// run runs a search to its end.
func run(t *testing.T, o search.Options) search.Result {
	t.Helper()
	job, err := search.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	result, err := job.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// timeless returns a state without its times.
func timeless(s search.State) search.State {
	history := append([]search.Generation(nil), s.History...)
	for i := range history {
		history[i].Elapsed = 0
	}
	events := append([]search.Event(nil), s.Events...)
	for i := range events {
		events[i].At = search.Event{}.At
	}
	s.History, s.Events = history, events
	return s
}

// same reports whether two states are equal except for times. Masks are compared
// directly, the rest as JSON.
func same(t *testing.T, a, b search.State) bool {
	t.Helper()
	a, b = timeless(a), timeless(b)
	left, errA := json.Marshal(a)
	right, errB := json.Marshal(b)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	return string(left) == string(right) && sameAll(a.Population, b.Population) && sameAll(a.Front, b.Front) && sameAll(a.Pending, b.Pending)
}

func sameAll(a, b []search.Individual) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := a[i], b[i]
		if !x.Masks.Equal(y.Masks) {
			return false
		}
		x.Masks, y.Masks = subnet.Masks{}, subnet.Masks{}
		if !reflect.DeepEqual(x, y) {
			return false
		}
	}
	return true
}

func TestStrategiesImprove(t *testing.T) {
	l := searchtest.New(searchtest.Options{Seed: 1, Coupling: 0.3, Noise: 0.02, Text: 1, Error: 0.5})
	for name, s := range strategies() {
		for _, target := range []float64{0.85, 0.8} {
			result := run(t, search.Options{
				Strategy: s, Problem: l.Problem(search.Ratio(target), 3), Evaluator: l,
				Budget: search.Budget{Generations: 12},
			})
			best, state := result.Best, result.State
			if best.Ratio > target*(1+1e-9) || best.Masks.Validate() != nil {
				t.Errorf("%s at %v: ratio %v, %v", name, target, best.Ratio, best.Masks.Validate())
			}
			first := state.History[0].Best
			// Random masks are seldom better than the most important units.
			if best.Score.Fitness > first || name != "paper" && best.Score.Fitness == first {
				t.Errorf("%s at %v: fitness %v, began at %v", name, target, best.Score.Fitness, first)
			}
			for i := 1; i < len(state.History); i++ {
				if state.History[i].Best > state.History[i-1].Best {
					t.Errorf("%s at %v: the best got worse in generation %d", name, target, i)
				}
			}
			for i, in := range state.Front {
				if i > 0 && (in.Ratio <= state.Front[i-1].Ratio || in.Score.Fitness >= state.Front[i-1].Score.Fitness) {
					t.Errorf("%s at %v: the front is not one at %d", name, target, i)
				}
			}
			if state.Spent.Tokens == 0 || state.Spent.Evaluations == 0 || len(state.Points) == 0 {
				t.Errorf("%s at %v: %+v, %d points", name, target, state.Spent, len(state.Points))
			}
			t.Logf("%s at %v: loss %.4f after %d tokens, began at fitness %.4f", name, target, l.Loss(best.Masks), state.Spent.Tokens, first)
		}
	}
}

// TestLadderFindsTheOptimum compares a search with wrong predictions with the
// optimum: without coupling, that is the one-shot allocation by exact predictions.
func TestLadderFindsTheOptimum(t *testing.T) {
	exact := searchtest.New(searchtest.Options{Seed: 5})
	problem := exact.Problem(search.Ratio(0.7), 1)
	ladder := strategies()["ladder"]
	optimum := exact.Loss(run(t, search.Options{
		Strategy: ladder, Problem: problem, Evaluator: exact, Budget: search.Budget{Generations: 1},
	}).Best.Masks)

	// The same landscape with wrong predictions.
	wrong := searchtest.New(searchtest.Options{Seed: 5, Error: 1})
	result := run(t, search.Options{
		Strategy: ladder, Problem: wrong.Problem(search.Ratio(0.7), 1), Evaluator: wrong, Budget: search.Budget{Generations: 40},
	})
	began := wrong.Loss(result.State.Population[0].Masks)
	for _, in := range result.State.Front {
		if in.ID == 1 {
			began = wrong.Loss(in.Masks)
		}
	}
	found := wrong.Loss(result.Best.Masks)
	if found < optimum-1e-9 {
		t.Fatalf("loss %.5f is below the optimum %.5f", found, optimum)
	}
	if found > 1.02*optimum {
		t.Errorf("loss %.5f, the optimum is %.5f, it began at %.5f", found, optimum, began)
	}
}

// TestLadderBeatsTheOthers compares at equal tokens, over seeds.
func TestLadderBeatsTheOthers(t *testing.T) {
	loss := map[string]float64{}
	for seed := range uint64(3) {
		l := searchtest.New(searchtest.Options{Seed: 10 + seed, Coupling: 0.3, Noise: 0.02, Text: 4, Error: 0.7})
		for name, s := range strategies() {
			result := run(t, search.Options{
				Strategy: s, Problem: l.Problem(search.Ratio(0.7), seed), Evaluator: l, Budget: search.Budget{Tokens: 100_000},
			})
			loss[name] += l.Loss(result.Best.Masks) / 3
		}
	}
	t.Logf("mean loss %v", loss)
	if loss["ladder"] >= loss["random"] || loss["ladder"] >= loss["paper"] {
		t.Errorf("ladder is not the best: %v", loss)
	}
}

func TestLimitText(t *testing.T) {
	for _, c := range []struct{ tokens, last, tiers int }{{100_000, 8192, 3}, {8192, 8192, 3}, {8000, 8000, 3}, {2049, 2049, 3}, {2048, 2048, 2}, {512, 512, 1}, {100, 100, 1}} {
		l := search.DefaultLadder()
		if last := l.LimitText(c.tokens); last != c.last || len(l.Tiers) != c.tiers || l.Tiers[len(l.Tiers)-1] != last {
			t.Errorf("%d tokens: tiers %v, %d in full", c.tokens, l.Tiers, last)
		}
	}
	for name, s := range strategies() {
		if got := s.LimitText(10); got != 10 {
			t.Errorf("%s: %d of 10 tokens", name, got)
		}
		if s.UsesLevels() != (name != "paper") {
			t.Errorf("%s: levels %v", name, s.UsesLevels())
		}
	}
}

func TestDeterminism(t *testing.T) {
	l := landscape()
	for name, s := range strategies() {
		end := func(seed uint64) search.State {
			return run(t, search.Options{
				Strategy: s, Problem: l.Problem(search.Ratio(0.75), seed), Evaluator: l, Budget: search.Budget{Generations: 6},
			}).State
		}
		if !same(t, end(1), end(1)) {
			t.Errorf("%s: the same seed ended in another state", name)
		}
		if same(t, end(1), end(2)) {
			t.Errorf("%s: another seed ended in the same state", name)
		}
	}
}

func TestImpossibleTargets(t *testing.T) {
	l := landscape()
	for name, s := range strategies() {
		for _, target := range []search.Target{
			search.Ratio(0.0001),
			{Measure: search.Bytes, Value: 1000, Type: "F16"},
			{Measure: search.Memory, Value: 1000, Type: "Q8_0", Context: 100},
		} {
			_, err := search.NewJob(search.Options{Strategy: s, Problem: l.Problem(target, 1), Evaluator: l})
			if !errors.Is(err, search.ErrTarget) || !strings.Contains(err.Error(), "the nearest possible is") {
				t.Errorf("%s to %v: %v", name, target, err)
			}
		}
		for _, target := range []search.Target{
			search.Ratio(0), search.Ratio(1.5), search.Ratio(math.NaN()), {Measure: "weight", Value: 1}, {Measure: search.Bytes, Value: 1e9, Type: "Q9"},
		} {
			if _, err := search.NewJob(search.Options{Strategy: s, Problem: l.Problem(target, 1), Evaluator: l}); !errors.Is(err, search.ErrConfig) {
				t.Errorf("%s to %v: %v", name, target, err)
			}
		}
	}
}

func TestMeasures(t *testing.T) {
	l := landscape()
	dense := subnet.Dense(l.Geometry)
	latency, _ := l.Seconds(dense, "")
	for _, target := range []search.Target{
		{Measure: search.Bytes, Value: 0.8 * float64(dense.GGUFBytes("Q8_0")), Type: "Q8_0"},
		{Measure: search.Bytes, Value: 0.7 * float64(dense.GGUFBytes("F16"))},
		{Measure: search.Memory, Value: 0.8 * float64(dense.GGUFBytes("F16")+dense.Size().KVBytesPerToken*256), Type: "F16", Context: 64},
		{Measure: search.Latency, Value: 0.8 * latency},
		{Measure: search.Speed, Value: 1 / 1.25},
	} {
		for name, s := range strategies() {
			state := run(t, search.Options{
				Strategy: s, Problem: l.Problem(target, 1), Evaluator: l, Budget: search.Budget{Generations: 5},
			}).State
			best := state.Population[0]
			if cost := target.Cost(best.Masks, l); cost != best.Cost || cost > target.Value*(1+1e-9) || cost < 0.9*target.Value {
				t.Errorf("%s to %v: costs %v, by its masks %v", name, target, best.Cost, cost)
			}
			if i, err := search.Best(state.Front, target, l); err != nil || state.Front[i].Score.Fitness > best.Score.Fitness {
				t.Errorf("%s to %v: the best of the front is %d (%v)", name, target, i, err)
			}
			if share := (&search.Problem{Geometry: l.Geometry, Prices: l}).ShareOf(target); share < 0.4 || share > 0.95 {
				t.Errorf("%v is a ratio of %v", target, share)
			}
		}
	}
}

// One front serves targets of all kinds, and one that none of it meets is refused with the nearest possible.
func TestBestOfAFront(t *testing.T) {
	l := landscape()
	state := run(t, search.Options{Strategy: search.DefaultLadder(), Problem: l.Problem(search.Ratio(0.7), 1), Evaluator: l, Budget: search.Budget{Generations: 20}}).State
	for _, text := range []string{"0.7", "0.9", "350kB", "memory=600kB@256:Q8_0", "speed=1.1x", "latency=0.38ms"} {
		target, err := search.ParseTarget(text, "")
		if err != nil {
			t.Fatal(err)
		}
		i, err := search.Best(state.Front, target, l)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		for _, in := range state.Front {
			if target.Cost(in.Masks, l) <= target.Value && in.Score.Fitness < state.Front[i].Score.Fitness {
				t.Errorf("%s: #%d is better than #%d and fits", text, in.ID, state.Front[i].ID)
			}
		}
	}
	for text, nearest := range map[string]string{"1kB": "kB", "speed=9x": "x", "0.01": "0."} {
		target, err := search.ParseTarget(text, "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = search.Best(state.Front, target, l)
		if !errors.Is(err, search.ErrTarget) {
			t.Fatalf("%s: %v", text, err)
		}
		_, after, found := strings.Cut(err.Error(), "the nearest possible is")
		if !found || !strings.Contains(after, nearest) {
			t.Errorf("%s: %v", text, err)
		}
		offered, err := search.ParseTarget(after[strings.LastIndex(after, ": ")+2:], "")
		if err != nil {
			t.Fatalf("%s: the target offered in %q: %v", text, after, err)
		}
		if _, err := search.Best(state.Front, offered, l); err != nil {
			t.Errorf("%s: the target offered, %s, is refused: %v", text, offered.Text(), err)
		}
	}
	if _, err := search.Best(state.Front, search.Target{Measure: search.Speed, Value: 0.5}, nil); !errors.Is(err, search.ErrTarget) {
		t.Errorf("without times: %v", err)
	}
}

func TestNaNFitness(t *testing.T) {
	l := landscape()
	n := 0
	l.Fitness = func(_ search.Candidate, f float64) float64 {
		if n++; n > 4 && n%3 == 0 {
			return []float64{math.NaN(), math.Inf(1)}[n%2]
		}
		return f
	}
	for name, s := range strategies() {
		n = 0
		state := run(t, search.Options{
			Strategy: s, Problem: l.Problem(search.Ratio(0.8), 1), Evaluator: l, Budget: search.Budget{Generations: 5},
		}).State
		if state.Spent.Dropped == 0 {
			t.Errorf("%s: nothing was dropped", name)
		}
		for _, in := range append(state.Population, state.Front...) {
			if math.IsNaN(in.Score.Fitness) || math.IsInf(in.Score.Fitness, 0) {
				t.Errorf("%s: #%d has fitness %v", name, in.ID, in.Score.Fitness)
			}
		}
		reported := false
		for _, e := range state.Events {
			reported = reported || strings.Contains(e.Text, "their fitness is NaN or infinite")
		}
		if !reported {
			t.Errorf("%s: no event reports it", name)
		}
	}
	l.Fitness = func(search.Candidate, float64) float64 { return math.NaN() }
	for name, s := range strategies() {
		job, err := search.NewJob(search.Options{Strategy: s, Problem: l.Problem(search.Ratio(0.8), 1), Evaluator: l, Unattended: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := job.Run(context.Background()); err == nil || !strings.Contains(err.Error(), "NaN or infinite") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
