package engine

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/search/space"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
)

// desk takes what a search publishes and hands it orders.
type desk struct {
	mu     sync.Mutex
	shown  []explorer.Search
	orders []explorer.Order
}

func (d *desk) Publish(s explorer.Search) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown = append(d.shown, s)
}

func (d *desk) Next() (explorer.Order, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.orders) == 0 {
		return nil, false
	}
	next := d.orders[0]
	d.orders = d.orders[1:]
	return next, true
}

func (d *desk) last() explorer.Search { return d.shown[len(d.shown)-1] }

// asked is a search that ends after so many candidates.
func asked(strategy string, candidates int) explorer.StartSearch {
	return explorer.StartSearch{
		Strategy: strategy, Target: 0.8, Seed: 1, Budget: explorer.Budget{Evaluations: candidates},
		Calibration: explorer.Calibration{Windows: 4, Seq: 32},
	}
}

func TestSearch(t *testing.T) {
	b := bench(t)
	m := open(t, b, gguftest.Tiny("llama"))
	for _, strategy := range []string{"", "paper-laptop", "random"} {
		d := &desk{}
		r := asked(strategy, 40)
		made, err := m.Search(t.Context(), r, t.TempDir(), d, &quiet{})
		if err != nil {
			t.Fatalf("%q: %v", strategy, err)
		}
		size := made.Subnet.Masks.Size()
		if err := made.Subnet.Masks.Validate(); err != nil || size.Ratio > 0.8 || made.Subnet.Refit == nil {
			t.Errorf("%q: ratio %v, %v", strategy, size.Ratio, err)
		}
		s := d.last()
		if s.Best == nil || s.Evaluated < 40 || s.Tokens == 0 || s.DensePerplexity <= 1 || len(s.Front) == 0 || len(s.Cloud) == 0 || len(s.History) == 0 {
			t.Errorf("%q: the last state shown is %+v", strategy, s)
		}
		if best := s.Best; best != nil && (best.Bytes <= 0 || best.ShareAll <= best.Ratio-1 || best.ShareAll >= 1 || math.IsNaN(best.Score.Perplexity())) {
			t.Errorf("%q: best is %+v", strategy, best)
		}
		if strategy == "paper-laptop" {
			continue
		}
		sub, err := m.Assemble(t.Context(), *s.Best, "")
		if err != nil || sub.Refit == nil || !sub.Masks.Equal(s.Best.Masks) {
			t.Errorf("%q: assembled: %v", strategy, err)
		}
	}
}

// TestSearchResumes ends a search early; resumed with a larger budget, it ends
// like one that was never ended.
func TestSearchResumes(t *testing.T) {
	b := bench(t)
	m := open(t, b, gguftest.Tiny("llama"))
	whole, err := m.Search(t.Context(), asked("", 80), t.TempDir(), &desk{}, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := m.Search(t.Context(), asked("", 30), dir, &desk{}, &quiet{}); err != nil {
		t.Fatal(err)
	}
	r := asked("", 80)
	r.Resume = true
	resumed, err := m.Search(t.Context(), r, dir, &desk{}, &quiet{})
	if err != nil || !resumed.Subnet.Masks.Equal(whole.Subnet.Masks) {
		t.Errorf("resumed: %v, other masks", err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "levels", "*.levels")); len(files) != subnet.Modules*len(m.geometry().Layers) {
		t.Errorf("%d files of levels", len(files))
	}
	r.Seed = 2
	if _, err := m.Search(t.Context(), r, dir, &desk{}, &quiet{}); err == nil {
		t.Error("another seed goes on from this search")
	}
}

// TestSearchGoesOnFromItself interrupts a search before its first checkpoint where another search has left one.
func TestSearchGoesOnFromItself(t *testing.T) {
	m := open(t, bench(t), gguftest.Tiny("llama"))
	dir := t.TempDir()
	if _, err := m.Search(t.Context(), asked("", 30), dir, &desk{}, &quiet{}); err != nil {
		t.Fatal(err)
	}
	r := asked("", 30)
	r.Target = 0.7
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Search(interrupted, r, dir, &desk{}, &quiet{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.Resume = true
	made, err := m.Search(t.Context(), r, dir, &desk{}, &quiet{})
	if err != nil || made.Method.Target != 0.7 {
		t.Errorf("it goes on to %g, %v", made.Method.Target, err)
	}
}

// TestSearchGoesOnWithItsText takes up a search, whose text nobody measured out, with budgets that would take other amounts.
func TestSearchGoesOnWithItsText(t *testing.T) {
	m := open(t, bench(t), gguftest.Tiny("llama"))
	dir := filepath.Join(t.TempDir(), "search") // not there yet
	r := asked("", 20)
	r.Calibration.Windows, r.Budget.Seconds = 0, 600
	first, err := m.Search(t.Context(), r, dir, &desk{}, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	r.Resume, r.Budget = true, explorer.Budget{Evaluations: 40}
	d := &desk{}
	made, err := m.Search(t.Context(), r, dir, d, &quiet{})
	if err != nil || d.last().Evaluated < 40 {
		t.Fatalf("%v, %d candidates", err, d.last().Evaluated)
	}
	if made.Method.Windows < first.Method.Windows {
		t.Errorf("it goes on with %d windows of %d", made.Method.Windows, first.Method.Windows)
	}
}

func TestSearchTakesOrders(t *testing.T) {
	b := bench(t)
	m := open(t, b, gguftest.Tiny("llama"))
	half := subnet.Dense(m.geometry())
	l := half.Layer(0)
	l.Channels = subnet.Range(l.Channels.N(), 0, l.Channels.N()/2)
	half = half.With(0, l)
	d := &desk{orders: []explorer.Order{
		explorer.Retarget{Target: 0.7}, explorer.Retarget{Target: 1e-9},
		explorer.Injection{Name: "mine", Subnet: gguf.Subnet{Masks: half}},
	}}
	q := &quiet{}
	if _, err := m.Search(t.Context(), asked("", 200), "", d, q); err != nil {
		t.Fatal(err)
	}
	if s := d.last(); s.Target != 0.7 || s.Best.Ratio > 0.7 {
		t.Errorf("target %v, best has %v", s.Target, s.Best.Ratio)
	}
	if len(q.notes) == 0 {
		t.Error("the impossible target was not refused")
	}
}

func TestSearchRefuses(t *testing.T) {
	b := bench(t)
	m := open(t, b, gguftest.Tiny("llama"))
	for name, change := range map[string]func(*explorer.StartSearch){
		"strategy": func(r *explorer.StartSearch) { r.Strategy = "magic" },
		"fitness":  func(r *explorer.StartSearch) { r.Fitness = "beauty" },
		"up":       func(r *explorer.StartSearch) { r.Up = new(-1) },
		"target":   func(r *explorer.StartSearch) { r.Target = 1e-9 },
	} {
		r := asked("", 10)
		change(&r)
		if _, err := m.Search(t.Context(), r, t.TempDir(), &desk{}, &quiet{}); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := asked("", 10)
	r.Target, r.Calibration.Text = 1e-9, filepath.Join(t.TempDir(), "none") // refused before the text is looked for
	if _, err := m.Search(t.Context(), r, t.TempDir(), &desk{}, &quiet{}); !errors.Is(err, search.ErrTarget) || !strings.Contains(err.Error(), "smallest") {
		t.Errorf("an impossible target: %v", err)
	}
	r = asked("", 10)
	r.Calibration.Windows = 1
	if _, err := m.Search(t.Context(), r, t.TempDir(), &desk{}, &quiet{}); !errors.Is(err, explorer.ErrText) {
		t.Errorf("one window: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Search(ctx, asked("", 10), t.TempDir(), &desk{}, &quiet{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestSearchTakesTheOneShotWhereItIsBetter has the dense model as the one of two subnets, which nothing can beat.
func TestSearchTakesTheOneShotWhereItIsBetter(t *testing.T) {
	m := open(t, bench(t), gguftest.Tiny("llama"))
	h := &hunt{m: m, dir: t.TempDir(), mon: &quiet{}, bytes: map[int]int64{}, request: asked("", 1)}
	defer h.close()
	if err := h.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := m.levels.Levels()
	dense, cut := l.Dense(), l.Dense()
	for slot := range cut {
		if subnet.Module(slot%subnet.Modules) == subnet.MLP {
			cut[slot] = int16(len(l.Ladder(slot)) / 2)
		}
	}
	for _, c := range []struct {
		name     string
		seconds  float64
		found    space.Choice
		oneShots []space.Choice
		want     space.Choice
	}{
		{"the one-shot is better", 0, cut, []space.Choice{dense}, dense},
		{"what was found is better", 0, dense, []space.Choice{cut}, dense},
		{"nothing was found", 0, cut, []space.Choice{cut}, cut},
		{"nothing was found and another is better", 0, cut, []space.Choice{cut, dense}, dense},
		{"nothing was found in little time", 1e-6, cut, []space.Choice{cut, dense}, cut},
		{"something was found in little time", 1e-6, cut, []space.Choice{dense}, cut},
		{"there was none", 0, cut, nil, cut},
	} {
		h.request.Budget.Seconds = c.seconds
		var r search.Result
		r.Best.Choice = c.found
		var err error
		if r.Best.Masks, err = l.Masks(c.found); err != nil {
			t.Fatal(err)
		}
		r.State.Ladder = &search.LadderState{OneShots: c.oneShots}
		got, err := h.settle(t.Context(), r)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		want, err := l.Masks(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Best.Choice.Equal(c.want) || !got.Best.Masks.Equal(want) {
			t.Errorf("%s: it was not taken", c.name)
		}
	}
}

// TestSearchKnowsThePaceOfLevelsItFinds takes levels that another search made, for another fitness.
func TestSearchKnowsThePaceOfLevelsItFinds(t *testing.T) {
	m, dir := open(t, bench(t), gguftest.Tiny("llama")), t.TempDir()
	var first levels.Pace
	for _, fitness := range []string{"kl", "perplexity", "kl"} {
		h := &hunt{m: m, dir: dir, mon: &quiet{}, bytes: map[int]int64{}, request: asked("", 1)}
		h.request.Fitness = fitness
		err := h.prepare(t.Context())
		h.close()
		if err != nil {
			t.Fatal(err)
		}
		if first == (levels.Pace{}) {
			first = h.pace
		}
		if h.pace.Window <= 0 || h.pace != first {
			t.Errorf("%s: pace %v, levels were made at %v", fitness, h.pace, first)
		}
	}
}

func TestPlanRefit(t *testing.T) {
	pace := levels.Pace{Window: 5 * time.Second, Fixed: time.Minute}
	for _, c := range []struct {
		name     string
		left     time.Duration
		have, up int
		windows  int
	}{
		{"time for all", 30 * time.Minute, 64, 0, 64},
		{"time for some", 5 * time.Minute, 64, 0, 28}, // 8.8 s each after 50 s
		{"time for none", time.Minute, 64, 0, leastRefit},
		{"W_U too", 30 * time.Minute, 64, 4, 64},
		{"W_U too, in less time", 8 * time.Minute, 64, 4, 19}, // 74 s; then 12.1 s each, and 8.25 s for the steps
		{"W_U too, in little time", time.Minute, 64, 4, leastRefit},
		{"little text", time.Hour, 5, 0, 5},
	} {
		if got := planRefit(pace, c.left, c.have, c.up); got != c.windows {
			t.Errorf("%s: %d windows; want %d", c.name, got, c.windows)
		}
		if got := refitTime(pace, c.windows, c.up); c.windows > leastRefit && got > c.left {
			t.Errorf("%s: that takes %v of %v", c.name, got, c.left)
		}
	}
}

func TestPaceIsCorrected(t *testing.T) {
	pace := levels.Pace{Window: 5 * time.Second, Fixed: time.Minute}
	expected := compareTime(pace, 4)
	for _, c := range []struct {
		name   string
		pace   levels.Pace
		took   time.Duration
		factor float64
	}{
		{"as expected", pace, expected, 1},
		{"slower", pace, expected * 3 / 2, 1.25},
		{"faster", pace, expected * 9 / 10, 0.95},
		{"far faster", pace, expected / 10, (1 + leastCorrection) / 2},
		{"far slower", pace, 10 * expected, (1 + mostCorrection) / 2},
		{"unknown", levels.Pace{}, time.Minute, 1},
	} {
		got := corrected(c.pace, c.took, 4)
		for _, d := range [][2]time.Duration{{got.Window, c.pace.Window}, {got.Fixed, c.pace.Fixed}} {
			if want := c.factor * float64(d[1]); math.Abs(float64(d[0])-want) > 1e6 {
				t.Errorf("%s: %v, want %v", c.name, d[0], time.Duration(want))
			}
		}
	}
	// A re-fit that takes longer than planned on little text is planned on less.
	left := 5 * time.Minute
	if before, after := planRefit(pace, left, 64, 0), planRefit(corrected(pace, 2*expected, 4), left, 64, 0); after >= before {
		t.Errorf("%d windows were planned, %d after half the pace was seen", before, after)
	}
}

func TestReplan(t *testing.T) {
	two := 2
	for _, c := range []struct {
		name       string
		asked      *int
		windows    int // asked for
		left       time.Duration
		refits, up int
	}{
		{"little time", nil, 0, 5 * time.Minute, 28, 0},
		{"much time", nil, 0, 20 * time.Minute, 76, timelyUp},
		{"no time", nil, 0, 0, leastRefit, 0},
		{"W_U is not wanted", new(int), 0, 20 * time.Minute, 100, 0},
		{"two steps are wanted", &two, 0, 0, leastRefit, 2},
		{"windows are wanted", nil, 7, 20 * time.Minute, 7, 0},
	} {
		h := &hunt{pace: levels.Pace{Window: 5 * time.Second, Fixed: time.Minute}, refits: 7}
		h.request.Up, h.request.Calibration.Windows = c.asked, c.windows
		if c.asked != nil {
			h.up = *c.asked
		}
		h.work.text.windows = make([][]int32, 100)
		if h.replan(c.left); h.refits != c.refits || h.up != c.up {
			t.Errorf("%s: %d windows, %d steps; want %d and %d", c.name, h.refits, h.up, c.refits, c.up)
		}
	}
}

// Where there is little time for the last re-fit, it is the search's that is cut short.
func TestReserve(t *testing.T) {
	const whole = 20 * time.Minute
	for _, c := range []struct {
		name   string
		window time.Duration
		have   int
		share  float64
	}{
		{"quick", 2 * time.Second, 100, leastShare},
		{"slow", 14 * time.Second, 100, hastyShare},
		{"slow, but there is no more text", 2 * time.Second, 10, leastShare},
	} {
		h := &hunt{pace: levels.Pace{Window: c.window, Fixed: time.Minute}}
		h.request.Budget.Seconds = whole.Seconds()
		h.work.text.windows = make([][]int32, c.have)
		kept := h.reserve(whole, 5*time.Minute)
		left := (whole - 5*time.Minute - kept).Seconds()
		// All but what is less than another window is used.
		share := c.share * whole.Seconds()
		if another := refitTime(h.pace, h.refits+1, h.up) - refitTime(h.pace, h.refits, h.up); left < share || h.refits < c.have && left > share+another.Seconds() {
			t.Errorf("%s: %.0f s for the search, want %.0f; %d windows, W_U %d", c.name, left, share, h.refits, h.up)
		}
	}
}

func TestCalibrationTakesWhatThereIs(t *testing.T) {
	m := open(t, bench(t), gguftest.Tiny("llama"))
	for most, want := range map[int]int{2: 2, 1000: 0} {
		p, err := m.upTo(t.Context(), explorer.Calibration{Seq: 16}, most)
		if err != nil {
			t.Fatal(err)
		}
		if want > 0 && len(p.windows) != want || len(p.windows) == 0 || len(p.windows) > most {
			t.Errorf("at most %d: %d windows", most, len(p.windows))
		}
	}
	if _, err := m.upTo(t.Context(), explorer.Calibration{Seq: 1 << 20}, 4); !errors.Is(err, explorer.ErrText) {
		t.Errorf("text shorter than a window: %v", err)
	}
}
