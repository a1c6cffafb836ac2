package explorertest

import (
	"sync"
	"time"
)

// Clock is a time that moves only when told. It may be used from any goroutine.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Start is where a new clock stands.
var Start = time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)

// NewClock returns a clock at Start.
func NewClock() *Clock { return &Clock{now: Start} }

// Now is the clock's time.
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
