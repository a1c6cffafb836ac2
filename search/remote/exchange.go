package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lathe-llm/lathe/search"
)

// Timing holds the times of the exchange between a search and its workers. Zero fields have the defaults.
type Timing struct {
	AckWait    time.Duration // after which a task whose worker is silent goes to another; 30 s
	Heartbeat  time.Duration // of a worker that has a task; 10 s
	Status     time.Duration // between two reports of a worker; 5 s
	Announce   time.Duration // between two announcements of a search; 2 s
	Audit      time.Duration // between two comparisons of what is missing with what the server has; 2 s
	Lost       time.Duration // after which a worker that is not heard of is lost; 30 s
	Silence    time.Duration // after which a search that is not heard of is over; 60 s
	Stored     time.Duration // after which a message whose storage the server has not confirmed is published again; 10 s
	Deliveries int           // how often a task is delivered before it is given up; 5
}

func (t Timing) withDefaults() Timing {
	t.AckWait = cmp.Or(t.AckWait, 30*time.Second)
	t.Heartbeat = cmp.Or(t.Heartbeat, 10*time.Second)
	t.Status = cmp.Or(t.Status, 5*time.Second)
	t.Announce = cmp.Or(t.Announce, 2*time.Second)
	t.Audit = cmp.Or(t.Audit, 2*time.Second)
	t.Lost = cmp.Or(t.Lost, 30*time.Second)
	t.Silence = cmp.Or(t.Silence, 60*time.Second)
	t.Stored = cmp.Or(t.Stored, 10*time.Second)
	t.Deliveries = cmp.Or(t.Deliveries, 5)
	return t
}

// failures is how many workers may fail on a candidate before it is given up.
const failures = 3

// Options configure an [Exchange].
type Options struct {
	Conn *nats.Conn
	Spec Spec // of the first phase; Protocol is set
	// Local scores candidates that workers gave up on, as a search without workers does.
	Local search.Evaluator
	// Base returns the file with the weights of a subnet made by hand.
	Base func(weights string) (path string, err error)
	// Note, unless nil, is called with a line about something noteworthy that is not an error.
	Note func(text string)
	// Async has the search go on without the last candidates of a batch once workers have nothing else to do. Their scores have Late set.
	Async bool
	// Dir is a folder for files that pieces of work result in, "" where there are none.
	Dir string
	// Shared is a folder that workers on other machines see too, and Own one that those of this machine see; "" for none.
	Shared string
	Own    string
	Timing Timing
	Now    func() time.Time // time.Now if nil
}

// An Exchange hands work out to workers: it implements [search.Evaluator], and the [Pieces] of [Exchange.NewPieces] are other work.
type Exchange struct {
	o        Options
	t        Timing
	js       jetstream.JetStream
	replicas int
	tasks    jetstream.Stream
	results  jetstream.Stream
	queue    jetstream.Consumer
	roster   *roster
	supply   *supply
	intake   *intake
	subs     []*nats.Subscription
	revision atomic.Uint64
	wake     chan struct{} // has an element when something has arrived
	end      context.CancelFunc
	ended    sync.WaitGroup

	began   time.Time
	awaited bool // that no worker has joined was reported; by rounds alone

	mu      sync.Mutex
	now     Spec                      // of the present phase
	handed  map[string]bool           // keys that a worker may report a result of
	arrived map[string]any            // results that are not passed on yet
	read    func([]byte) (any, error) // reads results of the present round, nil before the first
	failed  []failure
	broken  error    // makes rounds fail
	dead    []uint64 // sequences of tasks that were delivered too often
	given   []GivenUp
}

// GivenUp is a candidate that workers could not score, or a piece of work that they could not do.
type GivenUp struct {
	Name   string // for people
	Reason string
}

// New opens the streams of a search and announces it. Files that workers need are offered with [Exchange.Offer] before.
func New(ctx context.Context, o Options) (*Exchange, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	o.Spec.Protocol = protocol
	if err := o.Spec.check(); err != nil {
		return nil, err
	}
	t := o.Timing.withDefaults()
	js, err := streams(o.Conn, t.Stored)
	if err != nil {
		return nil, err
	}
	e := &Exchange{
		o: o, t: t, js: js, replicas: 1, wake: make(chan struct{}, 1),
		began: o.Now(), now: o.Spec, handed: map[string]bool{}, arrived: map[string]any{},
	}
	e.roster = newRoster(e.t.Lost, o.Now)
	if o.Conn.ConnectedClusterName() != "" {
		e.replicas = 3
	}
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	e.supply, e.intake = newSupply(js, o.Spec.Search, e.replicas), newIntake(o.Dir, e.folders()...)
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e.end = cancel
	if err := e.listen(running); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	e.ended.Go(func() { e.announce(running) })
	return e, nil
}

// week is how long messages and parts of files stay at most, if they are not removed.
const week = 7 * 24 * time.Hour

// maxMessages bounds the messages of a stream: results of that many candidates ago are of no use.
const maxMessages = 1 << 17

// open creates the streams and the consumer, or finds them.
func (e *Exchange) open(ctx context.Context) error {
	search := e.o.Spec.Search
	var err error
	for {
		e.tasks, err = e.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: tasksName(search), Subjects: []string{taskSubject(search)}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Replicas: e.replicas,
			Discard: jetstream.DiscardNew, MaxMsgSize: maxPayload, MaxMsgs: maxMessages, MaxAge: week, // a limit of bytes would be reserved
		})
		if err == nil || e.replicas == 1 || ctx.Err() != nil {
			break
		}
		e.replicas = 1 // a cluster with fewer servers
	}
	if err == nil {
		e.results, err = e.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: resultsName(search), Subjects: []string{resultSubject(search, "*")}, Storage: jetstream.FileStorage, Replicas: e.replicas,
			MaxMsgsPerSubject: 1, MaxMsgSize: maxResult, MaxMsgs: maxMessages, MaxAge: week, AllowDirect: true,
		})
	}
	if err == nil {
		e.queue, err = e.tasks.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
			Durable: consumerName, AckPolicy: jetstream.AckExplicitPolicy, AckWait: e.t.AckWait, MaxDeliver: e.t.Deliveries,
			MaxAckPending: 1 << 16, MaxWaiting: 1 << 14,
		})
	}
	if err != nil {
		return fmt.Errorf("%w: the streams of the search: %w", ErrServer, err)
	}
	return nil
}

// listen subscribes to what workers report.
func (e *Exchange) listen(ctx context.Context) error {
	search := e.o.Spec.Search
	for subject, handle := range map[string]func(*nats.Msg){
		resultSubject(search, "*"): e.heardResult,
		failedSubject(search):      e.heardFailure,
		statusSubject(search, "*"): e.heardStatus,
		deadSubject(search):        e.heardDead,
		fileSubject(search):        func(m *nats.Msg) { e.supply.answer(ctx, m) },
		productSubject(search):     e.intake.answer,
	} {
		sub, err := e.o.Conn.Subscribe(subject, handle)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrServer, err)
		}
		e.subs = append(e.subs, sub)
	}
	return nil
}

// announce announces the search until ctx ends.
func (e *Exchange) announce(ctx context.Context) {
	for {
		e.announceOnce()
		if pause(ctx, e.t.Announce) != nil {
			return
		}
	}
}

// announceOnce announces the search.
func (e *Exchange) announceOnce() {
	data, _ := json.Marshal(e.spec())                       // it has been checked
	_ = e.o.Conn.Publish(announceSubject(e.search()), data) // again soon
}

// search is the identity of the search.
func (e *Exchange) search() string { return e.o.Spec.Search }

// spec describes the present phase of the search.
func (e *Exchange) spec() Spec {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

// Begin ends the present phase of the search and begins another one, in which workers need other files. Local and base replace those of
// the options. No work may be under way.
func (e *Exchange) Begin(spec Spec, local search.Evaluator, base func(weights string) (string, error)) error {
	e.mu.Lock()
	spec.Protocol, spec.Search, spec.Phase = protocol, e.now.Search, e.now.Phase+1
	err := spec.check()
	if err == nil {
		e.now, e.o.Local, e.o.Base = spec, local, base
		clear(e.handed)
		clear(e.arrived)
	}
	e.mu.Unlock()
	if err == nil {
		e.announceOnce()
	}
	return err
}

// Offer makes a file available to workers.
func (e *Exchange) Offer(f File, path string) error {
	for _, dir := range e.folders() {
		if err := Share(dir, f, path, dir == e.o.Own); err != nil {
			return err
		}
	}
	e.supply.add(f, path)
	return nil
}

// Retract takes back what [Exchange.Offer] has made available. What of it is on the server stays until the end where the server is
// away, or slow.
func (e *Exchange) Retract(ctx context.Context, f File) error {
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	if !e.o.Conn.IsConnected() {
		cancel()
	}
	e.supply.remove(ctx, f)
	for _, dir := range e.folders() {
		if err := os.Remove(filepath.Join(dir, f.SHA256)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// folders are those that workers see too.
func (e *Exchange) folders() []string {
	return slices.DeleteFunc([]string{e.o.Own, e.o.Shared}, func(dir string) bool { return dir == "" })
}

// ErrLeft is returned by [Exchange.Close] when the server is away: what the search has stored there stays, see [Remove].
var ErrLeft = errors.New("the server is away, and keeps what the search has stored there")

// Close ends the search for its workers and removes its streams, and the files that nobody has taken.
func (e *Exchange) Close() error {
	defer e.intake.close()
	e.end()
	e.ended.Wait()
	for _, sub := range e.subs {
		_ = sub.Unsubscribe() // the connection may be closed already
	}
	over := Spec{Protocol: protocol, Search: e.o.Spec.Search, Ended: true}
	data, err := json.Marshal(over)
	if err != nil {
		return err
	}
	if !e.o.Conn.IsConnected() {
		return ErrLeft
	}
	_ = e.o.Conn.Publish(announceSubject(e.o.Spec.Search), data)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return Remove(ctx, e.o.Conn, e.o.Spec.Search)
}

// Remove removes what a search has left on a server.
func Remove(ctx context.Context, conn *nats.Conn, search string) error {
	if !isHex(search, searchDigits) {
		return fmt.Errorf("remote: %.40q is not the identity of a search", search)
	}
	js, err := streams(conn, Timing{}.withDefaults().Stored)
	if err != nil {
		return err
	}
	for _, name := range []string{tasksName(search), resultsName(search)} {
		if gone := js.DeleteStream(ctx, name); gone != nil && !errors.Is(gone, jetstream.ErrStreamNotFound) {
			err = errors.Join(err, gone)
		}
	}
	if gone := js.DeleteObjectStore(ctx, bucketName(search)); gone != nil && !errors.Is(gone, jetstream.ErrBucketNotFound) && !errors.Is(gone, jetstream.ErrStreamNotFound) {
		err = errors.Join(err, gone)
	}
	return err
}

// Revision rises when workers have reported, and now and then.
func (e *Exchange) Revision() uint64 { return e.revision.Load() }

// Workers returns the workers that have reported, by their identities.
func (e *Exchange) Workers() []Worker { return e.roster.workers() }

// GivenUp returns the candidates that workers could not score and the pieces that they could not do, the last ones last.
func (e *Exchange) GivenUp() []GivenUp {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.given)
}

// Queued returns how many candidates and pieces of work have been handed out and have no result.
func (e *Exchange) Queued() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.handed)
}

// ErrNoWorker is wrapped when there is no such worker.
var ErrNoWorker = errors.New("no such worker")

// Drain asks a worker to finish its task and leave.
func (e *Exchange) Drain(id string) error {
	i := slices.IndexFunc(e.roster.workers(), func(w Worker) bool { return w.ID == id && w.State != Gone && w.State != Lost })
	if i < 0 {
		return fmt.Errorf("worker %.64q: %w", id, ErrNoWorker)
	}
	return e.o.Conn.Publish(drainSubject(e.o.Spec.Search, id), nil)
}

// Fail makes Evaluate and [Pieces.Run] return an error, because nobody is left who works; nil takes it back.
func (e *Exchange) Fail(err error) {
	e.mu.Lock()
	e.broken = err
	e.mu.Unlock()
	e.signal()
}

// signal wakes up the round.
func (e *Exchange) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *Exchange) heardResult(m *nats.Msg) {
	e.mu.Lock()
	read := e.read
	e.mu.Unlock()
	if read == nil {
		return
	}
	key := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
	result, err := read(m.Data)
	if err != nil || !e.accept(key, result) { // it is missing, and handed out again, or nobody waits for it
		e.intake.discard(key, m.Data)
	}
}

// accept takes a result over if it was asked for and is the first of its key, and reports whether it does.
func (e *Exchange) accept(key string, result any) bool {
	e.mu.Lock()
	asked := e.handed[key]
	if asked {
		delete(e.handed, key)
		e.arrived[key] = result
	}
	e.mu.Unlock()
	e.signal()
	return asked
}

func (e *Exchange) heardFailure(m *nats.Msg) {
	f, err := decodeFailure(m.Data)
	if err != nil {
		return
	}
	e.mu.Lock()
	if e.handed[f.Key] {
		e.failed = append(e.failed, f)
	}
	e.mu.Unlock()
	e.signal()
}

func (e *Exchange) heardStatus(m *nats.Msg) {
	w, err := decodeStatus(m.Data)
	if err != nil || !strings.HasSuffix(m.Subject, "."+w.ID) {
		return
	}
	before, known := e.roster.heard(w)
	e.revision.Add(1)
	switch {
	case known && before.State == w.State:
	case w.State == Refused:
		e.o.Note(fmt.Sprintf("worker %s on %s cannot do this work: %s", w.ID, w.Host, w.Error))
	case w.State == Gone && w.Error != "":
		e.o.Note(fmt.Sprintf("worker %s on %s has left: %s", w.ID, w.Host, w.Error))
	case w.State == Idle && !w.Exact && before.State != Scoring && before.State != Idle:
		e.o.Note(fmt.Sprintf("worker %s on %s computes numbers that differ in their last digits from those of this process: results may depend on who computes them", w.ID, w.Host))
	default: // nothing for the others
	}
	e.signal()
}

// heardDead records that the server gave up on a task.
func (e *Exchange) heardDead(m *nats.Msg) {
	var advisory struct {
		Sequence uint64 `json:"stream_seq"`
	}
	if decode(m.Data, maxStatus, &advisory) != nil {
		return // the audit finds it
	}
	e.mu.Lock()
	e.dead = append(e.dead, advisory.Sequence)
	e.mu.Unlock()
	e.signal()
}
