package pipeline

import (
	"context"
	"time"

	"github.com/lathe-llm/lathe/infer/durable"
)

// A clock measures the time of a run without its pauses. It belongs to one goroutine.
type clock struct {
	now    func() time.Time
	began  time.Time
	paused time.Duration
}

func newClock(now func() time.Time) clock {
	if now == nil {
		now = time.Now
	}
	return clock{now: now, began: now()}
}

func (c *clock) elapsed() time.Duration { return c.now().Sub(c.began) - c.paused }

// pause stops the clock until the function returned is called.
func (c *clock) pause() (resume func()) {
	began := c.now()
	return func() { c.paused += c.now().Sub(began) }
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
