package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// score is the [Scorer] that strategies are given: it adds to the evaluator what
// is remembered of an unfinished generation, pauses, the end of the time and the
// view from outside.
func (j *Job) score(ctx context.Context, batch []Individual, n int, tier Tier) ([]Score, error) {
	scores := make([]Score, len(batch))
	var missing []int
	j.update(func() {
		j.shown.Scoring, j.shown.Tier, j.shown.Text = slices.Clone(batch), n, tier
	})
	for i, in := range batch {
		if s, ok := j.memo[keyOf(in.Candidate, tier)]; ok {
			scores[i] = s
			j.scored(i, n, s)
		} else {
			missing = append(missing, i)
		}
	}
	for len(missing) > 0 {
		if err := j.gate(ctx); err != nil {
			return nil, err
		}
		left, err := j.attempt(ctx, batch, missing, n, tier, scores)
		if err != nil {
			return nil, err
		}
		missing = left
	}
	return scores, nil
}

// attempt asks the evaluator for the missing scores once and returns what is
// still missing because of an interruption.
func (j *Job) attempt(ctx context.Context, batch []Individual, missing []int, n int, tier Tier, scores []Score) ([]int, error) {
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	if !j.interruptible(cancel) {
		return missing, nil
	}
	candidates := make([]Candidate, len(missing))
	for k, i := range missing {
		candidates[k] = batch[i].Candidate
	}
	known := make([]bool, len(missing))
	err := j.o.Evaluator.Evaluate(run, candidates, tier, func(k int, s Score) {
		i := missing[k]
		scores[i], known[k] = s, true
		j.memo[keyOf(batch[i].Candidate, tier)] = s
		if j.scored(i, n, s) {
			cancel()
		}
	})
	interrupted := run.Err() != nil
	j.interruptible(nil)
	var left []int
	for k, i := range missing {
		if !known[k] {
			left = append(left, i)
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case len(left) == 0 || interrupted:
		return left, nil
	case err == nil:
		err = errors.New("the evaluator left candidates out")
	}
	return nil, fmt.Errorf("search: scoring: %w", err)
}

// interruptible sets what an order calls to break off the evaluation. It is false
// when such an order has come in meanwhile.
func (j *Job) interruptible(cancel context.CancelFunc) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.interrupt = cancel
	return cancel == nil || !j.paused && !j.stopped
}

// scored shows a score and reports whether the time is over.
func (j *Job) scored(i, n int, s Score) bool {
	over := false
	j.update(func() {
		j.tick()
		j.rate.add(j.elapsed, s.Tokens)
		// The slice shown may be in a viewer's hands: never change it.
		j.shown.Scoring = slices.Clone(j.shown.Scoring)
		j.shown.Scoring[i].Score, j.shown.Scoring[i].Tier = s, n
		j.shown.Spent.Evaluations++
		j.shown.Spent.Tokens += s.Tokens
		if !s.valid() {
			j.shown.Spent.Dropped++
		}
		over = j.timeOver()
	})
	return over
}

// gate returns at once while the job may go on and blocks while it is paused.
func (j *Job) gate(ctx context.Context) error {
	if err := j.wait(ctx); err != nil {
		return err
	}
	over := false
	j.update(func() {
		j.shown.Status = Running
		if j.since.IsZero() {
			j.since = j.o.Now()
		}
		over = j.timeOver()
	})
	if over {
		return errTime
	}
	return nil
}

// wait blocks while the job is paused, the clock standing.
func (j *Job) wait(ctx context.Context) error {
	for {
		j.mu.Lock()
		wake, paused, stopped := j.wake, j.paused, j.stopped
		j.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case stopped:
			return ErrStopped
		case !paused:
			return nil
		}
		j.update(func() {
			j.tick()
			j.since = time.Time{}
			j.shown.Status = Paused
		})
		select {
		case <-wake:
		case <-ctx.Done():
		}
	}
}

// The rest is called with mu held.

// tick brings the elapsed time up to date.
func (j *Job) tick() {
	if !j.since.IsZero() {
		now := j.o.Now()
		j.elapsed += now.Sub(j.since)
		j.since = now
	}
}

// timeOver is false until there is a best subnet: a search that found none would have been for nothing.
func (j *Job) timeOver() bool {
	j.tick()
	_, found := j.shown.State.Best()
	return found && j.o.Budget.Time > 0 && j.elapsed >= j.o.Budget.Time
}

func (j *Job) setPaused(paused bool) {
	if j.paused != paused {
		j.paused = paused
		j.signal()
	}
}

// signal wakes what waits at the gate and breaks off the evaluation.
func (j *Job) signal() {
	close(j.wake)
	j.wake = make(chan struct{})
	if j.interrupt != nil && (j.paused || j.stopped) {
		j.interrupt()
	}
}

// update changes what is shown under the lock and publishes it.
func (j *Job) update(change func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change()
	j.publish()
}

func (j *Job) publish() {
	s := j.shown
	s.Revision++
	s.CandidatesPerMinute, s.TokensPerSecond = 60*j.rate.evaluations(), j.rate.tokens()
	s.Elapsed = j.elapsed
	s.Left = j.o.Budget.left(s.Spent, s.Elapsed, j.rate)
	j.shown = s
	j.snapshot.Store(&s)
}

func compareKeys(a, b memoKey) int {
	return cmp.Or(cmp.Compare(a.Masks, b.Masks), cmp.Compare(a.Tier.Tokens, b.Tier.Tokens), cmp.Compare(a.Tier.Draw, b.Tier.Draw))
}
