package search

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/search/space"
)

// Options configure a job.
type Options struct {
	Strategy  Strategy
	Problem   Problem
	Evaluator Evaluator
	Budget    Budget
	// Store keeps checkpoints, one after every generation; nil keeps none.
	Store Store
	// Resume continues from the store's checkpoint, if it has one, with the
	// target of the checkpoint.
	Resume bool
	// Unattended ends the job on an error that would otherwise pause it.
	Unattended bool
	// Gate, unless nil, is called between candidates and blocks while the job is
	// paused, with the clock stopped. It returns ctx's error when ctx ends.
	Gate func(ctx context.Context) error
	// Persist, unless nil, calls a function that writes until the disk has room for what it writes, with the clock stopped, and
	// returns any other error of it.
	Persist func(ctx context.Context, write func() error) error
	// Now is the clock, time.Now if nil. Only Budget.Time depends on it.
	Now func() time.Time
}

// Job runs a search. [Job.Run] does the work on the goroutine that calls it; the
// other methods may be called from any. A job is paused by its Gate, or by an
// error, after which it waits for [Job.Resume].
type Job struct {
	o        Options
	resumed  *record // to continue from, nil for none
	snapshot atomic.Pointer[Snapshot]

	mu sync.Mutex
	// Guarded by mu: commands from other goroutines, and what they interrupt.
	failed    bool // paused by an error
	stopped   bool
	wake      chan struct{} // closed and replaced when failed or stopped changes
	interrupt context.CancelFunc
	retarget  *Target
	injected  []Candidate
	names     []string
	// Guarded by mu: the contents of snapshots.
	shown   Snapshot
	rate    rate
	elapsed time.Duration // up to since
	since   time.Time     // zero while the clock is stopped

	// Used by Run's goroutine only.
	memo map[memoKey]Score
}

// errTime ends a generation.
var errTime = errors.New("search: the time is spent")

// NewJob checks the options and, with Resume, reads the checkpoint. Its errors
// wrap [ErrConfig], [ErrTarget] and those of checkpoints.
func NewJob(o Options) (*Job, error) {
	if o.Strategy == nil || o.Evaluator == nil {
		return nil, fmt.Errorf("%w: a search needs a strategy and an evaluator", ErrConfig)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := o.Problem.check(); err != nil {
		return nil, err
	}
	j := &Job{o: o, wake: make(chan struct{}), memo: map[memoKey]Score{}}
	target := o.Problem.Target
	if o.Resume && o.Store != nil {
		switch data, err := o.Store.Load(); {
		case errors.Is(err, ErrNoCheckpoint):
		case err != nil:
			return nil, err
		default:
			r, err := decodeRecord(data, &o.Problem, o.Strategy)
			if err != nil {
				return nil, err
			}
			j.restore(r)
			target = r.State.Target
		}
	}
	if err := o.Strategy.Check(&j.o.Problem, target); err != nil {
		return nil, err
	}
	j.shown.Status, j.shown.Strategy, j.shown.Seed = Waiting, o.Strategy.Name(), o.Problem.Seed
	j.shown.Target, j.shown.Left = target, -1
	j.publish()
	return j, nil
}

// restore makes the job continue from a record.
func (j *Job) restore(r record) {
	j.resumed = &r
	j.elapsed = r.Elapsed
	j.shown.State, j.shown.Spent = r.State, r.State.Spent
	for _, m := range r.Memo {
		j.memo[m.Key] = m.Score
	}
}

// Run searches until the budget is spent, the strategy is done, [Job.Stop] is
// called (then the error is [ErrStopped]) or ctx ends (then it is ctx's). The
// result is the best found also when there is an error. Run is called once.
func (j *Job) Run(ctx context.Context) (Result, error) {
	j.update(func() {
		j.shown.Status = Running
		j.since = j.o.Now()
	})
	state, reason, err := j.run(ctx)
	result := Result{State: state, Reason: reason}
	if best, ok := state.Best(); ok {
		result.Best = best
	} else if err == nil {
		err = fmt.Errorf("search: %s before the first subnet was scored", reason)
	}
	j.update(func() {
		j.tick()
		j.since = time.Time{}
		j.shown.Status, j.shown.Reason, j.shown.Err = Ended, reason, err
		j.shown.Scoring = nil
	})
	return result, err
}

func (j *Job) run(ctx context.Context) (State, string, error) {
	p := j.o.Problem
	var state State
	started := j.resumed != nil
	if started {
		state = j.resumed.State
	}
	for {
		if started {
			changed := false
			if state, changed = j.applyCommands(state); changed {
				if err := j.save(ctx, state); err != nil {
					return state, "stopped", err
				}
			}
			if reason := j.over(state); reason != "" {
				return state, reason, nil
			}
		}
		j.update(func() { j.shown.State, j.shown.Spent = state, state.Spent })
		next, err := j.advance(ctx, &p, state, started)
		switch {
		case err == nil:
			state, started = j.stamp(next), true
			clear(j.memo)
			j.update(func() { j.shown.State, j.shown.Scoring = state, nil })
			err = j.save(ctx, state)
		case errors.Is(err, errTime):
			return state, fmt.Sprintf("the time of %v is spent", j.o.Budget.Time), nil
		case errors.Is(err, ErrStopped) || ctx.Err() != nil:
			if started {
				err = errors.Join(err, j.write(state))
			}
			return state, "stopped", err
		case errors.Is(err, ErrTarget) || errors.Is(err, ErrConfig):
			return state, "failed", err
		case durable.IsFull(err) && j.o.Persist != nil:
			full := err
			err = j.o.Persist(ctx, func() error { // once, then the generation itself shows whether there is room
				failed := full
				full = nil
				return failed
			})
		default:
			err = j.pauseOnError(ctx, err)
		}
		if err != nil {
			return state, "stopped", err
		}
	}
}

// advance runs the start or the next generation.
func (j *Job) advance(ctx context.Context, p *Problem, s State, started bool) (State, error) {
	if started {
		return j.o.Strategy.Step(ctx, p, s, j.score)
	}
	return j.o.Strategy.Start(ctx, p, j.score)
}

// over returns why the search is over, "" while it is not.
func (j *Job) over(s State) string {
	if s.Done != "" {
		return s.Done
	}
	return j.o.Budget.spent(s)
}

// stamp sets the times of the newest generation and its events.
func (j *Job) stamp(s State) State {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.tick()
	s.History[len(s.History)-1].Elapsed = j.elapsed
	for i := len(s.Events) - 1; i >= 0 && s.Events[i].At.IsZero(); i-- {
		s.Events[i].At = j.o.Now()
	}
	return s
}

// save writes the checkpoint; the job is paused while it cannot.
func (j *Job) save(ctx context.Context, s State) error {
	for {
		err := j.persist(ctx, func() error { return j.write(s) })
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if err := j.pauseOnError(ctx, err); err != nil {
			return err
		}
	}
}

// persist calls write, by the function of the options if it fails.
func (j *Job) persist(ctx context.Context, write func() error) error {
	err := write()
	if err == nil || j.o.Persist == nil {
		return err
	}
	return j.still(func() error { return j.o.Persist(ctx, write) })
}

// write writes the checkpoint, including the scores of an unfinished generation.
func (j *Job) write(s State) error {
	if j.o.Store == nil {
		return nil
	}
	r, err := newRecord(&j.o.Problem, j.o.Strategy)
	if err != nil {
		return err
	}
	j.mu.Lock()
	j.tick()
	r.Elapsed = j.elapsed
	j.mu.Unlock()
	r.setState(s)
	for k, v := range j.memo {
		if v.valid() {
			r.Memo = append(r.Memo, recordedScore{k, v})
		}
	}
	slices.SortFunc(r.Memo, func(a, b recordedScore) int { return compareKeys(a.Key, b.Key) })
	data, err := r.encode()
	if err != nil {
		return err
	}
	return j.o.Store.Save(data)
}

// pauseOnError pauses the job until it is resumed. An unattended job returns the
// error instead.
func (j *Job) pauseOnError(ctx context.Context, err error) error {
	if j.o.Unattended {
		return err
	}
	j.update(func() {
		j.failed = true
		j.shown.Err = err
	})
	if ended := j.wait(ctx); ended != nil {
		return errors.Join(ended, err)
	}
	return nil
}

// applyCommands applies the commands given during the last generation and reports
// whether there were any.
func (j *Job) applyCommands(s State) (State, bool) {
	j.mu.Lock()
	retarget, injected, names := j.retarget, j.injected, j.names
	j.retarget, j.injected, j.names = nil, nil, nil
	j.mu.Unlock()
	if retarget == nil && injected == nil {
		return s, false
	}
	if retarget != nil {
		s = j.o.Strategy.Retarget(&j.o.Problem, s, *retarget)
	}
	g := generation{p: &j.o.Problem, s: s.clone()}
	for i, c := range injected {
		in := g.individual(c, 0, ByHand, names[i])
		g.s.Pending = append(g.s.Pending, in)
		g.s.event(fmt.Sprintf("#%d (you) joins: %s", in.ID, names[i]))
	}
	clear(j.memo)
	return g.s, true
}

// Snapshot returns the job's present state. It never blocks.
func (j *Job) Snapshot() *Snapshot { return j.snapshot.Load() }

// Resume continues a job that an error has paused.
func (j *Job) Resume() {
	j.update(func() {
		if j.failed {
			j.failed, j.shown.Err = false, nil
			j.signal()
		}
	})
}

// Stop ends the job soon, after it has written the checkpoint.
func (j *Job) Stop() {
	j.update(func() {
		j.stopped = true
		j.signal()
	})
}

// Retarget changes the target from the next generation on. The error for an
// impossible target wraps [ErrTarget].
func (j *Job) Retarget(t Target) error {
	if err := j.o.Strategy.Check(&j.o.Problem, t); err != nil {
		return err
	}
	j.update(func() {
		j.retarget = &t
		j.shown.Target = t
	})
	return nil
}

// Inject adds a subnet made by hand to the next generation, as it is: strategies with levels use the weights of the base, the
// others, which search masks, the original ones. The name is for people.
func (j *Job) Inject(b space.Base, name string) error {
	m := b.Masks
	if err := m.Validate(); err != nil {
		return err
	}
	if !m.Geometry().Equal(j.o.Problem.Geometry) {
		return fmt.Errorf("%w: the subnet is of another model", ErrConfig)
	}
	c := Candidate{Masks: m}
	if j.o.Strategy.UsesLevels() {
		c.Base = &b
	}
	j.update(func() {
		j.injected = append(j.injected, c)
		j.names = append(j.names, name)
	})
	return nil
}
