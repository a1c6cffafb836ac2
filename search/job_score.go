package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// score is the [Scorer] of the strategies. To the evaluator it adds the scores
// remembered of an unfinished generation, pauses, the time limit and snapshots.
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
		if err := j.ready(ctx); err != nil {
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

// attempt calls the evaluator once for the missing scores, and returns those that
// an interruption left missing.
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
	var err error
	closed := j.gate(run) // the error of the gate
	if closed == nil {
		err = j.o.Evaluator.Evaluate(run, candidates, tier, func(k int, s Score) {
			i := missing[k]
			scores[i], known[k] = s, true
			j.memo[keyOf(batch[i].Candidate, tier)] = s
			over := j.scored(i, n, s)
			if !over && run.Err() == nil {
				closed = j.gate(run)
			}
			if over || closed != nil {
				cancel()
			}
		})
	}
	interrupted := run.Err() != nil || closed != nil
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
	case closed != nil && !errors.Is(closed, context.Canceled):
		return nil, closed
	case len(left) == 0 || interrupted:
		return left, nil
	case err == nil:
		err = errors.New("the evaluator left out candidates")
	}
	return nil, fmt.Errorf("search: scoring: %w", err)
}

// interruptible sets what a command calls to interrupt the evaluation. It is false
// when such a command has arrived meanwhile.
func (j *Job) interruptible(cancel context.CancelFunc) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.interrupt = cancel
	return cancel == nil || !j.stopped
}

// scored publishes a score and reports whether the time is used up.
func (j *Job) scored(i, n int, s Score) bool {
	over := false
	j.update(func() {
		j.tick()
		j.rate.add(j.elapsed, s.Tokens)
		// Snapshots share the slice: never change it.
		j.shown.Scoring = slices.Clone(j.shown.Scoring)
		over = j.timeOver()
		if s.Late {
			return
		}
		j.shown.Scoring[i].Score, j.shown.Scoring[i].Tier = s, n
		j.shown.Spent.Evaluations++
		j.shown.Spent.Tokens += s.Tokens
		if !s.valid() {
			j.shown.Spent.Dropped++
		}
	})
	return over
}

// gate calls the gate of the options with the clock stopped.
func (j *Job) gate(ctx context.Context) error {
	if j.o.Gate == nil {
		return nil
	}
	return j.still(func() error { return j.o.Gate(ctx) })
}

// still calls wait with the clock stopped.
func (j *Job) still(wait func() error) error {
	j.update(func() {
		j.tick()
		j.since = time.Time{}
	})
	err := wait()
	j.update(func() { j.since = j.o.Now() })
	return err
}

// ready waits while an error pauses the job, and reports an error when it may not
// score more candidates.
func (j *Job) ready(ctx context.Context) error {
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

// wait blocks while an error pauses the job, with the clock stopped.
func (j *Job) wait(ctx context.Context) error {
	for {
		j.mu.Lock()
		wake, failed, stopped := j.wake, j.failed, j.stopped
		j.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case stopped:
			return ErrStopped
		case !failed:
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

// The following are called with mu held.

// tick brings the elapsed time up to date.
func (j *Job) tick() {
	if !j.since.IsZero() {
		now := j.o.Now()
		j.elapsed += now.Sub(j.since)
		j.since = now
	}
}

// timeOver reports whether the time is used up. A search that has no best subnet yet continues.
func (j *Job) timeOver() bool {
	j.tick()
	_, found := j.shown.State.Best()
	return found && j.o.Budget.Time > 0 && j.elapsed >= j.o.Budget.Time
}

// signal wakes up wait and, once the job is stopped, interrupts the evaluation.
func (j *Job) signal() {
	close(j.wake)
	j.wake = make(chan struct{})
	if j.interrupt != nil && j.stopped {
		j.interrupt()
	}
}

// update changes the snapshot under the lock and publishes it.
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
	return cmp.Or(cmp.Compare(a.Masks, b.Masks), cmp.Compare(a.Exact, b.Exact), cmp.Compare(a.Choice, b.Choice), cmp.Compare(a.Tier.Tokens, b.Tier.Tokens), cmp.Compare(a.Tier.Draw, b.Tier.Draw))
}
