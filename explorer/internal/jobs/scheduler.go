package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/explorer/internal/fault"
)

// A Job is what a [Scheduler] runs. Its methods are called as it proceeds; only Run may take long.
type Job interface {
	// Queued is called before Start returns, with the scheduler's lock held.
	Queued(id string)
	// Started is called when the job may compute: those of later lanes wait at their gates.
	Started()
	// Run does the work, and calls Gate of the task between pieces of it.
	Run(ctx context.Context, t *Task) error
	// Held reports why the job waits at its gate, and Not once it resumes.
	Held(Hold)
	Ended(Outcome, error)
}

// Outcome is how a job ended.
type Outcome int

// The outcomes.
const (
	Done Outcome = iota
	Failed
	Stopped // by a person, or because the scheduler was closed
)

// Hold is why a job waits at its gate.
type Hold int

// The reasons.
const (
	Not     Hold = iota // it does not
	Paused              // a person paused it
	Blocked             // it cannot continue, see [Task.Block]
	Yielded             // an earlier lane or a chat needs the cores
)

// Lane orders jobs by who waits for them.
type Lane int

// The lanes, the first to run first.
const (
	Foreground Lane = iota // a person waits for it: a cut, a re-fit, a benchmark
	Background             // a search
	Following              // a measurement that follows the edits of a draft without being asked for
	Idle                   // statistics, for which no person waits
	lanes
)

// A Scheduler runs jobs in lanes, in each of them one at a time in the order of their starts. A job waits at its next gate
// while a job of an earlier lane runs, and every job does during a chat, so that the person who waits for an answer has
// the cores.
type Scheduler struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex
	next       int
	tasks      map[string]*Task
	queue      [lanes][]*Task // waiting
	running    [lanes]*Task
	interrupts int           // chats that need the cores now
	moved      chan struct{} // closed and replaced whenever a gate may have to open or close, or a task stopped computing
}

// A Task is a job as the scheduler holds it. The scheduler's mutex guards paused, again and still.
type Task struct {
	s      *Scheduler
	id     string
	lane   Lane
	job    Job
	ctx    context.Context
	cancel context.CancelFunc
	paused bool
	again  bool // a blocked task is to try again at once
	still  bool // at a gate, computing nothing
}

// ErrStopped is the cause of the context of a job that a person stopped.
var ErrStopped = errors.New("stopped")

// New returns a scheduler that runs nothing.
func New() *Scheduler {
	s := &Scheduler{tasks: make(map[string]*Task), moved: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Close stops all jobs and waits until they have ended.
func (s *Scheduler) Close() {
	s.cancel()
	s.wg.Wait()
}

// maxQueued bounds the jobs that wait in one lane.
const maxQueued = 100

// Start queues a job and returns its id.
func (s *Scheduler) Start(l Lane, j Job) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.queue[l]); n >= maxQueued {
		return "", fmt.Errorf("%w: %d jobs are waiting", fault.ErrBusy, n)
	}
	s.next++
	t := &Task{s: s, id: "j" + strconv.Itoa(s.next), lane: l, job: j}
	ctx, cancel := context.WithCancelCause(s.ctx)
	t.ctx, t.cancel = ctx, func() { cancel(ErrStopped) }
	s.tasks[t.id] = t
	s.queue[l] = append(s.queue[l], t)
	j.Queued(t.id)
	s.dispatch(l)
	return t.id, nil
}

// dispatch starts the next task of a lane if none runs. The caller holds mu.
func (s *Scheduler) dispatch(l Lane) {
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
func (s *Scheduler) work(t *Task) {
	err := s.device(t)
	if err == nil {
		t.job.Started()
		err = t.protect()
	}
	outcome := Done
	if err != nil {
		outcome = Failed
		if t.ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(t.ctx))) {
			outcome = Stopped
		}
	}
	t.job.Ended(outcome, err)
	t.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tasks, t.id)
	s.running[t.lane] = nil
	s.signal()
	s.dispatch(t.lane)
}

// protect runs the job and returns a panic in it as an error: one job must not end the program.
func (t *Task) protect() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v (%s)", r, debug.Stack())
		}
	}()
	return t.job.Run(t.ctx, t)
}

// device waits until a task may compute: until those of later lanes wait at a gate. It waits for those of earlier lanes at
// its first gate.
func (s *Scheduler) device(t *Task) error {
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
func (s *Scheduler) await(ctx context.Context, ready func() bool) error {
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

// signal wakes all that wait for the scheduler to change. The caller holds mu.
func (s *Scheduler) signal() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// hold returns why a task has to wait now. The caller holds mu.
func (s *Scheduler) hold(t *Task) Hold {
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
	return Not
}

// Paused reports whether a person paused the job.
func (t *Task) Paused() bool {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	return t.paused
}

// Gate returns at once while the job may run, and waits while it may not. It returns ctx's error when ctx ends.
func (t *Task) Gate(ctx context.Context) error {
	s := t.s
	s.mu.Lock()
	hold := s.hold(t)
	if hold == Not {
		s.mu.Unlock()
		return ctx.Err()
	}
	t.still = true
	s.signal()
	s.mu.Unlock()
	t.job.Held(hold)
	for hold != Not {
		s.mu.Lock()
		hold = s.hold(t)
		moved := s.moved
		if hold == Not || ctx.Err() != nil {
			t.still = false
			s.signal()
		}
		s.mu.Unlock()
		if ctx.Err() != nil {
			break
		}
		if hold != Not {
			t.job.Held(hold)
			select {
			case <-moved:
			case <-ctx.Done():
			}
		}
	}
	t.job.Held(Not)
	return ctx.Err()
}

// Block holds a task that cannot continue, such as one whose disk is full, for as long as d or until it is resumed. It computes
// nothing meanwhile. Like Gate it returns once the task may run, or ctx's error.
func (t *Task) Block(ctx context.Context, d time.Duration) error {
	s := t.s
	s.mu.Lock()
	t.still, t.again = true, false
	s.signal()
	s.mu.Unlock()
	t.job.Held(Blocked)
	wait, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_ = s.await(wait, func() bool { return t.again }) // the end of d is no error
	s.mu.Lock()
	t.still = false
	s.signal()
	s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.Gate(ctx)
}

// Interrupt has every job wait at its next gate, and returns when all do or after patience. The returned function resumes
// them.
func (s *Scheduler) Interrupt(ctx context.Context, patience time.Duration) (release func()) {
	s.mu.Lock()
	s.interrupts++
	s.signal()
	s.mu.Unlock()
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// A job that comes to no gate in time keeps computing beside the chat: slower for both, but neither is blocked.
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

// Pause pauses a job, or resumes it.
func (s *Scheduler) Pause(id string, paused bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tasks[id]
	if !ok {
		return fmt.Errorf("job %s: %w among those not ended", id, fault.ErrNotFound)
	}
	t.paused, t.again = paused, !paused
	s.signal()
	return nil
}

// Stop ends a job, by cancelling its context where it runs.
func (s *Scheduler) Stop(id string) error {
	s.mu.Lock()
	t, ok := s.tasks[id]
	if !ok {
		s.mu.Unlock()
		return fmt.Errorf("job %s: %w among those not ended", id, fault.ErrNotFound)
	}
	t.cancel()
	i := slices.Index(s.queue[t.lane], t)
	if i >= 0 {
		s.queue[t.lane] = slices.Delete(s.queue[t.lane], i, i+1)
		delete(s.tasks, id)
	}
	s.mu.Unlock()
	if i >= 0 {
		t.job.Ended(Stopped, nil)
	}
	return nil
}

// Running returns the job that runs in a lane, or nil.
func (s *Scheduler) Running(l Lane) Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.running[l]; t != nil {
		return t.job
	}
	return nil
}
