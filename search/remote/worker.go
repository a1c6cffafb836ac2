package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/space"
)

// A Scorer scores the candidates of one phase of a search in a worker, and does pieces of work. Its methods are called one at a time.
type Scorer interface {
	search.Evaluator
	// Do does a piece of work. Files are the paths of its files, and dir is a folder for those that it results in.
	Do(ctx context.Context, p Piece, files []string, dir string) (Product, error)
	Geometry() *subnet.Geometry
	Levels() *space.Levels // nil for strategies without levels
	// Dense returns the dense model as a candidate.
	Dense() search.Candidate
	// AddBase makes the weights of a subnet made by hand, which are in a file, available to candidates.
	AddBase(weights, path string) error
	Reused() float64
	Close()
}

// Opened holds the paths of the files of a search.
type Opened struct {
	Model, Text string   // Text is "" where there is none
	Levels      []string // by slot
}

// WorkerOptions configure [Work].
type WorkerOptions struct {
	Conn    *nats.Conn
	ID      string // in subjects: letters, digits, - and _
	Host    string
	Version string
	Device  string // kind of device, as in [Spec]
	Weights string // type of weights on it, as in [Spec]
	Compute string // the device, for people
	Algebra string // of re-fits, as in [Spec]
	Runner  string // of models in files, as in [Spec]
	Files   Files
	Scratch string // folder for temporary files, "" for the system's
	// Models are the hashes of the models that the worker scores for, all if there are none.
	Models []string
	Search string // the only search to work for, "" for any
	Once   bool   // end with the search, and when it is refused
	// Open loads a model and what candidates are scored on.
	Open func(ctx context.Context, s Spec, o Opened) (Scorer, error)
	// Log, unless nil, is called with lines for people.
	Log    func(text string)
	Timing Timing
}

// tolerance is by how much the reference of a worker may differ, relatively: devices add up in different orders.
const tolerance = 1e-3

// ErrRefused is wrapped when a worker cannot work for a search.
var ErrRefused = errors.New("this worker cannot do the work")

// worker works for one search after another.
type worker struct {
	o  WorkerOptions
	t  Timing
	js jetstream.JetStream

	mu       sync.Mutex
	searches map[string]announced
	over     map[string]bool // ended, refused or left
	state    Worker
	search   string // present one, for reports; "" for none
	last     string // the last one
	wake     chan struct{}

	held *held // by the goroutine of Work alone
}

// held is a task of a phase that the worker has not heard of yet.
type held struct {
	m       jetstream.Msg
	phase   int
	release func() // ends its heartbeats
}

type announced struct {
	spec Spec
	at   time.Time
}

// maxSearches bounds how many searches a worker remembers.
const maxSearches = 1024

// Done is what a worker has done.
type Done struct {
	Worker                   string
	Searches, Scored, Failed int
}

// Work scores candidates and does pieces of work until ctx ends, it is drained or, with Once, its search ends.
func Work(ctx context.Context, o WorkerOptions) (Done, error) {
	d := Done{Worker: o.ID}
	if !validWorker(o.ID) {
		return d, fmt.Errorf("remote: worker %.70q: its name has letters, digits, - and _ only, 64 at most", o.ID)
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	t := o.Timing.withDefaults()
	js, err := streams(o.Conn, t.Stored)
	if err != nil {
		return d, err
	}
	w := &worker{
		o: o, t: t, js: js, searches: map[string]announced{}, over: map[string]bool{}, wake: make(chan struct{}, 1),
		state: Worker{ID: o.ID, Host: line(o.Host), Device: line(o.Compute)},
	}
	which := "*"
	if o.Search != "" {
		which = o.Search
	}
	sub, err := o.Conn.Subscribe(announceSubject(which), w.heard)
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrServer, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	defer w.letGo()
	for {
		spec, err := w.next(ctx)
		if err != nil {
			return d, nil // ctx has ended
		}
		scored, failed := w.counted(spec)
		err = w.serve(ctx, spec)
		d.Scored, d.Failed = d.Scored+w.state.Scored-scored, d.Failed+w.state.Failed-failed
		if w.state.Scored > 0 && !errors.Is(err, errPhase) {
			d.Searches++
		}
		if !errors.Is(err, errPhase) {
			w.letGo()
		}
		switch {
		case ctx.Err() != nil || errors.Is(err, errDrained):
			return d, nil
		case errors.Is(err, errPhase):
			continue
		case errors.Is(err, errOver):
			o.Log(fmt.Sprintf("search %s is over", spec.Search))
			err = nil
		case err != nil:
			o.Log(fmt.Sprintf("search %s: %v", spec.Search, err))
		}
		if o.Once {
			return d, err
		}
	}
}

// letGo gives the task that is held to another worker, if there is one.
func (w *worker) letGo() {
	if w.held != nil {
		_ = w.held.m.Nak()
		w.held.release()
		w.held = nil
	}
}

var (
	errOver    = errors.New("the search is over")
	errDrained = errors.New("drained")
	errPhase   = errors.New("the phase of the search is over")
)

// heard records an announcement.
func (w *worker) heard(m *nats.Msg) {
	s, err := decodeSpec(m.Data)
	if err != nil || m.Subject != announceSubject(s.Search) {
		if err != nil && isHex(strings.TrimPrefix(m.Subject, announceSubject("")), searchDigits) {
			w.refuseUnread(strings.TrimPrefix(m.Subject, announceSubject("")), err)
		}
		return
	}
	w.mu.Lock()
	switch {
	case s.Ended:
		w.over[s.Search] = true
		delete(w.searches, s.Search)
	case w.searches[s.Search].spec.Phase > s.Phase: // an announcement of a connection before
	case !w.over[s.Search] && w.remembers(s.Search):
		w.searches[s.Search] = announced{s, time.Now()}
	}
	w.bound()
	w.mu.Unlock()
	w.signal()
}

// remembers reports whether there is room for a search. Those that have fallen silent make room for others.
func (w *worker) remembers(search string) bool {
	if _, known := w.searches[search]; known || len(w.searches) < maxSearches {
		return true
	}
	maps.DeleteFunc(w.searches, func(id string, a announced) bool { return id != w.last && time.Since(a.at) > w.t.Silence })
	return len(w.searches) < maxSearches
}

// bound forgets which searches are over where those are too many: they are heard of again, or not.
func (w *worker) bound() {
	if len(w.over) > maxSearches {
		clear(w.over)
	}
}

// refuseUnread reports once that an announcement cannot be read, as of another version of the protocol.
func (w *worker) refuseUnread(search string, err error) {
	w.mu.Lock()
	known := w.over[search]
	w.over[search] = true
	w.bound()
	w.mu.Unlock()
	if !known {
		w.o.Log(fmt.Sprintf("search %s: %v: %v", search, ErrRefused, err))
	}
}

func (w *worker) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// counted returns what the worker has done for a search in the phases before.
func (w *worker) counted(s Spec) (scored, failed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last != s.Search {
		return 0, 0
	}
	return w.state.Scored, w.state.Failed
}

// next waits for a search to work for: of several, one by chance. One whose task is held comes first, once its phase is heard of.
func (w *worker) next(ctx context.Context) (Spec, error) {
	for {
		w.mu.Lock()
		for id, a := range w.searches {
			if w.held != nil && (id != w.last || a.spec.Phase < w.held.phase) {
				continue
			}
			if !w.over[id] && time.Since(a.at) < w.t.Silence {
				w.mu.Unlock()
				return a.spec, nil
			}
		}
		w.mu.Unlock()
		var silent <-chan time.Time // what would announce the phase of the held task may have died
		if w.held != nil {
			silent = time.After(w.t.Silence)
		}
		select {
		case <-w.wake:
		case <-silent:
		case <-ctx.Done():
			return Spec{}, ctx.Err()
		}
		if w.held != nil && w.isOver(w.last) {
			w.letGo()
		}
	}
}

// isPast reports whether a later phase of the search has begun.
func (w *worker) isPast(s Spec) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.searches[s.Search].spec.Phase > s.Phase
}

// isOver reports whether a search has ended or has not been heard of for long.
func (w *worker) isOver(search string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	a, known := w.searches[search]
	if known && !w.o.Conn.IsConnected() {
		a.at = time.Now() // nothing is heard without a connection
		w.searches[search] = a
	}
	return !known || time.Since(a.at) > w.t.Silence
}

// leave makes the worker forget a search.
func (w *worker) leave(search string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over[search] = true
	delete(w.searches, search)
}

// report changes the state and publishes it.
func (w *worker) report(change func(*Worker)) {
	w.mu.Lock()
	change(&w.state)
	state, search := w.state, w.search
	w.mu.Unlock()
	if search == "" {
		return
	}
	if data, err := json.Marshal(state); err == nil {
		_ = w.o.Conn.Publish(statusSubject(search, w.o.ID), data) // the next report follows soon
	}
}

// serve works for one search.
func (w *worker) serve(ctx context.Context, spec Spec) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	drain, err := w.o.Conn.Subscribe(drainSubject(spec.Search, w.o.ID), func(*nats.Msg) { w.report(func(s *Worker) { s.State = Draining }) })
	if err != nil {
		return fmt.Errorf("%w: %w", ErrServer, err)
	}
	defer func() { _ = drain.Unsubscribe() }()
	w.mu.Lock()
	before := Worker{}
	if w.last == spec.Search { // its counts go on
		before = w.state
	}
	w.search, w.last = spec.Search, spec.Search
	w.state = Worker{ID: w.o.ID, Host: w.state.Host, Device: w.state.Device, Scored: before.Scored, Failed: before.Failed}
	if before.State == Draining {
		w.state.State = Draining
	}
	w.mu.Unlock()
	w.report(func(s *Worker) {
		if s.State != Draining {
			s.State = Preparing
		}
	})
	var beats sync.WaitGroup
	beats.Go(func() {
		for pause(ctx, w.t.Status) == nil {
			w.report(func(*Worker) {})
			switch {
			case w.isOver(spec.Search):
				cancel(errOver)
			case w.isPast(spec):
				cancel(errPhase)
			}
		}
	})
	defer func() {
		for _, end := range []error{errOver, errPhase} {
			if err != nil && errors.Is(context.Cause(ctx), end) {
				err = end
			}
		}
		cancel(nil)
		beats.Wait()
		if errors.Is(err, errPhase) {
			return
		}
		w.leave(spec.Search)
		w.report(func(s *Worker) {
			s.State, s.Error = Gone, ""
			switch {
			case errors.Is(err, ErrRefused):
				s.State, s.Error = Refused, line(err.Error())
			case err != nil && !errors.Is(err, errOver) && !errors.Is(err, errDrained) && ctx.Err() == nil:
				s.Error = line(err.Error())
			}
		})
		_ = w.o.Conn.FlushTimeout(time.Second)
		w.mu.Lock()
		w.search = ""
		w.mu.Unlock()
	}()
	scorer, err := w.prepare(ctx, spec)
	if err != nil {
		return err
	}
	defer scorer.Close()
	return w.work(ctx, spec, scorer)
}

// check refuses a search that this worker is not made for.
func (w *worker) check(s Spec) error {
	switch {
	case s.Version != w.o.Version:
		return fmt.Errorf("%w: it runs in version %s, the worker is version %s", ErrRefused, s.Version, w.o.Version)
	case s.Device != w.o.Device:
		return fmt.Errorf("%w: it computes on %s, the worker on %s", ErrRefused, s.Device, w.o.Device)
	case s.Weights != w.o.Weights:
		return fmt.Errorf("%w: its weights are %s on the device, the worker's %s", ErrRefused, s.Weights, w.o.Weights)
	case s.Algebra != "" && s.Algebra != w.o.Algebra:
		return fmt.Errorf("%w: its linear algebra is that of %s, the worker's of %s", ErrRefused, s.Algebra, w.o.Algebra)
	case s.Runner != "" && s.Runner != w.o.Runner:
		return fmt.Errorf("%w: it runs models on %s, the worker on %s", ErrRefused, s.Runner, w.o.Runner)
	case len(w.o.Models) > 0 && !slices.Contains(w.o.Models, s.Model.SHA256):
		return fmt.Errorf("%w: its model has the hash %.12s, the worker's %.12s", ErrRefused, s.Model.SHA256, strings.Join(w.o.Models, " "))
	}
	return nil
}

// prepare gets the files of a search, loads them and computes the reference.
func (w *worker) prepare(ctx context.Context, s Spec) (Scorer, error) {
	if err := w.check(s); err != nil {
		return nil, err
	}
	get := func(name string, f File) (string, error) {
		var logged int64
		path, err := w.o.Files.get(ctx, w.o.Conn, w.js, s.Search, f, func(done int64) {
			if done-logged >= 1<<28 || done == f.Bytes {
				logged = done
				w.o.Log(fmt.Sprintf("%s: %d of %d MB", name, done>>20, f.Bytes>>20))
			}
		})
		if errors.Is(err, errAltered) {
			err = fmt.Errorf("%w: its %s: %w", ErrRefused, name, err)
		} else if err != nil {
			err = fmt.Errorf("the %s of the search: %w", name, err)
		}
		return path, err
	}
	var o Opened
	var err error
	if o.Model, err = get("model", s.Model); err != nil {
		return nil, err
	}
	if s.Text != (File{}) {
		if o.Text, err = get("text", s.Text); err != nil {
			return nil, err
		}
	}
	for i, f := range s.Levels {
		path, err := get(fmt.Sprintf("levels %d of %d", i+1, len(s.Levels)), f)
		if err != nil {
			return nil, err
		}
		o.Levels = append(o.Levels, path)
	}
	scorer, err := w.o.Open(ctx, s, o)
	if err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return nil, err
	}
	if err := w.compare(ctx, s, scorer); err != nil {
		scorer.Close()
		return nil, err
	}
	return scorer, nil
}

// compare computes the reference of a search, if it has one.
func (w *worker) compare(ctx context.Context, s Spec, scorer Scorer) error {
	if s.Reference.Tier.Tokens == 0 {
		w.mu.Lock()
		w.state.Exact = true // nothing shows otherwise
		w.mu.Unlock()
		return nil
	}
	got := math.NaN()
	err := scorer.Evaluate(ctx, []search.Candidate{scorer.Dense()}, s.Reference.Tier, func(_ int, s search.Score) { got = s.NLL })
	if err != nil {
		return err
	}
	if !(math.Abs(got-s.Reference.NLL) <= tolerance*math.Abs(s.Reference.NLL)) {
		return fmt.Errorf("%w: the dense model's loss is %.6g here and %.6g there", ErrRefused, got, s.Reference.NLL)
	}
	w.mu.Lock()
	w.state.Exact = got == s.Reference.NLL
	w.mu.Unlock()
	return nil
}
