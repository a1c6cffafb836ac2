package sshserver

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// A throttle limits a sustained rate and a burst.
type throttle struct {
	*rate.Limiter
	now   func() time.Time
	sleep func(ctx context.Context, d time.Duration) (ended bool)
}

func newThrottle(perSecond, atOnce int) *throttle {
	return &throttle{rate.NewLimiter(rate.Limit(perSecond), atOnce), time.Now, sleep}
}

// take waits for n tokens; n must not exceed the burst. It reports false if ctx ends first.
func (t *throttle) take(ctx context.Context, n int) bool {
	now := t.now()
	return !t.sleep(ctx, t.ReserveN(now, n).DelayFrom(now))
}

// allow takes one token if there is one, and reports whether there was.
func (t *throttle) allow() bool { return t.AllowN(t.now(), 1) }
