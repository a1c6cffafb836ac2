package remote

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// work is what a round hands out: things with keys, each of which has one result.
type work interface {
	// changed returns the keys that are to be handed out since the last call, in that order, those that are not needed any more, and
	// whether more may follow.
	changed() (more, less []string, open bool)
	// single reports whether each key is a task of its own.
	single() bool
	// message returns the task of the first of the keys, as many as fit into a message, and how many those are. Its error wraps errTask.
	message(ctx context.Context, keys []string) (data []byte, n int, err error)
	// read reads a result from a message.
	read(data []byte) (any, error)
	// done takes the result of a key over. An error that wraps errUnusable is one of the worker's.
	done(ctx context.Context, key string, result any) error
	// here does what no worker could do in this process. result is nil where that is left to the caller.
	here(ctx context.Context, key, reason string) (result any, err error)
	// late goes on without the result of a key, and reports whether that is possible.
	late(ctx context.Context, key string) bool
	// name names the subject of a key for people.
	name(key string) string
}

// round is one exchange of work for results.
type round struct {
	e       *Exchange
	w       work
	open    bool             // more work may follow
	all     int              // how many keys there were
	missing map[string]bool  // keys without a result
	queue   []string         // keys to hand out, in order
	alone   []string         // the same, each in a task of its own
	tasks   map[uint64]*sent // by sequence in the stream
	tries   map[string]int   // how often workers failed on a key
	quiet   int              // audits one after another that found nothing under way
}

// sent is a task that was published and has keys without a result.
type sent struct {
	keys   []string
	at     time.Time
	helped bool // its keys were handed out again, to workers that had nothing to do
}

// publishWithin is how long a server may take to acknowledge a message.
const publishWithin = 5 * time.Second

var (
	// errTask is wrapped when a task cannot be made or is too large for a message.
	errTask = errors.New("remote: task")
	// errUnusable is wrapped by the error of a result that cannot be what was asked for.
	errUnusable = errors.New("unusable result")
)

// run hands work out until all of it has results or, if the exchange is asynchronous, until what is left is not worth waiting for.
func (e *Exchange) run(ctx context.Context, w work) error {
	r := &round{e: e, w: w, missing: map[string]bool{}, tasks: map[uint64]*sent{}, tries: map[string]int{}}
	e.mu.Lock()
	e.read = w.read
	e.mu.Unlock()
	tick := time.NewTicker(e.t.Audit)
	defer tick.Stop()
	for {
		r.change()
		if err := r.collect(ctx); err != nil {
			return errors.Join(err, r.abandon(ctx))
		}
		if len(r.missing) == 0 && !r.open {
			return nil
		}
		if err := r.giveUp(ctx); err != nil {
			return errors.Join(err, r.abandon(ctx))
		}
		if err := r.handOut(ctx); err != nil {
			return errors.Join(err, r.abandon(ctx))
		}
		select {
		case <-ctx.Done():
		case <-e.wake:
		case <-tick.C:
			e.revision.Add(1) // workers may be lost
			e.await()
			if e.o.Conn.IsConnected() && ctx.Err() == nil {
				r.audit(ctx)
				r.hurry(ctx)
			}
		}
	}
}

// await reports once that no worker has joined for long.
func (e *Exchange) await() {
	if e.awaited || e.o.Now().Sub(e.began) < e.t.Silence/2 || len(e.roster.workers()) > 0 {
		return
	}
	e.awaited = true
	e.o.Note("no worker has joined yet: `lathe worker --nats URL` starts one; the work waits for it")
}

// change takes over what was added to the work and what was withdrawn.
func (r *round) change() {
	more, less, open := r.w.changed()
	r.open = open
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	for _, key := range more {
		r.missing[key] = true
		r.all++
		if _, known := r.e.arrived[key]; !known {
			r.queue = append(r.queue, key)
		}
	}
	for _, key := range less {
		delete(r.e.handed, key)
		delete(r.e.arrived, key)
		r.forget(key)
	}
}

// collect passes on the results that have arrived.
func (r *round) collect(ctx context.Context) error {
	for {
		key, result, ok := r.take()
		if !ok {
			return ctx.Err()
		}
		if err := r.pass(ctx, key, result); err != nil {
			return err
		}
	}
}

// take returns a result that has arrived for a missing key.
func (r *round) take() (string, any, bool) {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	for key, result := range r.e.arrived {
		if r.missing[key] {
			delete(r.e.arrived, key)
			return key, result, true
		}
	}
	return "", nil, false
}

// forget removes a key.
func (r *round) forget(key string) {
	delete(r.missing, key)
	r.untask(key)
}

// untask removes a key from the tasks under way.
func (r *round) untask(key string) {
	for seq, t := range r.tasks {
		t.keys = slices.DeleteFunc(t.keys, func(k string) bool { return k == key })
		if len(t.keys) == 0 {
			delete(r.tasks, seq)
		}
	}
}

// pass passes a result on, and forgets the key.
func (r *round) pass(ctx context.Context, key string, result any) error {
	r.forget(key)
	err := r.w.done(ctx, key, result)
	if err == nil || !errors.Is(err, errUnusable) || ctx.Err() != nil {
		return err
	}
	r.missing[key] = true
	return r.failed(ctx, key, line(err.Error()))
}

// abandon removes the tasks that no worker has taken, and keeps the error of ctx as it is.
func (r *round) abandon(ctx context.Context) error {
	if !r.e.o.Conn.IsConnected() {
		return nil
	}
	purge, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishWithin)
	defer cancel()
	_ = r.e.tasks.Purge(purge) // what stays is computed for nothing
	return nil
}

// handOut publishes tasks, as many as the workers that there are need not to wait.
func (r *round) handOut(ctx context.Context) error {
	for len(r.alone)+len(r.queue) > 0 && r.e.o.Conn.IsConnected() {
		c := r.e.roster.crew()
		if len(r.tasks) >= taskAhead*max(1, c.ready) {
			return nil
		}
		keys := r.next(c)
		if len(keys) == 0 {
			continue
		}
		n, err := r.publish(ctx, keys)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errTask):
			return err
		case err != nil: // the server is away: later
			r.queue = append(keys, r.queue...)
			return nil
		}
		r.queue = append(keys[n:], r.queue...)
	}
	return nil
}

// next removes the keys of the next task from what is to be handed out.
func (r *round) next(c crew) []string {
	pending := func(key string) bool { return r.missing[key] }
	if len(r.alone) > 0 {
		key := r.alone[0]
		r.alone = r.alone[1:]
		if !pending(key) {
			return nil
		}
		return []string{key}
	}
	n := 1
	if !r.w.single() {
		n = c.batchSize(len(r.queue))
	}
	keys := slices.Clone(r.queue[:n])
	r.queue = r.queue[n:]
	return slices.DeleteFunc(keys, func(key string) bool { return !pending(key) })
}

// publish publishes a task of the first keys, and returns how many of them it has.
func (r *round) publish(ctx context.Context, keys []string) (int, error) {
	data, n, err := r.w.message(ctx, keys)
	if err != nil {
		return 0, err
	}
	r.e.mu.Lock()
	for _, key := range keys[:n] {
		r.e.handed[key] = true
	}
	r.e.mu.Unlock()
	within, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	ack, err := r.e.js.Publish(within, taskSubject(r.e.search()), data, jetstream.WithMsgID(randomHex(16)), jetstream.WithExpectStream(tasksName(r.e.search())))
	if err != nil {
		return 0, err
	}
	r.tasks[ack.Sequence] = &sent{keys: slices.Clone(keys[:n]), at: r.e.o.Now()}
	return n, nil
}

// giveUp handles what workers failed on: a task of several keys is divided, what several workers could not do is done here.
func (r *round) giveUp(ctx context.Context) error {
	r.e.mu.Lock()
	failed, dead, broken := r.e.failed, r.e.dead, r.e.broken
	r.e.failed, r.e.dead = nil, nil
	r.e.mu.Unlock()
	if broken != nil {
		return broken
	}
	for _, f := range failed {
		if !r.missing[f.Key] {
			continue
		}
		if err := r.failed(ctx, f.Key, fmt.Sprintf("the last was %s: %s", f.Worker, f.Error)); err != nil {
			return err
		}
	}
	for _, seq := range dead {
		if err := r.bury(ctx, seq); err != nil {
			return err
		}
	}
	return nil
}

// failed counts that a worker failed on a key.
func (r *round) failed(ctx context.Context, key, last string) error {
	r.untask(key)
	if r.tries[key]++; r.tries[key] < failures {
		r.alone = append(r.alone, key)
		return nil
	}
	return r.here(ctx, key, fmt.Sprintf("%d workers could not %s it, %s", failures, r.verb(), last))
}

// verb is what workers do with the work.
func (r *round) verb() string {
	if r.w.single() {
		return "do"
	}
	return "score"
}

// bury handles a task that was delivered as often as it may be, without a result.
func (r *round) bury(ctx context.Context, seq uint64) error {
	t := r.tasks[seq]
	if t == nil {
		return nil
	}
	delete(r.tasks, seq)
	_ = r.e.tasks.DeleteMsg(ctx, seq) // it is not delivered again anyway
	if len(t.keys) > 1 {
		r.alone = append(r.alone, t.keys...)
		return nil
	}
	return r.here(ctx, t.keys[0], fmt.Sprintf("%d workers took it and were not heard of again", r.e.t.Deliveries))
}

// maxGivenUp bounds how much that was given up is listed.
const maxGivenUp = 100

// here does in this process what workers could not do.
func (r *round) here(ctx context.Context, key, reason string) error {
	name := r.w.name(key)
	r.e.mu.Lock()
	r.e.given = append(r.e.given, GivenUp{name, reason})
	if n := len(r.e.given); n > maxGivenUp {
		r.e.given = r.e.given[n-maxGivenUp:]
	}
	delete(r.e.handed, key)
	r.e.mu.Unlock()
	result, err := r.w.here(ctx, key, reason)
	if err != nil {
		return err
	}
	if result == nil {
		r.forget(key)
		return nil
	}
	return r.pass(ctx, key, result)
}
