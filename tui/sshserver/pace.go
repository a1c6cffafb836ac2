package sshserver

import (
	"runtime"
	"sync"
	"time"
)

// The pace at which sessions look at a changing exploration: from fastest, when there is time, to slowest, when drawing
// for all of them would take more than drawingShare of the processor from the search.
const (
	fastest      = 100 * time.Millisecond
	slowest      = 500 * time.Millisecond
	drawingShare = 0.08
	// flushing is what a frame costs beyond the program's own drawing: comparing cells and encrypting what changed.
	flushing = 2.0
)

// A pacer measures what frames cost and derives the pace. Its methods may be called from any goroutine.
type pacer struct {
	cores float64

	mu       sync.Mutex
	sessions int
	cost     time.Duration // of a frame, moving average over all sessions
}

func newPacer() *pacer { return &pacer{cores: float64(runtime.GOMAXPROCS(0))} }

// enter and leave count interactive sessions.
func (p *pacer) enter() { p.add(1) }
func (p *pacer) leave() { p.add(-1) }

func (p *pacer) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions += n
}

// drew takes in what a frame cost.
func (p *pacer) drew(d time.Duration) {
	const weight = 16
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cost += (d - p.cost) / weight
}

// pace is the time from one look to the next.
func (p *pacer) pace() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := flushing * float64(p.cost) * float64(p.sessions)
	return min(max(time.Duration(all/(drawingShare*p.cores)), fastest), slowest)
}
