package remote

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// quietAudits is how many audits one after another must find nothing under way before what is missing is handed out again: the
// state of a consumer is behind that of its stream for a moment.
const quietAudits = 2

// audit compares what is missing with what the server has. Streams and tasks that it has lost are made and published again, results
// that were published while this process was not connected are read, and tasks that are not delivered any more are given up.
func (r *round) audit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	info, err := r.e.queue.Info(ctx)
	if err == nil {
		_, err = r.e.results.Info(ctx)
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
		if r.e.open(ctx) == nil {
			r.again()
		}
		return
	}
	if err != nil {
		return // the server is away
	}
	if info.NumPending > 0 || info.NumAckPending > 0 || len(r.tasks) == 0 {
		r.quiet = 0
		return
	}
	if r.quiet++; r.quiet < quietAudits {
		return
	}
	r.quiet = 0
	r.readResults(ctx)
	for seq, t := range r.tasks {
		_, err := r.e.tasks.GetMsg(ctx, seq)
		switch {
		case err == nil: // it is there and not delivered any more
			r.e.mu.Lock()
			r.e.dead = append(r.e.dead, seq)
			r.e.mu.Unlock()
		case errors.Is(err, jetstream.ErrMsgNotFound): // done, with a result that was lost, or lost itself
			delete(r.tasks, seq)
			r.queue = append(r.queue, r.unscored(t.keys)...)
		}
	}
	r.e.signal()
}

// again hands out everything that is missing again.
func (r *round) again() {
	for seq, t := range r.tasks {
		delete(r.tasks, seq)
		r.queue = append(r.queue, r.unscored(t.keys)...)
	}
	r.e.signal()
}

// unscored returns the keys of which no result has arrived.
func (r *round) unscored(keys []string) []string {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	var out []string
	for _, key := range keys {
		if _, arrived := r.e.arrived[key]; !arrived && r.missing[key] {
			out = append(out, key)
		}
	}
	return out
}

// readResults reads the results of missing keys from the stream.
func (r *round) readResults(ctx context.Context) {
	for key := range r.missing {
		m, err := r.e.results.GetLastMsgForSubject(ctx, resultSubject(r.e.search(), key))
		if err != nil {
			continue
		}
		if result, err := r.w.read(m.Data); err == nil {
			r.e.accept(key, result)
		}
	}
}

// The last of the work is worth hurrying once it takes so many times as long as other work, and at least so long.
const (
	hurryTimes = 3
	hurryAfter = 5 * time.Second
)

// hurry deals with tasks that take much longer than others while other workers have nothing to do. They are handed out again, once; an
// asynchronous search goes on without their candidates if at least half of the batch is scored.
func (r *round) hurry(ctx context.Context) {
	c := r.e.roster.crew()
	if len(r.queue)+len(r.alone) > 0 || r.open || c.idle == 0 || c.idle <= r.unstarted(c) {
		return
	}
	for _, t := range r.tasks {
		expected := time.Duration(hurryTimes * c.seconds * float64(len(t.keys)) * float64(time.Second))
		if c.seconds == 0 || r.e.o.Now().Sub(t.at) < max(expected, min(hurryAfter, 4*r.e.t.Audit)) {
			continue
		}
		if r.e.o.Async && 2*len(r.missing) <= r.all && r.goOn(ctx, t) {
			continue
		}
		if !t.helped {
			t.helped = true
			r.alone = append(r.alone, t.keys...)
		}
	}
	r.e.signal()
}

// unstarted returns how many tasks there are beyond those that workers are busy with.
func (r *round) unstarted(c crew) int { return max(0, len(r.tasks)-(c.ready-c.idle)) }

// goOn goes on without the results of a task, and reports whether that is possible.
func (r *round) goOn(ctx context.Context, t *sent) bool {
	for _, key := range append([]string(nil), t.keys...) {
		if !r.w.late(ctx, key) {
			return false
		}
		r.forget(key)
	}
	return true
}
