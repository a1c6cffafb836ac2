package search

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// Problem is the problem that a search solves. It does not change during the
// search; the target, which may, is in the [State].
type Problem struct {
	// Model identifies the model file, usually by a hash of it. Checkpoints are
	// bound to it.
	Model    string
	Geometry *subnet.Geometry
	// Levels are what [Ladder] and [Random] choose from.
	Levels *space.Levels
	// Start returns the first masks of [Paper]: the most important units, as many
	// of each head and of each MLP as [subnet.Count] returns for the ratios and the
	// granularities of the space. If nil, the units are random.
	Start func(s space.Space, attention, mlp float64) (subnet.Masks, error)
	// Target is the one that the search starts with.
	Target Target
	// Prices are what targets other than ratios are measured by; nil allows ratios
	// only.
	Prices Prices
	Seed   uint64
}

// rng returns the RNG of one phase of one generation. It depends on nothing else,
// so that no RNG state needs to be stored.
func (p *Problem) rng(generation int, phase uint64) *rand.Rand {
	return rand.New(rand.NewPCG(p.Seed, uint64(generation)<<16|phase))
}

func (p *Problem) check() error {
	if err := p.Geometry.Validate(); err != nil {
		return err
	}
	return p.Target.check()
}

// checkLevels reports levels that are missing, wrong or of another model.
func (p *Problem) checkLevels() error {
	if p.Levels == nil {
		return fmt.Errorf("%w: the strategy chooses among levels, and there are none", ErrConfig)
	}
	if err := p.Levels.Validate(); err != nil {
		return err
	}
	if !p.Levels.Geometry.Equal(p.Geometry) {
		return fmt.Errorf("%w: the levels are of another model", ErrConfig)
	}
	return nil
}

// candidate returns the subnet of a choice.
func (p *Problem) candidate(c space.Choice) (Candidate, error) { return p.candidateOver(c, nil) }

// candidateOver returns the subnet of a choice whose exact modules, if it has any, are
// those of a base.
func (p *Problem) candidateOver(c space.Choice, base *space.Base) (Candidate, error) {
	if !slices.Contains(c, space.Exact) {
		base = nil
	}
	m, err := p.Levels.MasksOver(c, base)
	return Candidate{Masks: m, Choice: c, Base: base}, err
}
