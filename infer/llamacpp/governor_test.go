package llamacpp

import (
	"testing"
	"time"
)

// TestGovernor simulates a machine of four cores, some of them used by other processes.
func TestGovernor(t *testing.T) {
	const cores, asked = 4, 4
	var g governor
	// run computes for d beside other busy threads and returns the threads used at the end. With more threads than cores,
	// time is shared evenly.
	run := func(busy int, d time.Duration) int {
		for ; d > 0; d -= 50 * time.Millisecond {
			n := g.allow(asked)
			share := min(1, float64(cores)/float64(n+busy))
			g.observe(time.Time{}, n, 50*time.Millisecond, time.Duration(share*float64(n)*float64(50*time.Millisecond)))
		}
		return g.allow(asked)
	}
	if n := run(0, 5*time.Second); n != asked {
		t.Errorf("alone: %d threads", n)
	}
	if n := run(1, 300*time.Millisecond); n != 3 {
		t.Errorf("beside one: %d threads", n)
	}
	if n := run(3, time.Second); n != 1 {
		t.Errorf("beside three: %d threads", n)
	}
	if n := run(50, time.Second); n != 1 {
		t.Errorf("beside fifty: %d threads", n)
	}
	if n := run(0, 5*time.Second); n != asked {
		t.Errorf("alone again: %d threads", n)
	}

	// Beside one busy thread, attempts with a fourth thread become rare.
	tries, before := 0, run(1, time.Second)
	for range 600 {
		n := run(1, 100*time.Millisecond)
		if n > before {
			tries++
		}
		before = n
	}
	if tries == 0 || tries > 8 {
		t.Errorf("%d tries in a minute", tries)
	}
	if n := g.allow(1); n != 1 {
		t.Errorf("one thread asked for, %d allowed", n)
	}
	if n := g.allow(8); n != 8 {
		t.Errorf("eight threads asked for, %d allowed", n)
	}
}

// TestGovernorNoise: one slow batch among short ones changes nothing.
func TestGovernorNoise(t *testing.T) {
	var g governor
	for i := range 1000 {
		cpu := 2 * time.Millisecond
		if i%40 == 0 {
			cpu = time.Millisecond
		}
		g.observe(time.Time{}, 2, time.Millisecond, cpu)
	}
	if n := g.allow(2); n != 2 {
		t.Errorf("%d threads", n)
	}
}

func TestGovernorProbe(t *testing.T) {
	now := time.Now()
	var g governor
	if !g.stale(now) {
		t.Error("a new governor has an observation")
	}
	for _, tt := range []struct {
		asked int
		cores float64 // got
		want  int
	}{{4, 4, 4}, {4, 3.8, 4}, {4, 3.2, 3}, {4, 1.3, 1}, {2, 0.3, 1}, {1, 0.1, 1}, {2, 2.1, 2}} {
		g.probe(now, tt.asked, time.Second, time.Duration(tt.cores*float64(time.Second)))
		if n := g.allow(tt.asked); n != tt.want {
			t.Errorf("%g cores for %d threads: %d allowed, want %d", tt.cores, tt.asked, n, tt.want)
		}
	}
	if g.stale(now.Add(time.Second)) || !g.stale(now.Add(time.Minute)) {
		t.Error("an observation is out of date too early, or too late")
	}
	if _, known := processTime(); !known {
		t.Skip("no processor times on this system: the governor does nothing")
	}
	if wall, cpu := spin(1, 5*time.Millisecond); wall < 5*time.Millisecond || cpu <= 0 {
		t.Errorf("%v of time, %v of processor time", wall, cpu)
	}
}
