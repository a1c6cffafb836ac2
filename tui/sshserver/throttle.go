package sshserver

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// A throttle lets so much through in a second, and so much at once.
type throttle struct {
	*rate.Limiter
	now  func() time.Time
	rest func(ctx context.Context, d time.Duration) (ended bool)
}

func newThrottle(perSecond, atOnce int) *throttle {
	return &throttle{rate.NewLimiter(rate.Limit(perSecond), atOnce), time.Now, rest}
}

// take waits until n more may pass, n being no more than may pass at once. It reports false when ctx ended before.
func (t *throttle) take(ctx context.Context, n int) bool {
	now := t.now()
	return !t.rest(ctx, t.ReserveN(now, n).DelayFrom(now))
}

// allow reports whether one more may pass now.
func (t *throttle) allow() bool { return t.AllowN(t.now(), 1) }
