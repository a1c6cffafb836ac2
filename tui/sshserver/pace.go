package sshserver

import (
	"runtime"
	"sync"
	"time"
)

// Bounds of the interval at which sessions read a changing exploration. It is fastest unless drawing for all sessions would
// take more than drawingShare of the processor.
const (
	fastest      = 100 * time.Millisecond
	slowest      = 500 * time.Millisecond
	drawingShare = 0.08
	// flushing is the total cost of a frame, with comparing cells and encrypting the changes, over that of drawing alone.
	flushing = 2.0
)

// A pacer measures the cost of frames and computes the interval. Its methods may be called from any goroutine.
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

// observe records the cost of a frame.
func (p *pacer) observe(d time.Duration) {
	const weight = 16
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cost += (d - p.cost) / weight
}

// pace returns the interval between two reads of the exploration.
func (p *pacer) pace() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := flushing * float64(p.cost) * float64(p.sessions)
	return min(max(time.Duration(all/(drawingShare*p.cores)), fastest), slowest)
}
