package explorertest

import (
	"sync"
	"time"
)

// Clock is a time that moves only by Advance. It may be used from any goroutine.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Start is the time of a new clock.
var Start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

// NewClock returns a clock at Start.
func NewClock() *Clock { return &Clock{now: Start} }

// Now returns the clock's time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
