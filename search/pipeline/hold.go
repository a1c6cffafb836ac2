package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A hold stops the search at a gate, so that what is measured meanwhile has the machine to itself.
type hold struct {
	mu     sync.Mutex // held by whoever measures, and for a moment by the search when it leaves a gate
	parked atomic.Bool
}

// take waits until the search is at a gate, and keeps it there until release is called. It returns ctx's error when ctx ends.
func (h *hold) take(ctx context.Context) (release func(), err error) {
	h.mu.Lock()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !h.parked.Load() {
		select {
		case <-ctx.Done():
			h.mu.Unlock()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
	return h.mu.Unlock, nil
}

// pass calls a gate and then waits for what is measured.
func (h *hold) pass(gate func() error) error {
	h.parked.Store(true)
	err := gate()
	h.mu.Lock()
	h.parked.Store(false)
	h.mu.Unlock()
	return err
}
