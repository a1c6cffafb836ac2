package infer

import (
	"errors"
	"sync"
)

// Models are the open models of an engine, which closing it closes. The zero value is empty and ready. It is for implementations of
// [Engine].
type Models struct {
	mu     sync.Mutex
	closed bool
	open   map[Model]bool
}

// Check returns ErrClosed once Close was called.
func (l *Models) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	return nil
}

// Add adds a model, unless Close was called: that is ErrClosed.
func (l *Models) Add(m Model) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if l.open == nil {
		l.open = make(map[Model]bool)
	}
	l.open[m] = true
	return nil
}

// Remove removes a model that is closed.
func (l *Models) Remove(m Model) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, m)
}

// Close closes the models. Their Close may call Remove.
func (l *Models) Close() error {
	l.mu.Lock()
	l.closed = true
	open := make([]Model, 0, len(l.open))
	for m := range l.open {
		open = append(open, m)
	}
	l.mu.Unlock()
	var errs []error
	for _, m := range open {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}
