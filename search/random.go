package search

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/search/space"
)

// Random scores random choices of levels that just fit the target, each in full.
// It is the baseline that the other strategies are compared with.
type Random struct {
	Batch  int // choices per generation
	Tokens int // of text each is scored on
}

// DefaultRandom returns the options that go with those of [DefaultLadder].
func DefaultRandom() *Random { return &Random{Batch: 8, Tokens: 8192} }

// Name returns "random".
func (r *Random) Name() string { return "random" }

// UsesLevels implements [Strategy].
func (r *Random) UsesLevels() bool { return true }

// LimitText implements [Strategy].
func (r *Random) LimitText(tokens int) int {
	r.Tokens = min(r.Tokens, tokens)
	return r.Tokens
}

// Check reports options, levels or a target that the strategy cannot work with.
func (r *Random) Check(p *Problem, t Target) error {
	if r.Batch < 1 || r.Tokens < 1 {
		return fmt.Errorf("%w: random with batches of %d on %d tokens", ErrConfig, r.Batch, r.Tokens)
	}
	return checkChoices(p, t)
}

// Start scores the first choice.
func (r *Random) Start(ctx context.Context, p *Problem, eval Scorer) (State, error) {
	g := &generation{p: p, eval: eval, full: 1, s: State{Target: p.Target}}
	if err := r.run(ctx, g, 1); err != nil {
		return State{}, err
	}
	if len(g.s.Population) == 0 {
		return State{}, fmt.Errorf("search: the fitness of the initial subnet is NaN or infinite")
	}
	g.s.close()
	return g.s, nil
}

// Step scores one batch.
func (r *Random) Step(ctx context.Context, p *Problem, s State, eval Scorer) (State, error) {
	g := &generation{p: p, s: s.clone(), eval: eval, full: 1}
	if err := r.run(ctx, g, r.Batch); err != nil {
		return State{}, err
	}
	g.s.close()
	return g.s, nil
}

func (r *Random) run(ctx context.Context, g *generation, n int) error {
	c := newCosts(g.p, g.s.Target)
	rng := g.rng(phaseMutate)
	batch := g.s.Pending
	g.s.Pending = nil
	for range n {
		for range maxTries {
			if in, ok := g.propose(batch, draw(rng, c), Individual{}, Fresh); ok {
				batch = append(batch, in)
				break
			}
		}
	}
	scored, err := g.score(ctx, batch, 1, Tier{Tokens: r.Tokens})
	if err != nil {
		return err
	}
	best := g.s.Population[:min(1, len(g.s.Population))]
	g.s.Population = append(slices.Clone(best), slices.DeleteFunc(scored, func(in Individual) bool { return !within(in, g.s.Target) })...)
	slices.SortStableFunc(g.s.Population, better)
	return nil
}

// draw takes random steps down from the dense choice until it is within the budget.
func draw(rng *rand.Rand, c costs) space.Choice {
	choice := make(space.Choice, len(c.level))
	for !c.fits(choice) {
		var open []int
		for s, v := range choice {
			if int(v)+1 < len(c.level[s]) {
				open = append(open, s)
			}
		}
		if len(open) == 0 {
			return c.cheapest()
		}
		choice[open[rng.IntN(len(open))]]++
	}
	return choice
}

// Retarget keeps the known subnets that fit.
func (r *Random) Retarget(p *Problem, s State, t Target) State {
	s = s.clone()
	s.Target, s.Done = t, ""
	s.Population = repriced(p, append(slices.Clone(s.Front), s.Population...), t)
	slices.SortStableFunc(s.Population, better)
	s.Population = slices.CompactFunc(s.Population, func(a, b Individual) bool { return a.ID == b.ID })
	s.event(fmt.Sprintf("target changed to %v", t))
	return s
}

// Accepts implements [Strategy]: it accepts every state.
func (r *Random) Accepts(*Problem, State) error { return nil }
