package search

import (
	"context"
	"math"

	"github.com/lathe-llm/lathe/search/space"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Candidate is a subnet to score.
type Candidate struct {
	Masks subnet.Masks
	// Choice is what levels it is made of, with their re-fitted weights; nil
	// where the masks stand alone, with the original weights.
	Choice space.Choice
}

// Tier says how much text a candidate is scored on, and which.
type Tier struct {
	Tokens int
	// Draw picks the text: the same draw and number of tokens is the same text.
	Draw uint64
}

// Score is what an [Evaluator] finds.
type Score struct {
	// Fitness is minimised, in nats per token.
	Fitness float64
	// NLL is the negative log-likelihood in nats per token and KL the divergence
	// from the dense model; 0 where they were not measured.
	NLL, KL float64
	// Tokens are those computed, whether or not some of their layers came from a
	// cache, so that it is the same for the same work.
	Tokens int64
	// Parts are the fitness on parts of the text, the same parts for every
	// candidate scored on it; nil where they are not known.
	Parts []float64 `json:",omitempty"`
}

// surely reports whether s is better than another score on the same text by more
// than luck explains: by as many standard errors of the difference, which the
// parts of the text show. Where there are no parts, better is better.
func (s Score) surely(other Score, errors float64) bool {
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
	return mean >= errors*math.Sqrt(max(0, square-mean*mean)/float64(n-1))
}

// Perplexity is exp(NLL), or 0 where it was not measured.
func (s Score) Perplexity() float64 {
	if s.NLL == 0 {
		return 0
	}
	return math.Exp(s.NLL)
}

// valid reports whether the fitness is a number.
func (s Score) valid() bool { return !math.IsNaN(s.Fitness) && !math.IsInf(s.Fitness, 0) }

// Evaluator scores candidates. The score of a candidate must depend on it and on
// the tier alone, so that a resumed search sees what the unbroken one saw.
type Evaluator interface {
	// Evaluate scores every candidate of the batch and calls done once for each
	// as soon as its score is known, in any order but never at the same time. A
	// fitness that is no number is reported as it is. When ctx ends it returns
	// ctx's error soon; what was reported until then counts.
	Evaluate(ctx context.Context, batch []Candidate, tier Tier, done func(i int, s Score)) error
}

// Origin says how an individual came to be.
type Origin string

// The origins.
const (
	Seeded    Origin = "start"     // one-shot choice at the start of a search
	Mutated   Origin = "mutation"  // a parent with few changes
	Crossed   Origin = "crossover" // of two parents
	Fresh     Origin = "fresh"     // drawn anew
	Learned   Origin = "learned"   // allocated by sensitivities learned so far
	ByHand    Origin = "you"       // put in by a person
	ForOthers Origin = "front"     // at another size, for the front
)

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
	Score      Score   // of the last tier it reached
	Tier       int     // how many tiers it was scored on, 0 for none
}

// better orders individuals for people and for selection: those scored further
// first, then by fitness, then the older.
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
