package pipeline

import (
	"context"
	"sync"
	"time"

	"github.com/lathe-llm/lathe/infer/durable"
)

// A clock measures the time of a run without its pauses. The run pauses it from one goroutine; any may read it.
type clock struct {
	now   func() time.Time
	began time.Time

	mu     sync.Mutex
	paused time.Duration
	since  time.Time // when the present pause began, zero without one
}

func newClock(now func() time.Time) *clock {
	if now == nil {
		now = time.Now
	}
	return &clock{now: now, began: now()}
}

func (c *clock) elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if !c.since.IsZero() {
		now = c.since
	}
	return now.Sub(c.began) - c.paused
}

// pause stops the clock until the function returned is called.
func (c *clock) pause() (resume func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	began := c.now()
	c.since = began
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.paused += c.now().Sub(began)
		c.since = time.Time{}
	}
}

// gate blocks while the run is paused. The pause does not count as time of the run.
func (r *run) gate(ctx context.Context) error {
	defer r.clock.pause()()
	return r.hold.pass(func() error { return r.Monitor.Gate(ctx) })
}

// persist calls write, and again while the disk is full. The wait for room does not count as time of the run.
func (r *run) persist(ctx context.Context, write func() error) error {
	err := write()
	if !durable.IsFull(err) {
		return err
	}
	defer r.clock.pause()()
	return r.Monitor.Persist(ctx, write)
}
