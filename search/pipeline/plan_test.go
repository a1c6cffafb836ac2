package pipeline

import (
	"math"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/search/levels"
)

// pace is about that of the default model on two cores.
var pace = levels.Pace{Window: 5 * time.Second, Fixed: time.Minute}

func TestNewPlan(t *testing.T) {
	slow := levels.Pace{Window: 14 * time.Second, Fixed: time.Minute}
	quick := levels.Pace{Window: 2 * time.Second, Fixed: time.Minute}
	two := 2
	for _, c := range []struct {
		name  string
		basis Basis
		want  Plan
	}{
		{"no limit", Basis{Windows: 8}, Plan{Levels: 16, Compare: true, Refit: 8}},
		{"no limit, steps asked for", Basis{Windows: 8, Pace: pace, UpSteps: &two}, Plan{Levels: 16, Compare: true, Refit: 8, UpSteps: 2}},
		{"pace unknown", Basis{Limit: 20 * time.Minute, Windows: 100}, Plan{Levels: 8, Search: 15 * time.Minute, Compare: true, Refit: 16}},
		{"pace unknown, long", Basis{Limit: time.Hour, Windows: 100}, Plan{Levels: 16, Search: 45 * time.Minute, Compare: true, Refit: 16}},
		{"pace unknown, windows asked for", Basis{Limit: 20 * time.Minute, Windows: 100, Given: true}, Plan{Levels: 8, Search: 15 * time.Minute, Compare: true, Refit: 100}},
		{"no levels", Basis{Limit: 20 * time.Minute, Windows: 100, NoLevels: true}, Plan{Levels: 16, Search: 15 * time.Minute, Compare: true, Refit: 16}},
		{"nothing left", Basis{Limit: 20 * time.Minute, Spent: 30 * time.Minute, Windows: 100}, Plan{Levels: 8, Search: 2 * time.Minute, Compare: true, Refit: 16}},
		// Of 1200 s, 300 s are spent, the comparison takes 57.2 s and the search has 240 s at least. The re-fit takes 67.4 s,
		// 79.2 s for the steps and 4.84 s a window.
		{"quick", Basis{Limit: 20 * time.Minute, Spent: 5 * time.Minute, Windows: 100, Pace: quick}, Plan{Levels: 8, Search: 241 * time.Second, Compare: true, Refit: 94, UpSteps: 4}},
		// The re-fit takes 69.8 s and 24.64 s a window. It would have 23 windows if the search did not give up half of its
		// share. A comparison would take 321 s.
		{"slow", Basis{Limit: 20 * time.Minute, Spent: 5 * time.Minute, Windows: 100, Pace: slow}, Plan{Levels: 8, Search: 140 * time.Second, Refit: 28}},
		{"slow, little text", Basis{Limit: 20 * time.Minute, Spent: 5 * time.Minute, Windows: 10, Pace: slow}, Plan{Levels: 8, Search: 584 * time.Second, Refit: 10}},
	} {
		got := NewPlan(c.basis)
		if d := got.Search - c.want.Search; d < -time.Second || d > time.Second {
			t.Errorf("%s: %v for the search, want %v", c.name, got.Search, c.want.Search)
		}
		got.Search, c.want.Search = 0, 0
		if got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestPlanFits holds plans against the time that they predict.
func TestPlanFits(t *testing.T) {
	for limit := 5 * time.Minute; limit <= 4*time.Hour; limit += 5 * time.Minute {
		for window := 100 * time.Millisecond; window < time.Minute; window = window * 3 / 2 {
			b := Basis{Limit: limit, Spent: limit / 5, Windows: 128, Pace: levels.Pace{Window: window, Fixed: 12 * window}}
			p := NewPlan(b)
			whole := b.Spent + p.Search + refitTime(b.Pace, p.Refit, p.UpSteps)
			if p.Compare {
				whole += comparisonTime(b.Pace)
			}
			if p.Refit > minRefitWindows && whole > limit {
				t.Errorf("limit %v, %v a window: %+v takes %v", limit, window, p, whole)
			}
			if p.Search < share(minScoringShare, limit) || p.Refit < minRefitWindows {
				t.Errorf("limit %v, %v a window: %+v", limit, window, p)
			}
		}
	}
}

func TestAffordable(t *testing.T) {
	for _, c := range []struct {
		name        string
		left        time.Duration
		windows, up int
		want        int
	}{
		{"time for all", 30 * time.Minute, 64, 0, 64},
		{"time for some", 5 * time.Minute, 64, 0, 28}, // 8.8 s each after 50 s
		{"time for none", time.Minute, 64, 0, minRefitWindows},
		{"W_U too", 30 * time.Minute, 64, 4, 64},
		{"W_U too, in less time", 8 * time.Minute, 64, 4, 19}, // 74 s; then 12.1 s each, and 8.25 s for the steps
		{"W_U too, in little time", time.Minute, 64, 4, minRefitWindows},
		{"little text", time.Hour, 5, 0, 5},
	} {
		if got := affordable(pace, c.left, c.windows, c.up); got != c.want {
			t.Errorf("%s: %d windows, want %d", c.name, got, c.want)
		}
		if got := refitTime(pace, c.want, c.up); c.want > minRefitWindows && got > c.left {
			t.Errorf("%s: it takes %v of %v", c.name, got, c.left)
		}
	}
}

func TestCalibrated(t *testing.T) {
	expected := comparedTime(pace, 4)
	for _, c := range []struct {
		name   string
		pace   levels.Pace
		took   time.Duration
		factor float64
	}{
		{"as expected", pace, expected, 1},
		{"slower", pace, expected * 3 / 2, 1.25},
		{"faster", pace, expected * 9 / 10, 0.95},
		{"far faster", pace, expected / 10, (1 + minCorrection) / 2},
		{"far slower", pace, 10 * expected, (1 + maxCorrection) / 2},
		{"unknown", levels.Pace{}, time.Minute, 1},
	} {
		got := calibrated(c.pace, c.took, 4)
		for _, d := range [][2]time.Duration{{got.Window, c.pace.Window}, {got.Fixed, c.pace.Fixed}} {
			if want := c.factor * float64(d[1]); math.Abs(float64(d[0])-want) > 1e6 {
				t.Errorf("%s: %v, want %v", c.name, d[0], time.Duration(want))
			}
		}
	}
	// A re-fit that takes longer than predicted on little text is planned on less.
	left := 5 * time.Minute
	if before, after := affordable(pace, left, 64, 0), affordable(calibrated(pace, 2*expected, 4), left, 64, 0); after >= before {
		t.Errorf("%d windows were planned, %d after half the pace was seen", before, after)
	}
}

func TestRevise(t *testing.T) {
	none, two := 0, 2
	for _, c := range []struct {
		name         string
		upSteps      *int
		given        bool
		pace         levels.Pace
		left         time.Duration
		refit, steps int
	}{
		{"little time", nil, false, pace, 5 * time.Minute, 28, 0},
		{"much time", nil, false, pace, 20 * time.Minute, 76, upStepsWhenAffordable},
		{"no time", nil, false, pace, 0, minRefitWindows, 0},
		{"no steps asked for", &none, false, pace, 20 * time.Minute, 100, 0},
		{"two steps asked for", &two, false, pace, 0, minRefitWindows, 2},
		{"windows asked for", nil, true, pace, 20 * time.Minute, 7, 0},
		{"pace unknown", nil, false, levels.Pace{}, 20 * time.Minute, 7, 0},
	} {
		const limit = 100 * time.Minute
		b := Basis{Limit: limit, Spent: share(1-spareShare, limit) - c.left, Pace: c.pace, Windows: 100, Given: c.given, UpSteps: c.upSteps}
		p := Plan{Refit: 7}
		if c.upSteps != nil {
			p.UpSteps = *c.upSteps
		}
		if p = p.Revise(b); p.Refit != c.refit || p.UpSteps != c.steps {
			t.Errorf("%s: %d windows, %d steps; want %d and %d", c.name, p.Refit, p.UpSteps, c.refit, c.steps)
		}
	}
	before := Plan{Refit: 7, UpSteps: 1, Search: time.Second}
	if got := before.Revise(Basis{Pace: pace, Windows: 100}); got != before {
		t.Errorf("without a limit the plan becomes %+v", got)
	}
}

// TestAfter expects the comparison and the last re-fit after a search, once the pace is known.
func TestAfter(t *testing.T) {
	pace := levels.Pace{Window: time.Second, Fixed: 10 * time.Second}
	p := NewPlan(Basis{Windows: 24, Pace: pace})
	if got, want := p.after(pace), refitTime(pace, 24, 0)+comparisonTime(pace); got != want || got < 24*time.Second {
		t.Errorf("%s after a search without a time limit, want %s", got, want)
	}
	if p.Compare = false; p.after(pace) != refitTime(pace, 24, 0) {
		t.Errorf("%s without a comparison", p.after(pace))
	}
	if got := p.after(levels.Pace{}); got != 0 {
		t.Errorf("%s at an unknown pace", got)
	}
}
