package search_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/searchtest"
	"github.com/lathe-llm/lathe/search/space"
)

// memory is a store in memory; fail, unless nil, is the error of Save.
type memory struct {
	mu   sync.Mutex
	data []byte
	fail error
}

func (m *memory) Save(data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.data = bytes.Clone(data)
	return nil
}

func (m *memory) Load() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.data == nil {
		return nil, search.ErrNoCheckpoint
	}
	return m.data, nil
}

func (m *memory) setFail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// await waits until the job's snapshot fulfils a condition.
func await(t *testing.T, job *search.Job, what string, ok func(*search.Snapshot) bool) *search.Snapshot {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if s := job.Snapshot(); ok(s) {
			return s
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s is never reached: %+v", what, job.Snapshot().Status)
		}
	}
}

// start runs a job on its own goroutine; the function returned waits for its end.
func start(t *testing.T, o search.Options) (*search.Job, func() (search.Result, error)) {
	t.Helper()
	job, err := search.NewJob(o)
	if err != nil {
		t.Fatal(err)
	}
	var result search.Result
	done := make(chan error, 1)
	go func() {
		var err error
		result, err = job.Run(context.Background())
		done <- err
	}()
	return job, func() (search.Result, error) {
		err := <-done
		return result, err
	}
}

// TestGate pauses a search in the middle of a batch: nothing is scored meanwhile, no time is counted, and it ends like one
// that was never paused.
func TestGate(t *testing.T) {
	l := landscape()
	options := search.Options{Strategy: strategies()["ladder"], Problem: l.Problem(search.Ratio(0.7), 2), Evaluator: l, Budget: search.Budget{Generations: 5}}
	whole := run(t, options).State

	var scores atomic.Int64
	l.Before = func(context.Context, search.Candidate, search.Tier) error {
		scores.Add(1)
		return nil
	}
	var clock atomic.Int64 // seconds
	options.Now = func() time.Time { return time.Unix(clock.Load(), 0) }
	options.Budget.Time = time.Minute
	reached, open := make(chan struct{}), make(chan struct{})
	options.Gate = func(ctx context.Context) error {
		if scores.Load() == 30 {
			select {
			case <-reached:
			default:
				close(reached)
			}
			<-open
		}
		return ctx.Err()
	}
	job, wait := start(t, options)
	<-reached
	clock.Add(3600)
	if got := scores.Load(); got != 30 {
		t.Errorf("it scores while paused: %d candidates", got)
	}
	close(open)
	result, err := wait()
	if err != nil || !same(t, whole, result.State) {
		t.Errorf("ended in another state: %v", err)
	}
	s := job.Snapshot()
	if s.Status != search.Ended || s.Reason != "the budget of 5 generations is spent" || len(s.Scoring) != 0 || s.Spent != result.State.Spent {
		t.Errorf("at the end: %v, %q, %d being scored, %+v", s.Status, s.Reason, len(s.Scoring), s.Spent)
	}
	if s.Elapsed != 0 {
		t.Errorf("an hour of pause counts as %v", s.Elapsed)
	}
}

// TestGateEnds stops and cancels a search that is paused.
func TestGateEnds(t *testing.T) {
	for name, end := range map[string]func(*search.Job, context.CancelFunc){
		"stop":   func(j *search.Job, _ context.CancelFunc) { j.Stop() },
		"cancel": func(_ *search.Job, cancel context.CancelFunc) { cancel() },
	} {
		for _, at := range []int64{1, 50} {
			l := landscape()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var calls atomic.Int64
			reached := make(chan struct{})
			job, err := search.NewJob(search.Options{
				Strategy: strategies()["ladder"], Problem: l.Problem(search.Ratio(0.7), 2), Evaluator: l,
				Gate: func(ctx context.Context) error {
					if calls.Add(1) != at {
						return ctx.Err()
					}
					close(reached)
					<-ctx.Done()
					return ctx.Err()
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				<-reached
				end(job, cancel)
			}()
			if _, err := job.Run(ctx); !errors.Is(err, search.ErrStopped) && !errors.Is(err, context.Canceled) {
				t.Errorf("%s at call %d: %v", name, at, err)
			}
		}
	}
}

func TestStop(t *testing.T) {
	l := landscape()
	store := &memory{}
	options := search.Options{
		Strategy: strategies()["paper"], Problem: l.Problem(search.Ratio(0.8), 2), Evaluator: l, Store: store,
	}
	job, wait := start(t, options)
	await(t, job, "the fourth generation", func(s *search.Snapshot) bool { return s.State.Generation >= 3 })
	job.Stop()
	result, err := wait()
	if !errors.Is(err, search.ErrStopped) || result.Best.ID == 0 {
		t.Fatalf("stopped with %v, best #%d", err, result.Best.ID)
	}
	options.Resume = true
	again, err := search.NewJob(options)
	if err != nil {
		t.Fatal(err)
	}
	if got := again.Snapshot().State; !same(t, got, result.State) {
		t.Error("the checkpoint is not what was found")
	}
}

func TestTimeBudget(t *testing.T) {
	l := landscape()
	var mu sync.Mutex
	now := time.Unix(0, 0)
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	l.Before = func(context.Context, search.Candidate, search.Tier) error {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Second)
		return nil
	}
	options := search.Options{
		Strategy: strategies()["ladder"], Problem: l.Problem(search.Ratio(0.7), 2), Evaluator: l,
		Budget: search.Budget{Time: 100 * time.Second}, Now: clock,
	}
	job, wait := start(t, options)
	result, err := wait()
	s := job.Snapshot()
	if err != nil || s.Elapsed < 100*time.Second || s.Elapsed > 101*time.Second || result.Reason != "the time of 1m40s is spent" {
		t.Errorf("%v: ended after %v, %q", err, s.Elapsed, result.Reason)
	}
	if s.CandidatesPerMinute < 59 || s.CandidatesPerMinute > 61 {
		t.Errorf("%v candidates a minute", s.CandidatesPerMinute)
	}
	if len(result.State.History) == 0 || result.State.History[0].Elapsed <= 0 {
		t.Error("generations have no times")
	}
	options.Budget = search.Budget{Time: time.Second / 2}
	_, wait = start(t, options)
	if result, err := wait(); err != nil || result.Best.ID == 0 || result.State.Generation != 1 {
		t.Errorf("without time for more, generation %d, best %d: %v", result.State.Generation, result.Best.ID, err)
	}
}

func TestDiskFull(t *testing.T) {
	l := landscape()
	full := errors.New("no space left on device")
	store := &memory{}
	options := search.Options{
		Strategy: strategies()["ladder"], Problem: l.Problem(search.Ratio(0.7), 2), Evaluator: l, Store: store,
		Budget: search.Budget{Generations: 5},
	}
	whole := run(t, options).State

	store.setFail(full)
	job, wait := start(t, options)
	for range 2 {
		s := await(t, job, "a pause", func(s *search.Snapshot) bool { return s.Status == search.Paused && s.Err != nil })
		if !errors.Is(s.Err, full) {
			t.Fatalf("paused by %v", s.Err)
		}
		if _, ok := s.Best(); !ok {
			t.Error("what was found is lost")
		}
		job.Resume() // the disk is still full: it pauses again
	}
	await(t, job, "a pause", func(s *search.Snapshot) bool { return s.Status == search.Paused && s.Err != nil })
	store.setFail(nil)
	job.Resume()
	result, err := wait()
	if err != nil || !same(t, whole, result.State) {
		t.Errorf("ended in another state: %v", err)
	}

	store.setFail(full)
	options.Unattended = true
	_, wait = start(t, options)
	if result, err := wait(); !errors.Is(err, full) || result.Best.ID == 0 {
		t.Errorf("unattended: %v, best #%d", err, result.Best.ID)
	}
	options.Store = search.FileStore(filepath.Join(t.TempDir(), "no", "such", "folder"))
	_, wait = start(t, options)
	if result, err := wait(); !errors.Is(err, os.ErrNotExist) || result.Best.ID == 0 {
		t.Errorf("no folder: %v, best #%d", err, result.Best.ID)
	}
}

func TestEvaluatorFails(t *testing.T) {
	l := landscape()
	options := search.Options{Strategy: strategies()["ladder"], Problem: l.Problem(search.Ratio(0.7), 2), Evaluator: l, Budget: search.Budget{Generations: 4}}
	whole := run(t, options).State
	broken := errors.New("the device is gone")
	var scores atomic.Int64
	l.Before = func(context.Context, search.Candidate, search.Tier) error {
		if scores.Add(1) == 40 {
			return broken
		}
		return nil
	}
	job, wait := start(t, options)
	s := await(t, job, "a pause", func(s *search.Snapshot) bool { return s.Status == search.Paused })
	if !errors.Is(s.Err, broken) {
		t.Errorf("paused by %v", s.Err)
	}
	job.Resume()
	if result, err := wait(); err != nil || !same(t, whole, result.State) {
		t.Errorf("ended in another state: %v", err)
	}
	if want := int64(whole.Spent.Evaluations) + 1; scores.Load() != want {
		t.Errorf("%d candidates were scored, want %d: those scored before the failure are not scored again", scores.Load(), want)
	}
}

func TestCommands(t *testing.T) {
	for name, s := range strategies() {
		l := searchtest.New(searchtest.Options{Seed: 1}) // no noise: the dense model is the best
		store := &memory{}
		hold := make(chan struct{})
		var once sync.Once
		var scores atomic.Int64
		l.Before = func(ctx context.Context, _ search.Candidate, _ search.Tier) error {
			if scores.Add(1) == 40 {
				<-hold
			}
			return nil
		}
		job, wait := start(t, search.Options{
			Strategy: s, Problem: l.Problem(search.Ratio(0.8), 2), Evaluator: l, Store: store, Budget: search.Budget{Generations: 12},
		})
		await(t, job, "a later generation", func(s *search.Snapshot) bool { return s.State.Generation >= 2 })
		if err := job.Retarget(search.Ratio(0.0001)); !errors.Is(err, search.ErrTarget) {
			t.Errorf("%s: impossible target: %v", name, err)
		}
		if err := job.Retarget(search.Ratio(0.6)); err != nil {
			t.Fatal(err)
		}
		if got := job.Snapshot().Target; got != search.Ratio(0.6) {
			t.Errorf("%s: target shown is %v", name, got)
		}
		hand, err := l.Levels.Masks(l.Levels.Nearest(subnet.Dense(l.Geometry)))
		if err != nil {
			t.Fatal(err)
		}
		if err := job.Inject(space.Base{Masks: hand}, "mine"); err != nil {
			t.Fatal(err)
		}
		if err := job.Inject(space.Base{Masks: subnet.Dense(searchtest.New(searchtest.Options{Layers: 2}).Geometry)}, "other"); !errors.Is(err, search.ErrConfig) {
			t.Errorf("%s: subnet of another model: %v", name, err)
		}
		once.Do(func() { close(hold) })
		result, err := wait()
		if err != nil {
			t.Fatal(err)
		}
		state := result.State
		if state.Target != search.Ratio(0.6) || result.Best.Ratio > 0.6+1e-9 || result.Best.Tier == 0 {
			t.Errorf("%s: after the command the target is %v, the best has %v", name, state.Target, result.Best.Ratio)
		}
		yours := false
		for _, in := range append(state.Front, state.Population...) {
			yours = yours || in.Origin == search.ByHand && in.Score.Fitness != 0
		}
		if !yours {
			t.Errorf("%s: the subnet made by hand, the dense model, is not on the front", name)
		}
		events := 0
		for _, e := range state.Events {
			if strings.Contains(e.Text, "target changed") || strings.Contains(e.Text, "(you) joins: mine") {
				events++
			}
			if e.At.IsZero() {
				t.Errorf("%s: event without time: %s", name, e.Text)
			}
		}
		if events != 2 {
			t.Errorf("%s: %d of the two commands are reported", name, events)
		}
	}
}

// TestPollers reads snapshots from several goroutines while a search runs; the
// race detector does the checking.
func TestPollers(t *testing.T) {
	l := landscape()
	job, wait := start(t, search.Options{
		Strategy: strategies()["ladder"], Problem: l.Problem(search.Ratio(0.7), 2), Evaluator: l, Budget: search.Budget{Generations: 10},
	})
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			last := uint64(0)
			for {
				s := job.Snapshot()
				if s.Revision < last {
					t.Error("revisions fall")
				}
				last = s.Revision
				for _, in := range append([]search.Individual{}, s.Scoring...) {
					_, _ = fmt.Fprint(io.Discard, in.ID, in.Score.Fitness)
				}
				for _, e := range s.State.Events {
					_, _ = fmt.Fprint(io.Discard, e.Text, e.At)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	_, err := wait()
	close(stop)
	group.Wait()
	if err != nil {
		t.Error(err)
	}
}
