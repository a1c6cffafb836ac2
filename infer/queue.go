package infer

import (
	"context"
	"sync"
)

// QueueState is who uses a model and who waits for it.
type QueueState struct {
	Running string   // what is computing ("chat", "score", …); "" when nothing is
	Waiting []string // what waits, first in line first
}

// Queue lets callers through one at a time in order of arrival. Its zero value is ready for use and free.
type Queue struct {
	mu      sync.Mutex
	running string
	busy    bool
	waiting []*ticket
}

type ticket struct {
	what  string
	ready chan struct{} // closed when it is this ticket's turn
	moved chan int      // latest position, for the trace
}

// Enter waits for its turn and returns the function that ends it, which must be called once. what names the work in
// QueueState. While it waits, a trace of [WithQueueTrace] in ctx is told the position.
func (q *Queue) Enter(ctx context.Context, what string) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	if !q.busy {
		q.busy, q.running = true, what
		q.mu.Unlock()
		return sync.OnceFunc(q.next), nil
	}
	t := &ticket{what: what, ready: make(chan struct{}), moved: make(chan int, 1)}
	q.waiting = append(q.waiting, t)
	t.moved <- len(q.waiting)
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

// State is who runs and who waits now.
func (q *Queue) State() QueueState {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := QueueState{Running: q.running}
	for _, t := range q.waiting {
		s.Waiting = append(s.Waiting, t.what)
	}
	return s
}

// next lets the first waiting ticket in, or frees the queue.
func (q *Queue) next() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.busy, q.running = false, ""
		return
	}
	t := q.waiting[0]
	q.waiting = q.waiting[1:]
	q.running = t.what
	close(t.ready)
	q.tell()
}

// abandon takes a ticket out of the line, or passes its turn on when that came at the same moment.
func (q *Queue) abandon(t *ticket) {
	q.mu.Lock()
	for i, w := range q.waiting {
		if w == t {
			q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
			q.tell()
			q.mu.Unlock()
			return
		}
	}
	q.mu.Unlock()
	q.next()
}

// tell gives every waiting ticket its position, replacing one not read yet. q.mu is held.
func (q *Queue) tell() {
	for i, t := range q.waiting {
		select {
		case <-t.moved:
		default:
		}
		t.moved <- i + 1
	}
}

type queueTraceKey struct{}

// WithQueueTrace returns a context whose calls on a model report their place in its queue: moved(1) is next in line,
// moved(0) says that the turn has come after a wait. A call that need not wait reports nothing. moved is called from the
// goroutine of the call.
func WithQueueTrace(ctx context.Context, moved func(position int)) context.Context {
	return context.WithValue(ctx, queueTraceKey{}, moved)
}
