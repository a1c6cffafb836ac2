package engine

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// recorder records the published states of a search and gives it orders.
type recorder struct {
	mu     sync.Mutex
	shown  []explorer.Search
	orders []explorer.Order
}

// Prepare implements [explorer.Orders].
func (*recorder) Prepare(int, explorer.Prepared) {}

func (d *recorder) Publish(s explorer.Search) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shown = append(d.shown, s)
}

func (d *recorder) Next() (explorer.Order, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.orders) == 0 {
		return nil, false
	}
	next := d.orders[0]
	d.orders = d.orders[1:]
	return next, true
}

func (d *recorder) last() explorer.Search { return d.shown[len(d.shown)-1] }

// asked returns a search that ends after so many candidates.
func asked(strategy string, candidates int) explorer.StartSearch {
	return explorer.StartSearch{
		Strategy: strategy, Target: search.Ratio(0.8), Seed: 1, Budget: explorer.Budget{Evaluations: candidates},
		Calibration: explorer.Calibration{Windows: 4, Seq: 32},
	}
}

func TestSearch(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	for _, strategy := range []string{"", "paper-laptop", "random"} {
		d := &recorder{}
		r := asked(strategy, 40)
		made, err := m.Search(t.Context(), r, t.TempDir(), d, &quiet{})
		if err != nil {
			t.Fatalf("%q: %v", strategy, err)
		}
		size := made.Subnet.Masks.Size()
		if err := made.Subnet.Masks.Validate(); err != nil || size.Ratio > 0.8 || made.Subnet.Refit == nil && made.Method.Kept == "" {
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

// TestSearchOnOwnText searches on a text other than the default one: the effect on the default text is measured too.
func TestSearchOnOwnText(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	own := filepath.Join(t.TempDir(), "own.txt")
	if err := os.WriteFile(own, []byte(strings.Repeat("Chips fall from the turning block of wood, one after the other. ", 200)), 0o644); err != nil {
		t.Fatal(err)
	}
	r := asked("random", 8)
	r.Calibration.Text = own
	made, err := m.Search(t.Context(), r, t.TempDir(), &recorder{}, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	if made.After <= 1 || made.Dense <= 1 || made.General.Dense <= 1 || made.General.After <= 1 || made.General.Dense == made.Dense {
		t.Errorf("own text %g, dense %g; default text %g, dense %g", made.After, made.Dense, made.General.After, made.General.Dense)
	}
}

// TestSearchResumes resumes a search with a larger budget. It ends like one that had that budget from the start.
func TestSearchResumes(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	whole, err := m.Search(t.Context(), asked("", 80), t.TempDir(), &recorder{}, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := m.Search(t.Context(), asked("", 30), dir, &recorder{}, &quiet{}); err != nil {
		t.Fatal(err)
	}
	r := asked("", 80)
	r.Resume = true
	resumed, err := m.Search(t.Context(), r, dir, &recorder{}, &quiet{})
	if err != nil || !resumed.Subnet.Masks.Equal(whole.Subnet.Masks) {
		t.Errorf("resumed: %v, other masks", err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "levels", "*.levels")); len(files) != subnet.Modules*len(m.geometry().Layers) {
		t.Errorf("%d files of levels", len(files))
	}
	r.Seed = 2
	if _, err := m.Search(t.Context(), r, dir, &recorder{}, &quiet{}); err == nil {
		t.Error("a search with another seed resumes this one")
	}
}

// TestSearchResumesOnlyItself interrupts a search before its first checkpoint, in the folder of another search.
func TestSearchResumesOnlyItself(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	dir := t.TempDir()
	if _, err := m.Search(t.Context(), asked("", 30), dir, &recorder{}, &quiet{}); err != nil {
		t.Fatal(err)
	}
	r := asked("", 30)
	r.Target = search.Ratio(0.7)
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Search(interrupted, r, dir, &recorder{}, &quiet{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.Resume = true
	made, err := m.Search(t.Context(), r, dir, &recorder{}, &quiet{})
	if err != nil || made.Method.Target != 0.7 {
		t.Errorf("it continues to %g, %v", made.Method.Target, err)
	}
}

// TestSearchResumesWithItsText resumes a search with a budget for which it would use another amount of text.
func TestSearchResumesWithItsText(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	dir := filepath.Join(t.TempDir(), "search") // not there yet
	r := asked("", 20)
	r.Calibration.Windows, r.Budget.Seconds = 0, 600
	first, err := m.Search(t.Context(), r, dir, &recorder{}, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	r.Resume, r.Budget = true, explorer.Budget{Evaluations: 40}
	d := &recorder{}
	made, err := m.Search(t.Context(), r, dir, d, &quiet{})
	if err != nil || d.last().Evaluated < 40 {
		t.Fatalf("%v, %d candidates", err, d.last().Evaluated)
	}
	if made.Method.Windows < first.Method.Windows {
		t.Errorf("it continues with %d windows of %d", made.Method.Windows, first.Method.Windows)
	}
}

func TestSearchTakesOrders(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	half := subnet.Dense(m.geometry())
	l := half.Layer(0)
	l.Channels = subnet.Range(l.Channels.N(), 0, l.Channels.N()/2)
	half = half.With(0, l)
	d := &recorder{orders: []explorer.Order{
		explorer.Retarget{Target: search.Ratio(0.7)}, explorer.Retarget{Target: search.Ratio(1e-9)},
		explorer.Injection{Name: "mine", Subnet: gguf.Subnet{Masks: half}},
	}}
	q := &quiet{}
	if _, err := m.Search(t.Context(), asked("", 200), "", d, q); err != nil {
		t.Fatal(err)
	}
	if s := d.last(); s.Target != search.Ratio(0.7) || s.Best.Ratio > 0.7 {
		t.Errorf("target %v, best has %v", s.Target, s.Best.Ratio)
	}
	if len(q.notes) == 0 {
		t.Error("the impossible target was not refused")
	}
}

func TestSearchRefuses(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	for name, change := range map[string]func(*explorer.StartSearch){
		"strategy": func(r *explorer.StartSearch) { r.Strategy = "magic" },
		"fitness":  func(r *explorer.StartSearch) { r.Fitness = "beauty" },
		"up":       func(r *explorer.StartSearch) { r.Up = new(-1) },
		"target":   func(r *explorer.StartSearch) { r.Target = search.Ratio(1e-9) },
	} {
		r := asked("", 10)
		change(&r)
		if _, err := m.Search(t.Context(), r, t.TempDir(), &recorder{}, &quiet{}); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := asked("", 10)
	r.Target, r.Calibration.Text = search.Ratio(1e-9), filepath.Join(t.TempDir(), "none") // refused before the text is looked for
	if _, err := m.Search(t.Context(), r, t.TempDir(), &recorder{}, &quiet{}); !errors.Is(err, search.ErrTarget) || !strings.Contains(err.Error(), "nearest possible") {
		t.Errorf("an impossible target: %v", err)
	}
	r = asked("", 10)
	r.Calibration.Windows = 1
	if _, err := m.Search(t.Context(), r, t.TempDir(), &recorder{}, &quiet{}); !errors.Is(err, explorer.ErrText) {
		t.Errorf("one window: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Search(ctx, asked("", 10), t.TempDir(), &recorder{}, &quiet{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCalibrationTakesWhatThereIs(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	for most, want := range map[int]int{2: 2, 1000: 0} {
		p, err := m.calibration(t.Context(), explorer.Calibration{Seq: 16}, most, true, &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		if want > 0 && len(p.windows) != want || len(p.windows) == 0 || len(p.windows) > most {
			t.Errorf("at most %d: %d windows", most, len(p.windows))
		}
	}
	if _, err := m.calibration(t.Context(), explorer.Calibration{Seq: 1 << 20}, 4, true, &quiet{}); !errors.Is(err, explorer.ErrText) {
		t.Errorf("text shorter than a window: %v", err)
	}
}
