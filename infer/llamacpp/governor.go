package llamacpp

import (
	"math"
	"sync"
	"time"
)

// governor reduces the number of ggml's threads while other processes use the processors. The threads wait for each other by
// spinning, many times in every token: when one of them is preempted, all others spin until it runs again, and speed falls not
// by the share that the other process took but up to a hundredfold. n threads alone on their cores use n seconds of processor
// time per second. When they got less, the governor removes a thread. After a period without loss it adds one; the period
// doubles each time that this failed.
//
// The zero value allows all requested threads.
type governor struct {
	less  int  // threads fewer than requested
	tried bool // the last change added a thread, whose success is not known yet

	wall, cpu time.Duration // of the current observation
	threads   int           // in it
	calm      time.Duration // computing time since the last change, without loss
	patience  time.Duration // calm before a thread is added
	last      time.Time     // time of the latest observation
}

const (
	governorWindow   = 100 * time.Millisecond // of computing: shorter ones are too noisy
	governorLoss     = 0.3                    // cores of time lost that remove a thread
	governorPatience = time.Second
	governorMost     = time.Minute
	governorStale    = 2 * time.Second       // after which an observation is out of date
	governorProbe    = 10 * time.Millisecond // of spinning, for a new observation
)

// allow returns how many of the requested threads should compute.
func (g *governor) allow(requested int) int {
	g.less = min(g.less, max(0, requested-1))
	return requested - g.less
}

// stale reports whether the last observation is out of date. Then probe before computing with more than one thread, since a
// single batch can take seconds.
func (g *governor) stale(now time.Time) bool { return now.Sub(g.last) > governorStale }

// probe records the times of spinning with all requested threads.
func (g *governor) probe(now time.Time, requested int, wall, cpu time.Duration) {
	lost := float64(requested) - float64(cpu)/float64(wall)
	*g = governor{less: max(0, int(math.Ceil(lost-governorLoss))), patience: g.patience, last: now}
}

// spin keeps n threads busy for d and returns the time that it took and the processor time used.
func spin(n int, d time.Duration) (wall, cpu time.Duration) {
	begin := time.Now()
	before, _ := processTime()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for time.Since(begin) < d {
			}
		})
	}
	wg.Wait()
	after, _ := processTime()
	return time.Since(begin), after - before
}

// observe records one batch: how long it took and the processor time that the process used meanwhile.
func (g *governor) observe(now time.Time, threads int, wall, cpu time.Duration) {
	g.last = now
	if threads != g.threads {
		g.threads, g.wall, g.cpu, g.calm = threads, 0, 0, 0
	}
	g.wall += wall
	g.cpu += cpu
	if g.wall < governorWindow {
		return
	}
	lost := float64(threads) - float64(g.cpu)/float64(g.wall)
	span := g.wall
	g.wall, g.cpu = 0, 0
	if g.patience == 0 {
		g.patience = governorPatience
	}
	switch {
	case lost > governorLoss && threads > 1:
		if g.tried {
			g.patience = min(2*g.patience, governorMost)
		}
		g.less++
		g.tried, g.calm = false, 0
	case lost > governorLoss:
		g.calm = 0
	default:
		if g.calm += span; g.calm < g.patience {
			return
		}
		if g.tried {
			g.tried, g.patience = false, governorPatience
		}
		if g.less > 0 {
			g.less--
			g.tried, g.calm = true, 0
		}
	}
}
