package jobs

import (
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	var m Meter
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	m.Start(at(0))
	for _, step := range []struct {
		name        string
		at          int
		done, total float64
		unit        string
		rate        float64
		left        time.Duration
	}{
		{"the first count of a unit has no rate", 0, 0, 10, "layers", 0, 0},
		{"two in four seconds", 4, 2, 10, "layers", 0.5, 16 * time.Second},
		{"an unknown total", 4, 2, 0, "layers", 0.5, 0},
		{"the end", 20, 10, 10, "layers", 0.5, 0},
		{"another unit is another phase", 30, 5, 10, "windows", 0, 0},
		{"its rate counts from there", 32, 7, 10, "windows", 1, 3 * time.Second},
		{"a smaller count is another phase", 40, 1, 10, "windows", 0, 0},
	} {
		rate, left := m.Count(at(step.at), step.done, step.total, step.unit)
		if rate != step.rate || left != step.left {
			t.Errorf("%s: rate %g, %s left; want %g, %s", step.name, rate, left, step.rate, step.left)
		}
	}
	m.Hold(at(42), true)
	m.Hold(at(45), true)
	if spent := m.Spent(at(50)); spent != 42*time.Second {
		t.Errorf("%s spent in a pause that began after 42 s", spent)
	}
	m.Hold(at(52), false)
	if spent := m.Spent(at(60)); spent != 50*time.Second {
		t.Errorf("%s spent in 60 s with ten seconds of pause", spent)
	}
	if rate, _ := m.Count(at(54), 5, 10, "windows"); rate != 1 {
		t.Errorf("rate %g with ten seconds of pause, want 1", rate)
	}
}
