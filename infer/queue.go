package infer

import (
	"context"
	"slices"
	"sync"
)

// QueueState describes which calls use a model and wait for it.
type QueueState struct {
	Running string   // the call that computes ("chat", "score", …); "" when none does
	Waiting []string // the calls that wait, in the order of their turns
}

// Queue admits callers one at a time. Owners, named by [WithQueueOwner], take turns, however many calls each of them has
// waiting; the calls of one owner, and those without an owner, keep their order of arrival. The zero value is an empty
// queue.
type Queue struct {
	mu      sync.Mutex
	running string
	busy    bool
	round   int            // of the running call
	last    map[string]int // newest round of each owner, where it is not below round
	waiting []*ticket      // by round, then by arrival
}

type ticket struct {
	what  string
	owner string
	round int           // an owner has at most one call in a round
	ready chan struct{} // closed when it is this ticket's turn
	moved chan int      // newest position, for the trace
}

// Enter waits for its turn and returns the function that ends it, which may be called more than once. what names the work
// in QueueState. While Enter waits, it reports its position to a trace of [WithQueueTrace] in ctx.
func (q *Queue) Enter(ctx context.Context, what string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	owner, _ := ctx.Value(queueOwnerKey{}).(string)
	q.mu.Lock()
	if !q.busy {
		q.busy, q.running = true, what
		q.round, q.last = 0, map[string]int{owner: 0}
		q.mu.Unlock()
		return sync.OnceFunc(q.next), nil
	}
	t := q.queue(what, owner)
	q.mu.Unlock()

	trace, _ := ctx.Value(queueTraceKey{}).(func(int))
	for {
		select {
		case <-t.ready:
			if trace != nil {
				trace(0)
			}
			return sync.OnceFunc(q.next), nil
		case position := <-t.moved:
			if trace != nil {
				trace(position)
			}
		case <-ctx.Done():
			q.abandon(t)
			return nil, ctx.Err()
		}
	}
}

// queue adds a ticket, in the first round in which its owner has no call. q.mu is held.
func (q *Queue) queue(what, owner string) *ticket {
	t := &ticket{what: what, owner: owner, round: q.round, ready: make(chan struct{}), moved: make(chan int, 1)}
	if last, ok := q.last[owner]; ok {
		t.round = last + 1
	}
	q.last[owner] = t.round
	at := len(q.waiting)
	for at > 0 && q.waiting[at-1].round > t.round {
		at--
	}
	q.waiting = slices.Insert(q.waiting, at, t)
	q.reportPositions(at)
	return t
}

// State returns what runs and what waits now.
func (q *Queue) State() QueueState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := QueueState{Running: q.running}
	for _, t := range q.waiting {
		s.Waiting = append(s.Waiting, t.what)
	}
	return s
}

// next admits the first waiting ticket, or marks the queue as free.
func (q *Queue) next() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.busy, q.running = false, ""
		return
	}
	t := q.waiting[0]
	q.waiting = q.waiting[1:]
	q.running, q.round = t.what, t.round
	for owner, last := range q.last {
		if last < q.round {
			delete(q.last, owner)
		}
	}
	close(t.ready)
	q.reportPositions(0)
}

// abandon removes a ticket, or passes on its turn where that came at the same moment.
func (q *Queue) abandon(t *ticket) {
	q.mu.Lock()
	i := slices.Index(q.waiting, t)
	if i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		if q.last[t.owner] == t.round {
			q.last[t.owner]--
		}
		q.reportPositions(i)
	}
	q.mu.Unlock()
	if i < 0 {
		q.next()
	}
}

// reportPositions sends the tickets from an index on their positions, replacing those not read yet. q.mu is held.
func (q *Queue) reportPositions(from int) {
	for i, t := range q.waiting[from:] {
		select {
		case <-t.moved:
		default:
		}
		t.moved <- from + i + 1
	}
}

type (
	queueTraceKey struct{}
	queueOwnerKey struct{}
)

// WithQueueTrace returns a context whose calls on a model report their position in its queue to moved: 1 for the next call,
// 0 once the turn has come. A call that does not wait reports nothing. moved is called from the goroutine of the call.
func WithQueueTrace(ctx context.Context, moved func(position int)) context.Context {
	return context.WithValue(ctx, queueTraceKey{}, moved)
}

// WithQueueOwner returns a context whose calls on a model belong to owner. Owners take turns in a model's queue.
func WithQueueOwner(ctx context.Context, owner string) context.Context {
	return context.WithValue(ctx, queueOwnerKey{}, owner)
}
