package explorer_test

import (
	"math"
	"testing"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestEstimatesMeetTheTruth follows estimates of subnets with and without re-fitted weights, measured before and after
// there were statistics, through a restart. The fake estimate is 0.9 of the true rise of the loss.
func TestEstimatesMeetTheTruth(t *testing.T) {
	workspace := t.TempDir()
	b := explorertest.New()
	e := explorertest.Open(t, b, workspace)
	check := func(what string, refitted bool, rises ...float64) {
		t.Helper()
		got := e.Snapshot().Draft.Estimate
		if got.Refitted != refitted || got.Compared != len(rises) {
			t.Errorf("%s: %d compared, re-fitted %v; want %d, %v", what, got.Compared, got.Refitted, len(rises), refitted)
			return
		}
		want := 0.0
		for _, r := range rises { // at most two: their median is their mean
			want += math.Expm1(0.1*r) / float64(len(rises))
		}
		if math.Abs(got.Spread-want) > 1e-12 {
			t.Errorf("%s: typically %g off, want %g", what, got.Spread, want)
		}
	}
	rise := func() float64 { return explorertest.Loss(e.Snapshot().Draft.Masks) }

	check("a new exploration", false)
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.8}).Subnet
	explorertest.Do(t, e, explorer.Measure{Subnet: cut})
	explorertest.Do(t, e, explorer.Checkout{Subnet: cut})
	check("measured without statistics", true)
	explorertest.Do(t, e, explorer.GatherStatistics{})
	fitted := rise()
	check("the statistics came later", true, fitted)
	explorertest.Do(t, e, explorer.Measure{Subnet: cut})
	explorertest.Do(t, e, explorer.GatherStatistics{})
	check("measured twice", true, fitted)

	explorertest.Do(t, e, explorer.Checkout{Subnet: explorer.DenseID})
	explorertest.Do(t, e, explorer.Measure{Subnet: explorer.DraftID})
	check("nothing was cut", false)
	explorertest.Do(t, e, explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{9}}}})
	explorertest.Do(t, e, explorer.Measure{Subnet: explorer.DraftID})
	one := rise()
	check("an edit", false, one)
	explorertest.Do(t, e, explorer.Edit{Mutations: []draft.Mutation{draft.DropAttention{Layers: []int{4}}}})
	check("an edit that was not measured", false, one)
	saved := explorertest.Do(t, e, explorer.SaveDraft{Name: "two edits"}).Subnet
	explorertest.Do(t, e, explorer.Measure{Subnet: saved})
	explorertest.Do(t, e, explorer.Measure{Subnet: explorer.DraftID}) // the same masks again
	two := rise()
	check("two edits", false, one, two)

	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time, the journal is what the first wrote
		e = explorertest.Open(t, b, workspace)
		check("after a restart", false, one, two)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHeldOutStaysApart keeps the held-out perplexity of a cut with the subnet, and out of its measurements.
func TestHeldOutStaysApart(t *testing.T) {
	workspace := t.TempDir()
	b := explorertest.New()
	e := explorertest.Open(t, b, workspace)
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.8}).Subnet
	copied := explorertest.Do(t, e, explorer.DuplicateSubnet{Subnet: cut}).Subnet
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = explorertest.Open(t, b, workspace)
	for _, id := range []explorer.SubnetID{cut, copied} {
		n, _ := e.Snapshot().Subnet(id)
		if k := n.HeldOut; k.Perplexity <= 0 || k.Unfitted <= k.Perplexity || len(n.Measurements) != 0 {
			t.Errorf("%s: held-out %+v, %d measurements", id, k, len(n.Measurements))
		}
	}
}
