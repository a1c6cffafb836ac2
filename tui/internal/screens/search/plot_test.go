package search

import (
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/tui/internal/chart"
)

// TestChartHasTheGenerationUnderWay charts candidates that are scored before the first generation ends, and those of less text
// outside the front.
func TestChartHasTheGenerationUnderWay(t *testing.T) {
	of := func(id, tier int, ratio, kl float64) explorer.Candidate {
		return explorer.Candidate{Individual: search.Individual{ID: id, Tier: tier, Ratio: ratio, Score: search.Score{Fitness: kl}}, Tiers: 2}
	}
	sr := explorer.Search{
		Cloud:      []search.Point{{ID: 1, Ratio: 0.8, Fitness: 0.5, Tier: 2}},
		Population: []explorer.Candidate{of(1, 2, 0.8, 0.5), of(2, 2, 0.8, 0.4), of(3, 1, 0.8, 0.1), of(4, 0, 0.8, 0)},
	}
	cloud, full := scoredPoints(sr)
	if len(cloud) != 3 || len(full) != 2 {
		t.Fatalf("%d points, %d of them on all of the text", len(cloud), len(full))
	}
	if front := chart.Front(full); len(front) != 1 || front[0].Y != 0.4 {
		t.Errorf("front %v", front)
	}
}
