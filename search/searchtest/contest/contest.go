// Package contest compares search strategies at equal cost: the loss of the best
// subnet of each after so many tokens computed, over several seeds. It is for
// tests and benchmarks.
//
// Strategies score their candidates on text of their own choice, so their
// fitnesses are not comparable. A [Judge], the same for all, measures the loss;
// its tokens are not counted.
package contest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lathe-llm/lathe/search"
)

// Judge measures the loss of a subnet in nats per token, on text that no strategy
// searches on.
type Judge func(ctx context.Context, c search.Candidate) (float64, error)

// OnText judges by the fitness of an evaluator on one tier.
func OnText(e search.Evaluator, t search.Tier) Judge {
	return func(ctx context.Context, c search.Candidate) (float64, error) {
		loss := math.NaN()
		err := e.Evaluate(ctx, []search.Candidate{c}, t, func(_ int, s search.Score) { loss = s.Fitness })
		return loss, err
	}
}

// A Contest configures a comparison.
type Contest struct {
	Strategies []search.Strategy
	// Names label the strategies; nil uses their own names.
	Names     []string
	Problem   search.Problem
	Evaluator search.Evaluator
	Judge     Judge
	Seeds     []uint64
	// Tokens is what each search may compute.
	Tokens int64
	// Final judges subnets at the end of a search only, for slow judges.
	Final bool
	// Progress, unless nil, is called after every generation.
	Progress func(name string, seed uint64, s search.Spent)
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}

// A Sample is the best subnet of a search at one moment.
type Sample struct {
	Tokens      int64   // computed so far
	Evaluations int     // so far
	Seconds     float64 // so far, judging left out
	Loss        float64 // as judged
	ID          int
}

// A Series is one search: a sample whenever its best subnet changed, and one at
// the end.
type Series struct {
	Strategy string
	Seed     uint64
	Samples  []Sample
}

// Run runs every strategy with every seed, one after another.
func Run(ctx context.Context, c Contest) ([]Series, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	var all []Series
	for i, s := range c.Strategies {
		name := s.Name()
		if c.Names != nil {
			name = c.Names[i]
		}
		for _, seed := range c.Seeds {
			series, err := c.one(ctx, s, name, seed)
			if err != nil {
				return all, fmt.Errorf("contest: %s, seed %d: %w", name, seed, err)
			}
			all = append(all, series)
		}
	}
	return all, nil
}

func (c *Contest) one(ctx context.Context, s search.Strategy, name string, seed uint64) (Series, error) {
	p := c.Problem
	p.Seed = seed
	out := Series{Strategy: name, Seed: seed}
	if err := s.Check(&p, p.Target); err != nil {
		return out, err
	}
	var spent time.Duration
	// advance runs one generation with the clock running.
	advance := func(f func() (search.State, error)) (search.State, error) {
		since := c.Now()
		defer func() { spent += c.Now().Sub(since) }()
		return f()
	}
	state, err := advance(func() (search.State, error) { return s.Start(ctx, &p, c.score) })
	for last := 0; err == nil; {
		best, ok := state.Best()
		over := state.Spent.Tokens >= c.Tokens || state.Done != ""
		if ok && (best.ID != last && !c.Final || over) {
			sample, err := c.sample(ctx, state, best, spent)
			if err != nil {
				return out, err
			}
			out.Samples = append(out.Samples, sample)
			last = best.ID
		}
		if c.Progress != nil {
			c.Progress(name, seed, state.Spent)
		}
		if over {
			return out, nil
		}
		before := state
		state, err = advance(func() (search.State, error) { return s.Step(ctx, &p, before, c.score) })
	}
	return out, err
}

func (c *Contest) sample(ctx context.Context, s search.State, best search.Individual, spent time.Duration) (Sample, error) {
	loss, err := c.Judge(ctx, best.Candidate)
	return Sample{Tokens: s.Spent.Tokens, Evaluations: s.Spent.Evaluations, Seconds: spent.Seconds(), Loss: loss, ID: best.ID}, err
}

// score is the strategies' scorer.
func (c *Contest) score(ctx context.Context, batch []search.Individual, _ int, t search.Tier) ([]search.Score, error) {
	candidates := make([]search.Candidate, len(batch))
	for i, in := range batch {
		candidates[i] = in.Candidate
	}
	scores := make([]search.Score, len(batch))
	err := c.Evaluator.Evaluate(ctx, candidates, t, func(i int, s search.Score) { scores[i] = s })
	return scores, err
}

// At returns the loss of the best subnet that was known after so many tokens, and
// false before there was one.
func (s Series) At(tokens int64) (float64, bool) {
	at, found := slices.BinarySearchFunc(s.Samples, tokens, func(a Sample, t int64) int { return cmp.Compare(a.Tokens, t) })
	if found {
		at++
	}
	if at == 0 {
		return 0, false
	}
	return s.Samples[at-1].Loss, true
}

// After returns the loss of the best subnet that was known after so many seconds,
// and false before there was one.
func (s Series) After(seconds float64) (float64, bool) {
	loss, ok := 0.0, false
	for _, a := range s.Samples {
		if a.Seconds <= seconds {
			loss, ok = a.Loss, true
		}
	}
	return loss, ok
}
