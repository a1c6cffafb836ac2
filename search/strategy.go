package search

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Scorer scores individuals on the text of the strategy's n-th tier, from 1. It
// returns one score for each, NaN and infinite fitnesses included.
type Scorer func(ctx context.Context, batch []Individual, n int, tier Tier) ([]Score, error)

// Strategy is a way to search. Its methods are pure: their results depend on their
// arguments and the scores alone. Its fields are its options; checkpoints are
// bound to their JSON.
type Strategy interface {
	// Name is its name on the command line.
	Name() string
	// UsesLevels reports whether it needs the levels of a [Problem].
	UsesLevels() bool
	// LimitText adapts the options to a text of so many tokens, and returns how
	// many of them a candidate is scored on in full.
	LimitText(tokens int) int
	// Check reports options or a problem that it cannot work with. The error for
	// a target below the smallest subnet wraps [ErrTarget] and contains that size.
	Check(p *Problem, t Target) error
	// Start returns the state before the first generation, with one-shot subnets
	// scored.
	Start(ctx context.Context, p *Problem, eval Scorer) (State, error)
	// Step runs one generation. After an error s is still valid.
	Step(ctx context.Context, p *Problem, s State, eval Scorer) (State, error)
	// Accepts returns an error for a state that is not one of this strategy and
	// problem.
	Accepts(p *Problem, s State) error
	// Retarget returns the state that continues from s with another target.
	Retarget(p *Problem, s State, t Target) State
}

// Names lists the names of the strategies, the default first.
func Names() []string {
	return []string{"ladder", "paper", "paper+", "paper-laptop", "random", "uniform"}
}

// New returns a strategy with its defaults by one of [Names]; "" is ladder.
func New(name string) (Strategy, error) {
	switch name {
	case "", "ladder":
		return DefaultLadder(), nil
	case "paper":
		return PaperFull(), nil
	case "paper+":
		return PaperPlus(), nil
	case "paper-laptop":
		return PaperLaptop(), nil
	case "random":
		return DefaultRandom(), nil
	case "uniform":
		return DefaultUniform(), nil
	}
	return nil, fmt.Errorf("%w: strategy %q is not one of %s", ErrConfig, name, strings.Join(Names(), ", "))
}

// generation is a state in the making.
type generation struct {
	p    *Problem
	s    State
	eval Scorer
	full int // the tier whose scores count for the front
}

func (g *generation) rng(phase uint64) *rand.Rand { return g.p.rng(g.s.Generation, phase) }

// individual makes a candidate an individual of this generation.
func (g *generation) individual(c Candidate, parent int, o Origin, moves string) Individual {
	g.s.NextID++
	in := Individual{
		Candidate: c, ID: g.s.NextID, Parent: parent, Generation: g.s.Generation, Origin: o, Moves: moves,
		Ratio: float64(c.Masks.BlockParams()) / float64(g.p.Geometry.BlockParams()),
	}
	in.Bytes, in.Tensors = g.p.sizes(c)
	in.Cost = in.cost(g.s.Target, g.p.Prices)
	return in
}

// score scores the batch on the n-th tier and returns those whose fitness is
// finite, best first.
func (g *generation) score(ctx context.Context, batch []Individual, n int, tier Tier) ([]Individual, error) {
	if len(batch) == 0 {
		return nil, nil
	}
	scores, err := g.eval(ctx, batch, n, tier)
	if err != nil {
		return nil, err
	}
	kept := make([]Individual, 0, len(batch))
	late := 0
	for i, in := range batch {
		if scores[i].Late {
			late++
			continue
		}
		g.s.Spent.Evaluations++
		g.s.Spent.Tokens += scores[i].Tokens
		if !scores[i].valid() {
			g.s.Spent.Dropped++
			continue
		}
		in.Score, in.Tier = scores[i], n
		kept = append(kept, in)
		g.s.Points = append(g.s.Points, Point{ID: in.ID, Ratio: in.Ratio, Fitness: in.Score.Fitness, NLL: in.Score.NLL, Tier: n})
		if n == g.full {
			g.s.addToFront(in)
		}
	}
	g.s.Points = thinned(g.s.Points, maxPoints)
	if late > 0 {
		g.s.event(fmt.Sprintf("%d of %d candidates were not waited for", late, len(batch)))
	}
	if dropped := len(batch) - len(kept) - late; dropped > 0 {
		g.s.event(fmt.Sprintf("%d of %d candidates dropped: their fitness is NaN or infinite", dropped, len(batch)))
	}
	slices.SortStableFunc(kept, better)
	return kept, nil
}

// within reports whether an individual costs no more than the target.
func within(in Individual, t Target) bool { return t.allows(in.Cost) }

// fingerprint identifies masks among those of one model: equal masks have equal
// fingerprints, others practically never.
func fingerprint(m subnet.Masks) uint64 {
	// FNV-1a over the bits, spread by a final mix.
	h := uint64(14695981039346656037)
	for _, b := range m.AppendBits(nil) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	h ^= h >> 32
	h *= 0x9E3779B97F4A7C15
	return h ^ h>>29
}

// finite returns x, or 0 if it is NaN or infinite.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}
