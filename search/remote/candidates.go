package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/search"
)

// Evaluate implements [search.Evaluator]. It returns when all candidates have scores or, if the exchange is asynchronous, when those that are
// left are not worth waiting for.
func (e *Exchange) Evaluate(ctx context.Context, batch []search.Candidate, tier search.Tier, done func(int, search.Score)) error {
	return e.run(ctx, e.newCandidates(batch, tier, done))
}

// candidates is a batch of candidates on one text.
type candidates struct {
	e     *Exchange
	batch []search.Candidate
	tier  search.Tier
	each  func(int, search.Score)
	index map[string][]int // where each key is in the batch
	order []string         // keys that are not returned by changed yet
}

func (e *Exchange) newCandidates(batch []search.Candidate, tier search.Tier, done func(int, search.Score)) *candidates {
	c := &candidates{e: e, batch: batch, tier: tier, each: done, index: map[string][]int{}}
	order := make([]int, len(batch))
	for i := range order {
		order[i] = i
	}
	// Candidates with a common prefix of levels follow one another, so that a worker computes it once.
	slices.SortStableFunc(order, func(a, b int) int { return slices.Compare(batch[a].Choice, batch[b].Choice) })
	identity := e.spec().identity()
	for _, i := range order {
		key := keyOf(identity, batch[i], tier)
		if c.index[key] == nil {
			c.order = append(c.order, key)
		}
		c.index[key] = append(c.index[key], i)
	}
	return c
}

func (c *candidates) changed() (more, less []string, open bool) {
	more, c.order = c.order, nil
	return more, nil, false
}

func (c *candidates) single() bool { return false }

func (c *candidates) message(ctx context.Context, keys []string) ([]byte, int, error) {
	for n := len(keys); ; n = (n + 1) / 2 {
		batch := make([]search.Candidate, n)
		for i, key := range keys[:n] {
			batch[i] = c.batch[c.index[key][0]]
		}
		t, err := newTask(batch, c.tier, func(weights string) (File, error) { return c.e.offerBase(ctx, weights) })
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errTask, err)
		}
		t.Phase = c.e.spec().Phase
		data, err := json.Marshal(t)
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", errTask, err)
		}
		if len(data) <= maxTask {
			return data, n, nil
		}
		if n == 1 {
			return nil, 0, fmt.Errorf("%w: a candidate has %d bytes, messages have %d at most", errTask, len(data), maxTask)
		}
	}
}

// offerBase makes the weights of a subnet made by hand available.
func (e *Exchange) offerBase(ctx context.Context, weights string) (File, error) {
	if e.o.Base == nil {
		return File{}, errors.New("there are no weights of subnets made by hand")
	}
	path, err := e.o.Base(weights)
	if err != nil {
		return File{}, err
	}
	f, err := HashFile(ctx, path)
	if err != nil {
		return File{}, err
	}
	return f, e.Offer(f, path)
}

func (c *candidates) read(data []byte) (any, error) {
	_, s, err := decodeResult(data)
	return s, err
}

func (c *candidates) done(ctx context.Context, key string, result any) error {
	s, ok := result.(search.Score)
	if !ok {
		return fmt.Errorf("%w: no score", errUnusable) // of a piece of work
	}
	for _, i := range c.index[key] {
		if err := ctx.Err(); err != nil {
			return err
		}
		c.each(i, s)
	}
	return nil
}

func (c *candidates) here(ctx context.Context, key, reason string) (any, error) {
	i := c.index[key][0]
	if c.e.o.Local == nil {
		return nil, fmt.Errorf("remote: %s: %s", c.name(key), reason)
	}
	c.e.o.Note(fmt.Sprintf("%s: %s: it is scored by the search itself", c.name(key), reason))
	var got *search.Score
	err := c.e.o.Local.Evaluate(ctx, c.batch[i:i+1], c.tier, func(_ int, s search.Score) { got = &s })
	if err != nil {
		return nil, err
	}
	if got == nil {
		return nil, errors.New("remote: the search's own evaluator left out a candidate")
	}
	return *got, nil
}

// late passes a candidate on without a score. Its score is kept when it arrives.
func (c *candidates) late(ctx context.Context, key string) bool {
	_ = c.done(ctx, key, search.NotWaitedFor()) // its error is that of ctx, which the round finds too
	return true
}

// name names a candidate by the beginning of its key and its share of block parameters.
func (c *candidates) name(key string) string {
	m := c.batch[c.index[key][0]].Masks
	return fmt.Sprintf("candidate %.8s (%.3f of the block parameters)", key, float64(m.BlockParams())/float64(max(1, m.Geometry().BlockParams())))
}
