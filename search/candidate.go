package search

import (
	"context"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// Candidate is a subnet to score.
type Candidate struct {
	Masks subnet.Masks
	// Choice holds the levels that the masks consist of, with their re-fitted
	// weights; nil for masks with the original weights.
	Choice space.Choice
	// Base is the subnet made by hand that exact modules of Choice are of, or all
	// modules if Choice is nil; nil where none is.
	Base *space.Base
}

// exact identifies which modules are of the base, "" where none is.
func (c Candidate) exact() string {
	if c.Base == nil {
		return ""
	}
	modules := make([]byte, 0, len(c.Choice))
	for _, v := range c.Choice {
		bit := byte('0')
		if v == space.Exact {
			bit = '1'
		}
		modules = append(modules, bit)
	}
	return c.Base.Weights + ":" + string(modules)
}

// Tier is the text that a candidate is scored on.
type Tier struct {
	Tokens int
	// Draw selects the text: the same draw and number of tokens is the same text.
	Draw uint64
}

// Score is the result of an evaluation.
type Score struct {
	// Fitness is minimised, in nats per token.
	Fitness float64
	// NLL is the negative log-likelihood in nats per token and KL the divergence
	// from the dense model; 0 where they were not measured.
	NLL, KL float64
	// Tokens counts those computed, including layers that came from a cache, so
	// that it is the same for the same work.
	Tokens int64
	// Parts are the fitness on parts of the text, the same parts for every
	// candidate scored on it; nil where they are not known.
	Parts []float64 `json:",omitempty"`
	// Late is set where an asynchronous evaluator did not wait for the score.
	Late bool `json:",omitempty"`
}

// NotWaitedFor returns the score of a candidate that an asynchronous evaluator goes on
// without. Its fitness is NaN.
func NotWaitedFor() Score { return Score{Fitness: math.NaN(), Late: true} }

// Plus returns the score with a loss added, in nats per token, that the text does not show.
func (s Score) Plus(loss float64) Score {
	s.Fitness += loss
	if s.NLL != 0 {
		s.NLL += loss
	}
	if s.KL != 0 {
		s.KL += loss
	}
	s.Parts = slices.Clone(s.Parts)
	for i := range s.Parts {
		s.Parts[i] += loss
	}
	return s
}

// significantlyBetter reports whether s is better than another score on the same
// text by at least z standard errors of the difference, estimated from the parts of
// the text. Without parts any difference is significant.
func (s Score) significantlyBetter(other Score, z float64) bool {
	if s.Fitness >= other.Fitness {
		return false
	}
	n := len(s.Parts)
	if n < 2 || len(other.Parts) != n {
		return true
	}
	var mean, square float64
	for i, v := range s.Parts {
		d := other.Parts[i] - v
		mean += d / float64(n)
		square += d * d / float64(n)
	}
	return mean >= z*math.Sqrt(max(0, square-mean*mean)/float64(n-1))
}

// Perplexity is exp(NLL), or 0 where it was not measured.
func (s Score) Perplexity() float64 {
	if s.NLL == 0 {
		return 0
	}
	return math.Exp(s.NLL)
}

// valid reports whether the fitness is finite.
func (s Score) valid() bool { return !math.IsNaN(s.Fitness) && !math.IsInf(s.Fitness, 0) }

// Evaluator scores candidates. The score of a candidate must depend on it and on
// the tier alone, so that a resumed search sees what the unbroken one saw.
type Evaluator interface {
	// Evaluate scores every candidate of the batch and calls done once for each
	// as soon as its score is known, in any order, one call at a time; done may
	// block. A NaN or infinite fitness is reported like any other. Soon after ctx
	// ends it returns ctx's error; scores reported until then are valid.
	Evaluate(ctx context.Context, batch []Candidate, tier Tier, done func(i int, s Score)) error
}

// Origin is how an individual was made.
type Origin string

// The origins.
const (
	Seeded    Origin = "start"     // one-shot choice at the start of a search
	Mutated   Origin = "mutation"  // a parent with few changes
	Crossed   Origin = "crossover" // of two parents
	Fresh     Origin = "fresh"     // random
	Learned   Origin = "learned"   // allocated by the sensitivities learned so far
	ByHand    Origin = "you"       // injected by a person
	ForOthers Origin = "front"     // at another size, for the front
)

// Plain is the dense model in a plain type, which a search over types compares its candidates with.
type Plain struct {
	Type  string  // "" is that of the source
	Bytes int64   // of the file
	NLL   float64 // mean negative log-likelihood, in nats per token
}

// Individual is a candidate with its history.
type Individual struct {
	Candidate
	ID         int // from 1, in order of creation
	Parent     int // 0 for none
	Generation int
	Origin     Origin
	Moves      string  // what it changed over its parent, for people
	Ratio      float64 // inheriting ratio over the block matrices
	Cost       float64 // in the unit of the target's measure
	// Bytes is the size of the file of a choice of levels that have types, and Tensors that of its tensors; 0 for others.
	Bytes   int64 `json:",omitempty"`
	Tensors int64 `json:",omitempty"`
	Score   Score // of the last tier it reached
	Tier    int   // how many tiers it was scored on, 0 for none
}

// better orders individuals, for people and for selection: those scored on more
// tiers first, then by fitness, then by age.
func better(a, b Individual) int {
	switch {
	case a.Tier != b.Tier:
		return b.Tier - a.Tier
	case a.Score.Fitness < b.Score.Fitness:
		return -1
	case a.Score.Fitness > b.Score.Fitness:
		return 1
	}
	return a.ID - b.ID
}
