package explorertest

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/draft"
)

// watcher is a Monitor that checks what is reported to it.
type watcher struct {
	t             *testing.T
	held, release chan struct{} // where set, the first gate closes held and waits for release

	mu      sync.Mutex
	reports int
	gates   int
	unit    string
	done    float64
}

func watch(t *testing.T) *watcher { return &watcher{t: t} }

// worked checks that work was reported and could have been paused.
func (w *watcher) worked() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reports == 0 || w.gates == 0 {
		w.t.Errorf("%d reports of progress, %d gates", w.reports, w.gates)
	}
}

// Progress fails the test where progress falls, unless a new phase begins with its first unit.
func (w *watcher) Progress(done, total float64, unit, _ string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports++
	if unit == "" || done < 0 || total > 0 && done > total*(1+1e-9) || unit == w.unit && done < w.done && done > 1 {
		w.t.Errorf("progress of %g of %g %s after %g %s", done, total, unit, w.done, w.unit)
	}
	w.unit, w.done = unit, done
}

func (w *watcher) Phase(explorer.Phase) {}

func (w *watcher) Workers(explorer.Crew) {}

func (w *watcher) Layer(l explorer.LayerProgress) {
	if l.Layer < 0 || l.Kept < 0 || l.Kept > l.Of || l.Module != draft.Attention && l.Module != draft.MLP || math.IsNaN(l.ErrAfter) {
		w.t.Errorf("layer %+v", l)
	}
}

func (w *watcher) Note(text string) {
	if text == "" {
		w.t.Error("an empty note")
	}
}

func (w *watcher) Gate(ctx context.Context) error {
	w.mu.Lock()
	w.gates++
	first := w.gates == 1
	w.mu.Unlock()
	if first && w.held != nil {
		close(w.held)
		select {
		case <-w.release:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// Persist writes once: the disks of tests are not full.
func (w *watcher) Persist(_ context.Context, write func() error) error { return write() }

// orders is a search's Orders: it keeps what is published.
type orders struct {
	published func(explorer.Search) // nil does nothing

	mu    sync.Mutex
	given []explorer.Order
	shown []explorer.Search
	// measured are the modules whose sensitivity was shown, and wrong is one that was shown with impossible values.
	measured map[int]bool
	wrong    string
}

func (o *orders) Publish(s explorer.Search) {
	o.mu.Lock()
	o.shown = append(o.shown, s)
	o.mu.Unlock()
	if o.published != nil {
		o.published(s)
	}
}

func (o *orders) Prepare(module int, p explorer.Prepared) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if module < 0 || p.Levels <= 0 || !(p.Lost >= 0) || p.Measured && !(p.Rise >= 0) {
		o.wrong = fmt.Sprintf("module %d: %+v", module, p)
	}
	if p.Measured {
		if o.measured == nil {
			o.measured = make(map[int]bool)
		}
		o.measured[module] = true
	}
}

func (o *orders) Next() (explorer.Order, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.given) == 0 {
		return nil, false
	}
	next := o.given[0]
	o.given = o.given[1:]
	return next, true
}

func (o *orders) all() []explorer.Search {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.shown)
}

func (o *orders) last() explorer.Search {
	if all := o.all(); len(all) > 0 {
		return all[len(all)-1]
	}
	return explorer.Search{}
}
