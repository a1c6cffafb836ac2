package engine

import (
	"context"
	"errors"
	"sync"
)

// lazy is a value that is made when it is first asked for, which may take long. Its lock is not held meanwhile. Making it
// again is tried after a failure.
type lazy[T any] struct {
	mu   sync.Mutex
	made *attempt[T]
}

// attempt is one try to make a value. Its fields are written before ready is closed.
type attempt[T any] struct {
	ready chan struct{}
	value T
	err   error
}

// get returns the value, made by the first caller with its context. Others wait until it is made or their context ends.
func (l *lazy[T]) get(ctx context.Context, make func(context.Context) (T, error)) (T, error) {
	for {
		a, first := l.attempt()
		if first {
			a.value, a.err = make(ctx)
			if a.err != nil {
				l.take(a)
			}
			close(a.ready)
			return a.value, a.err
		}
		select {
		case <-a.ready:
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
		if !errors.Is(a.err, context.Canceled) && !errors.Is(a.err, context.DeadlineExceeded) {
			return a.value, a.err
		}
		// Whoever made it was stopped: this caller was not.
	}
}

// attempt returns the attempt under way or done, or a new one that the caller has to finish.
func (l *lazy[T]) attempt() (a *attempt[T], first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made == nil {
		l.made = &attempt[T]{ready: make(chan struct{})}
		first = true
	}
	return l.made, first
}

// take forgets an attempt, or with nil whichever there is, and returns what was forgotten.
func (l *lazy[T]) take(a *attempt[T]) *attempt[T] {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a != nil && l.made != a {
		return nil
	}
	a, l.made = l.made, nil
	return a
}

// reset forgets the value and returns it, once it is made if it is being made. ok is false where there is none.
func (l *lazy[T]) reset() (value T, ok bool) {
	a := l.take(nil)
	if a == nil {
		return value, false
	}
	<-a.ready
	return a.value, a.err == nil
}
