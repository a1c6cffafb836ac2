package llamacpp

import (
	"math"
	"sync"
	"time"
)

// governor keeps ggml from fighting for processors. Its threads wait for each other by spinning, many times in every token:
// when one of them is off its core because something else runs there, all others burn theirs until it is back, and
// speed falls not by the share that the other took but a hundredfold. The governor watches how much processor time the
// threads got: with n threads, n seconds of it in every second, or somebody else runs too. Then one thread less is
// faster. Once nobody does, it tries one more again, after longer and longer calm where that went wrong.
//
// The zero value allows what is asked for.
type governor struct {
	less  int  // threads below what is asked for
	tried bool // the last change was one thread more, and it has not shown yet that there is room for it

	wall, cpu time.Duration // of the window under observation
	threads   int           // in it
	calm      time.Duration // computed since the last change without loss
	patience  time.Duration // calm before one more thread is tried
	last      time.Time     // of the latest observation
}

const (
	governorWindow   = 100 * time.Millisecond // of computing: shorter ones say little
	governorLoss     = 0.3                    // cores' worth of time lost that costs a thread
	governorPatience = time.Second
	governorMost     = time.Minute
	governorStale    = 2 * time.Second       // after which what was observed says nothing of now
	governorProbe    = 10 * time.Millisecond // of spinning, to observe anew
)

// allow is how many of the threads asked for should compute.
func (g *governor) allow(asked int) int {
	g.less = min(g.less, max(0, asked-1))
	return asked - g.less
}

// stale says that nothing was observed lately: then probe before computing with more than one thread, since a single batch
// can already take seconds.
func (g *governor) stale(now time.Time) bool { return now.Sub(g.last) > governorStale }

// probe takes in what spinning with all the threads asked for has shown.
func (g *governor) probe(now time.Time, asked int, wall, cpu time.Duration) {
	lost := float64(asked) - float64(cpu)/float64(wall)
	*g = governor{less: max(0, int(math.Ceil(lost-governorLoss))), patience: g.patience, last: now}
}

// spin keeps n threads busy for d and gives the time that it really took and the processor time spent.
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

// observe takes in one batch: how long it took and how much processor time the process spent meanwhile.
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
