package explorer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A scheduler runs jobs in lanes, in each of them one at a time in the order given. A job stands still at its next gate
// while a job of a lane before its own runs, and every job does while somebody chats: whoever waits for an answer has the
// cores.
type scheduler struct {
	e      *Exploration
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex
	next       int
	tasks      map[JobID]*task
	queue      [lanes][]*task // waiting
	running    [lanes]*task
	interrupts int           // chats that need the cores now
	moved      chan struct{} // closed and replaced whenever a gate may have to open or close, or a task stood still
}

type lane int

const (
	foreground lane = iota // what a person waits for: a cut, a re-fitting, a benchmark
	background             // searches
	idle                   // statistics, which make searches and edits better but nobody waits for
	lanes
)

// task is a job with what runs it. Fields but job are guarded by the scheduler's mu; job is the runner's until it ends.
type task struct {
	id     JobID
	lane   lane
	run    func(ctx context.Context, m *monitor) error
	ctx    context.Context
	cancel context.CancelFunc
	paused bool
	still  bool // at a gate, computing nothing
	orders []Order
}

// errStopped is the cause of a task's context ending because a person stopped it.
var errStopped = errors.New("stopped")

func newScheduler(e *Exploration) *scheduler {
	s := &scheduler{e: e, tasks: make(map[JobID]*task), moved: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *scheduler) close() {
	s.cancel()
	s.wg.Wait()
}

// maxQueued bounds the jobs that wait in one lane.
const maxQueued = 100

// start queues a job and returns its id.
func (s *scheduler) start(l lane, j Job, run func(context.Context, *monitor) error) (JobID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.queue[l]); n >= maxQueued {
		return "", fmt.Errorf("%w: %d jobs are waiting", ErrBusy, n)
	}
	s.next++
	j.ID = JobID("j" + strconv.Itoa(s.next))
	j.State, j.Created = Queued, s.e.now()
	t := &task{id: j.ID, lane: l, run: run}
	ctx, cancel := context.WithCancelCause(s.ctx)
	t.ctx, t.cancel = ctx, func() { cancel(errStopped) }
	s.tasks[j.ID] = t
	s.queue[l] = append(s.queue[l], t)
	s.e.update(SectionJobs, func(n *Snapshot) { n.Jobs = arrange(append(slices.Clone(n.Jobs), j)) })
	s.dispatch(l)
	return j.ID, nil
}

// dispatch starts the next task of a lane if none runs. The caller holds mu.
func (s *scheduler) dispatch(l lane) {
	if s.running[l] != nil || len(s.queue[l]) == 0 || s.ctx.Err() != nil {
		return
	}
	t := s.queue[l][0]
	s.queue[l] = s.queue[l][1:]
	s.running[l] = t
	s.signal()
	s.wg.Go(func() { s.work(t) })
}

// work runs a task from its start to its end.
func (s *scheduler) work(t *task) {
	m := &monitor{s: s, t: t}
	s.e.job(t.id, func(j *Job) { j.State, j.Started = Running, s.e.now() })
	m.began = s.e.now()
	err := s.device(t)
	if err == nil {
		err = protect(t, m)
	}
	s.e.job(t.id, func(j *Job) {
		j.Ended = s.e.now()
		j.Progress.Left = 0
		switch {
		case err == nil:
			j.State = Done
			if j.Progress.Total > 0 {
				j.Progress.Done = j.Progress.Total
			}
		case t.ctx.Err() != nil && errors.Is(err, context.Canceled):
			j.State = Stopped
		default:
			j.State, j.Err, j.Cause = Failed, oneLine(err.Error()), err
		}
	})
	if j, ok := s.e.Snapshot().Job(t.id); ok && j.State == Failed {
		s.e.say(Failure, j.Author, fmt.Sprintf("%s failed: %s", j.Title, j.Err))
	}
	t.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tasks, t.id)
	s.running[t.lane] = nil
	s.signal()
	s.dispatch(t.lane)
}

// protect runs a task's function and makes a panic in it an error: one job must not end the program.
func protect(t *task, m *monitor) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v (%s)", r, oneLine(string(debug.Stack())))
		}
	}()
	return t.run(t.ctx, m)
}

// device waits until a task may compute: until those of later lanes stand still. Those of earlier lanes it finds at its
// first gate.
func (s *scheduler) device(t *task) error {
	return s.await(t.ctx, func() bool {
		for _, other := range s.running[t.lane+1:] {
			if other != nil && !other.still {
				return false
			}
		}
		return true
	})
}

// await blocks until ready holds, which is called with mu held.
func (s *scheduler) await(ctx context.Context, ready func() bool) error {
	for {
		s.mu.Lock()
		ok, moved := ready(), s.moved
		s.mu.Unlock()
		if ok {
			return ctx.Err()
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// signal wakes whoever waits for the scheduler to change. The caller holds mu.
func (s *scheduler) signal() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// held says why a task is to stand still now, "" if it may go on. The caller holds mu.
func (s *scheduler) held(t *task) JobState {
	if t.paused {
		return Paused
	}
	if s.interrupts > 0 {
		return Yielded
	}
	for _, other := range s.running[:t.lane] {
		if other != nil && !other.paused {
			return Yielded
		}
	}
	return ""
}

// gate is Monitor.Gate of a task.
func (s *scheduler) gate(ctx context.Context, m *monitor) error {
	t := m.t
	s.mu.Lock()
	state := s.held(t)
	if state == "" {
		s.mu.Unlock()
		return ctx.Err()
	}
	t.still = true
	s.signal()
	s.mu.Unlock()
	m.stand(state)
	for state != "" {
		s.mu.Lock()
		state = s.held(t)
		moved := s.moved
		if state == "" || ctx.Err() != nil {
			t.still = false
			s.signal()
		}
		s.mu.Unlock()
		if ctx.Err() != nil {
			break
		}
		if state != "" {
			m.stand(state)
			select {
			case <-moved:
			case <-ctx.Done():
			}
		}
	}
	m.stand("")
	return ctx.Err()
}

// interrupt asks every job to stand still and waits up to patience until they do. The returned function lets them go on.
func (s *scheduler) interrupt(ctx context.Context, patience time.Duration) (release func()) {
	s.mu.Lock()
	s.interrupts++
	s.signal()
	s.mu.Unlock()
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// A job that comes to no gate in time keeps computing beside the chat: slower for both, but nobody is locked out.
	_ = s.await(wait, func() bool {
		for _, t := range s.running {
			if t != nil && !t.still {
				return false
			}
		}
		return true
	})
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.interrupts--
		s.signal()
	})
}

// pause holds a job back or lets it go on.
func (s *scheduler) pause(id JobID, paused bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tasks[id]
	if !ok {
		return fmt.Errorf("job %s: %w among those not ended", id, ErrNotFound)
	}
	t.paused = paused
	s.signal()
	return nil
}

// stop ends a job.
func (s *scheduler) stop(id JobID) error {
	s.mu.Lock()
	t, ok := s.tasks[id]
	if !ok {
		s.mu.Unlock()
		return fmt.Errorf("job %s: %w among those not ended", id, ErrNotFound)
	}
	t.cancel()
	i := slices.Index(s.queue[t.lane], t)
	if i >= 0 {
		s.queue[t.lane] = slices.Delete(s.queue[t.lane], i, i+1)
		delete(s.tasks, id)
	}
	s.mu.Unlock()
	if i >= 0 {
		s.e.job(id, func(j *Job) { j.State, j.Ended = Stopped, s.e.now() })
	}
	return nil
}

// order hands an order to the running background job.
func (s *scheduler) order(o Order) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.running[background]
	if t == nil {
		return fmt.Errorf("search: %w: none is running", ErrNotFound)
	}
	t.orders = append(t.orders, o)
	return nil
}

// job publishes a changed job.
func (e *Exploration) job(id JobID, change func(*Job)) {
	e.update(SectionJobs, func(s *Snapshot) {
		i := slices.IndexFunc(s.Jobs, func(j Job) bool { return j.ID == id })
		if i < 0 {
			return
		}
		s.Jobs = slices.Clone(s.Jobs)
		change(&s.Jobs[i])
		s.Jobs = arrange(s.Jobs)
	})
}

// arrange orders jobs as the snapshot documents it and forgets all but the last few that ended. It owns the slice.
func arrange(jobs []Job) []Job {
	const remembered = 20
	rank := func(j Job) int {
		switch {
		case j.State == Queued:
			return 1
		case j.State.Ended():
			return 2
		}
		return 0
	}
	slices.SortStableFunc(jobs, func(a, b Job) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if a.State.Ended() {
			return b.Ended.Compare(a.Ended)
		}
		return 0
	})
	for ended, i := 0, 0; i < len(jobs); i++ {
		if jobs[i].State.Ended() {
			if ended++; ended > remembered {
				return jobs[:i]
			}
		}
	}
	return jobs
}
