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
	ready  chan struct{}
	wanted chan struct{} // closed when another caller waits for it; guarded by lazy.mu until then
	value  T
	err    error
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
		l.want(a)
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
		l.made = &attempt[T]{ready: make(chan struct{}), wanted: make(chan struct{})}
		first = true
	}
	return l.made, first
}

// underWay reports whether the value is being made.
func (l *lazy[T]) underWay() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made == nil {
		return false
	}
	select {
	case <-l.made.ready:
		return false
	default:
		return true
	}
}

// want notes that a caller waits for an attempt.
func (l *lazy[T]) want(a *attempt[T]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-a.wanted:
	default:
		close(a.wanted)
	}
}

// gate returns a gate for the function that makes the value: it blocks as hold does, but not while another caller waits for the
// value. That caller's job may be what the maker is held for.
func (l *lazy[T]) gate(hold func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		l.mu.Lock()
		a := l.made
		l.mu.Unlock()
		if a == nil {
			return hold(ctx)
		}
		waiting, cancel := context.WithCancel(ctx)
		defer cancel()
		done := make(chan struct{})
		defer close(done)
		go func() {
			select {
			case <-a.wanted:
				cancel()
			case <-done:
			}
		}()
		err := hold(waiting)
		if err != nil && ctx.Err() == nil && waiting.Err() != nil {
			return nil
		}
		return err
	}
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
