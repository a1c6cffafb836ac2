package search_test

import (
	"context"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/searchtest"
	"github.com/lathe-llm/lathe/search/space"
)

// handMade returns masks that no choice of levels has: every second channel, one head in two of the first layer, and less inside
// the heads of the second.
func handMade(t *testing.T, l *searchtest.Landscape) subnet.Masks {
	t.Helper()
	m := subnet.Dense(l.Geometry)
	for i := range m.Layers() {
		layer := m.Layer(i)
		n := layer.Channels.N()
		layer.Channels = subnet.Empty(n)
		for c := 0; c < n; c += 2 {
			layer.Channels = layer.Channels.With(c)
		}
		m = m.With(i, layer)
	}
	first := m.Layer(0)
	first.Heads = subnet.Of(first.Heads.N(), 0, 2, 4, 6)
	m = m.With(0, first)
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestHandMadeEntersAsItIs injects a subnet that is better than what levels reach. It becomes the parent with its own masks and
// weights, mutations of it change few modules to levels and keep the others, and a resumed search ends like one that was not
// interrupted.
func TestHandMadeEntersAsItIs(t *testing.T) {
	l := landscape()
	hand := handMade(t, l)
	l.Fitness = func(c search.Candidate, fitness float64) float64 {
		if c.Base == nil {
			return fitness
		}
		for _, v := range c.Choice { // the more exact modules the better, but for one
			if v == space.Exact {
				fitness -= 0.5
			}
		}
		if c.Base.Weights != "fitted" || c.Choice == nil {
			t.Errorf("scored with the weights %q and the choice %v", c.Base.Weights, c.Choice)
		}
		if c.Choice[1] != space.Exact {
			fitness -= 2
		}
		return fitness
	}
	whole := func(store search.Store, stopAt int) (search.Result, error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		count := 0
		l.Before = func(context.Context, search.Candidate, search.Tier) error {
			if count++; count == stopAt {
				cancel()
				return ctx.Err()
			}
			return nil
		}
		job, err := search.NewJob(search.Options{
			Strategy: strategies()["ladder"], Problem: l.Problem(search.Ratio(0.8), 3), Evaluator: l, Store: store, Resume: true,
			Budget: search.Budget{Generations: 9}, Unattended: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		if job.Snapshot().State.Generation == 0 {
			if err := job.Inject(space.Base{Masks: hand, Weights: "fitted"}, "mine"); err != nil {
				t.Fatal(err)
			}
		}
		return job.Run(ctx)
	}
	result, err := whole(&memory{}, -1)
	if err != nil {
		t.Fatal(err)
	}
	yours, children := false, 0
	for _, in := range slices.Concat(result.State.Population, result.State.Front) {
		if in.Origin == search.ByHand {
			yours = true
			if !in.Masks.Equal(hand) {
				t.Error("its masks were changed")
			}
		}
		if in.Base == nil || in.Origin == search.ByHand {
			continue
		}
		children++
		own := 0
		for s, v := range in.Choice {
			got, was := in.Masks.Layer(s/subnet.Modules), hand.Layer(s/subnet.Modules)
			if v != space.Exact {
				continue
			}
			own++
			if subnet.Module(s%subnet.Modules) == subnet.MLP && !got.Channels.Equal(was.Channels) ||
				subnet.Module(s%subnet.Modules) == subnet.Attention && !got.Heads.Equal(was.Heads) {
				t.Errorf("#%d: the exact module %d has other units", in.ID, s)
			}
		}
		if own == 0 || own == len(in.Choice) || in.Ratio > 0.8+1e-9 {
			t.Errorf("#%d has %d exact modules of %d at ratio %v", in.ID, own, len(in.Choice), in.Ratio)
		}
	}
	best := result.Best
	if !yours && best.Base == nil || children == 0 || best.Base == nil || best.Choice[1] == space.Exact {
		t.Errorf("yours %v, %d children, the best is %v", yours, children, best.Choice)
	}
	for stopAt := 40; stopAt < 160; stopAt += 30 {
		store := &memory{}
		_, err := whole(store, stopAt)
		if err == nil {
			t.Fatalf("it was not interrupted at candidate %d", stopAt)
		}
		resumed, err := whole(store, -1)
		if err != nil {
			t.Fatal(err)
		}
		if !same(t, result.State, resumed.State) {
			t.Errorf("interrupted at candidate %d, it ends in another state", stopAt)
		}
	}
}
