package search

import "testing"

// TestBestOfTheGenerationUnderWay has a better candidate scored before its generation ends.
func TestBestOfTheGenerationUnderWay(t *testing.T) {
	of := func(id, tier int, cost, fitness float64) Individual {
		return Individual{ID: id, Tier: tier, Cost: cost, Score: Score{Fitness: fitness}}
	}
	s := Snapshot{Target: Ratio(0.8), State: State{Population: []Individual{of(1, 2, 0.8, 0.5)}, Ladder: &LadderState{Tiers: make([]int, 2)}}}
	for _, c := range []struct {
		name    string
		scoring []Individual
		want    int
	}{
		{"none is scored", nil, 1},
		{"worse", []Individual{of(2, 2, 0.8, 0.6)}, 1},
		{"better", []Individual{of(2, 2, 0.8, 0.6), of(3, 2, 0.79, 0.4)}, 3},
		{"better on less text", []Individual{of(3, 1, 0.79, 0.4)}, 1},
		{"better and too large", []Individual{of(3, 2, 0.9, 0.4)}, 1},
	} {
		s.Scoring = c.scoring
		if got, ok := s.Best(); !ok || got.ID != c.want {
			t.Errorf("%s: best is %d, want %d", c.name, got.ID, c.want)
		}
	}
}
