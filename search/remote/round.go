package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/lathe-llm/lathe/search"
)

// round is one call of Evaluate.
type round struct {
	e       *Evaluator
	batch   []search.Candidate
	tier    search.Tier
	done    func(int, search.Score)
	index   map[string][]int // where each key is in the batch
	missing map[string]bool  // keys without a score
	queue   []string         // keys to hand out, in the order of their choices
	alone   []string         // the same, each in a task of its own
	tasks   map[uint64]*sent // by sequence in the stream
	tries   map[string]int   // how often workers failed on a key
	quiet   int              // audits one after another that found nothing under way
}

// sent is a task that was published and has candidates without a score.
type sent struct {
	keys   []string
	at     time.Time
	helped bool // its candidates were handed out again, to workers that had nothing to do
}

// publishWithin is how long a server may take to acknowledge a message.
const publishWithin = 5 * time.Second

// Evaluate implements [search.Evaluator]. It returns when all candidates have scores or, if it is asynchronous, when those that are
// left are not worth waiting for.
func (e *Evaluator) Evaluate(ctx context.Context, batch []search.Candidate, tier search.Tier, done func(int, search.Score)) error {
	r := e.newRound(batch, tier, done)
	tick := time.NewTicker(e.t.Audit)
	defer tick.Stop()
	for {
		if err := r.collect(ctx); err != nil {
			return errors.Join(err, r.abandon(ctx))
		}
		if len(r.missing) == 0 {
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
			if e.o.Conn.IsConnected() && ctx.Err() == nil {
				r.audit(ctx)
				r.hurry(ctx)
			}
		}
	}
}

func (e *Evaluator) newRound(batch []search.Candidate, tier search.Tier, done func(int, search.Score)) *round {
	r := &round{e: e, batch: batch, tier: tier, done: done, index: map[string][]int{}, missing: map[string]bool{}, tasks: map[uint64]*sent{}, tries: map[string]int{}}
	order := make([]int, len(batch))
	for i := range order {
		order[i] = i
	}
	// Candidates with a common prefix of levels follow one another, so that a worker computes it once.
	slices.SortStableFunc(order, func(a, b int) int { return slices.Compare(batch[a].Choice, batch[b].Choice) })
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, i := range order {
		key := keyOf(e.identity, batch[i], tier)
		if r.index[key] == nil {
			r.missing[key] = true
			if _, known := e.scores[key]; !known {
				r.queue = append(r.queue, key)
			}
		}
		r.index[key] = append(r.index[key], i)
	}
	return r
}

// collect passes on the scores that have arrived.
func (r *round) collect(ctx context.Context) error {
	for {
		key, s, ok := r.take()
		if !ok {
			return ctx.Err()
		}
		if err := r.pass(ctx, key, s); err != nil {
			return err
		}
	}
}

// take returns a score that has arrived for a missing key.
func (r *round) take() (string, search.Score, bool) {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	for key, s := range r.e.scores {
		if r.missing[key] {
			delete(r.e.scores, key)
			return key, s, true
		}
	}
	return "", search.Score{}, false
}

// pass passes a score on, and forgets the key.
func (r *round) pass(ctx context.Context, key string, s search.Score) error {
	delete(r.missing, key)
	for seq, t := range r.tasks {
		t.keys = slices.DeleteFunc(t.keys, func(k string) bool { return k == key })
		if len(t.keys) == 0 {
			delete(r.tasks, seq)
		}
	}
	for _, i := range r.index[key] {
		if err := ctx.Err(); err != nil {
			return err
		}
		r.done(i, s)
	}
	return nil
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
	n := c.batchSize(len(r.queue))
	keys := slices.Clone(r.queue[:n])
	r.queue = r.queue[n:]
	return slices.DeleteFunc(keys, func(key string) bool { return !pending(key) })
}

// errTask is wrapped when a task cannot be made or is too large for a message.
var errTask = errors.New("remote: task")

// publish publishes a task of the first keys, and returns how many of them it has.
func (r *round) publish(ctx context.Context, keys []string) (int, error) {
	for n := len(keys); ; n = (n + 1) / 2 {
		batch := make([]search.Candidate, n)
		for i, key := range keys[:n] {
			batch[i] = r.batch[r.index[key][0]]
		}
		t, err := newTask(batch, r.tier, func(weights string) (File, error) { return r.e.offerBase(ctx, weights) })
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errTask, err)
		}
		data, err := json.Marshal(t)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errTask, err)
		}
		if len(data) > maxTask {
			if n == 1 {
				return 0, fmt.Errorf("%w: a candidate has %d bytes, messages have %d at most", errTask, len(data), maxTask)
			}
			continue
		}
		r.e.mu.Lock()
		for _, key := range keys[:n] {
			r.e.handed[key] = true
		}
		r.e.mu.Unlock()
		within, cancel := context.WithTimeout(ctx, publishWithin)
		ack, err := r.e.js.Publish(within, taskSubject(r.e.o.Spec.Search), data, jetstream.WithMsgID(randomHex(16)), jetstream.WithExpectStream(tasksName(r.e.o.Spec.Search)))
		cancel()
		if err != nil {
			return 0, err
		}
		r.tasks[ack.Sequence] = &sent{keys: slices.Clone(keys[:n]), at: r.e.o.Now()}
		return n, nil
	}
}

// offerBase makes the weights of a subnet made by hand available.
func (e *Evaluator) offerBase(ctx context.Context, weights string) (File, error) {
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

// giveUp handles what workers failed on: a task of several candidates is divided, a candidate that several workers could not score is
// scored here.
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
		if r.tries[f.Key]++; r.tries[f.Key] < failures {
			r.alone = append(r.alone, f.Key)
			continue
		}
		if err := r.here(ctx, f.Key, fmt.Sprintf("%d workers could not score it, the last was %s: %s", failures, f.Worker, f.Error)); err != nil {
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

// maxGivenUp bounds how many candidates that were given up are listed.
const maxGivenUp = 100

// here scores a candidate in this process.
func (r *round) here(ctx context.Context, key, reason string) error {
	i := r.index[key][0]
	name := r.name(i)
	r.e.mu.Lock()
	r.e.given = append(r.e.given, GivenUp{name, reason})
	if n := len(r.e.given); n > maxGivenUp {
		r.e.given = r.e.given[n-maxGivenUp:]
	}
	delete(r.e.handed, key)
	r.e.mu.Unlock()
	if r.e.o.Local == nil {
		return fmt.Errorf("remote: candidate %s: %s", name, reason)
	}
	r.e.o.Note(fmt.Sprintf("candidate %s: %s: it is scored by the search itself", name, reason))
	var got *search.Score
	err := r.e.o.Local.Evaluate(ctx, r.batch[i:i+1], r.tier, func(_ int, s search.Score) { got = &s })
	if err != nil {
		return err
	}
	if got == nil {
		return errors.New("remote: the search's own evaluator left out a candidate")
	}
	return r.pass(ctx, key, *got)
}

// name names a candidate for people: the beginning of its key and its share of block parameters.
func (r *round) name(i int) string {
	m := r.batch[i].Masks
	return fmt.Sprintf("%.8s (%.3f of the block parameters)", keyOf(r.e.identity, r.batch[i], r.tier), float64(m.BlockParams())/float64(max(1, m.Geometry().BlockParams())))
}
