package explorer_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// late is a backend whose models open their device with the first cut, as real ones do.
type late struct{ *explorertest.Backend }

func (b late) Open(ctx context.Context, path string) (explorer.Model, error) {
	m, err := b.Backend.Open(ctx, path)
	return &lateModel{Model: m}, err
}

type lateModel struct {
	explorer.Model
	opened atomic.Bool
}

func (m *lateModel) Info() explorer.ModelInfo {
	info := m.Model.Info()
	if info.Algebra = "go"; !m.opened.Load() {
		info.Compute, info.Algebra = "", ""
	}
	return info
}

func (m *lateModel) Cut(ctx context.Context, c explorer.Cut, mon explorer.Monitor) (explorer.Made, error) {
	m.opened.Store(true)
	made, err := m.Model.Cut(ctx, c, mon)
	made.Method.Algebra = "go"
	return made, err
}

// quick is a backend whose models are tuned in less time than they are cut.
type quick struct{ *explorertest.Backend }

func (b quick) Open(ctx context.Context, path string) (explorer.Model, error) {
	m, err := b.Backend.Open(ctx, path)
	return quickModel{m}, err
}

type quickModel struct{ explorer.Model }

func (m quickModel) Tune(ctx context.Context, s gguf.Subnet, c explorer.Tune, dir string, mon explorer.Monitor) (explorer.Made, error) {
	made, err := m.Model.Tune(ctx, s, c, dir, mon)
	if made.Method.Tune != nil {
		made.Method.Tune.Seconds = 20
	}
	return made, err
}

// TestPrecedentInOneProcess: what was made since the device was opened is a precedent for what is made on it.
func TestPrecedentInOneProcess(t *testing.T) {
	b := late{explorertest.New()}
	e, err := explorer.Open(t.Context(), explorer.Options{Model: "m.gguf", Backend: b, Now: b.Clock.Now, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	explorertest.Do(t, e, explorer.Cut{Target: 0.8})
	if p, ok := e.Snapshot().Precedent(explorer.Cut{Target: 0.7}); !ok || p.Time <= 0 {
		t.Errorf("a second cut takes %v, %v; the model computes on %q by %q", p.Time, ok, e.Snapshot().Model.Compute, e.Snapshot().Model.Algebra)
	}
}

// TestPrecedent: the time of a cut follows from an earlier one in proportion to the calibration tokens, that of a re-fit from re-fits alone: a subnet
// that was tuned by itself has the times of the cut that it was made of.
func TestPrecedent(t *testing.T) {
	b := quick{explorertest.New()}
	e, err := explorer.Open(t.Context(), explorer.Options{Model: "m.gguf", Backend: b, Now: b.Clock.Now, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	of := func(c explorer.Command) (time.Duration, bool) {
		p, ok := e.Snapshot().Precedent(c)
		return p.Time, ok
	}
	if d, ok := of(explorer.Cut{Target: 0.8}); ok {
		t.Errorf("%v, and nothing was made", d)
	}
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.8}).Subnet
	const took = 41 * time.Second // with 8 windows
	if d, ok := of(explorer.Cut{Target: 0.7}); !ok || d != took*explorer.FitWindows/8 {
		t.Errorf("a cut on the default number of windows: %v, %v", d, ok)
	}
	if d, ok := of(explorer.Cut{Target: 0.7, Calibration: explorer.Calibration{Windows: 100000, Seq: 1 << 20}}); ok {
		t.Errorf("far more tokens: %v", d)
	}
	explorertest.Do(t, e, explorer.Tune{Subnet: cut, Tuning: explorer.Tuning{Steps: 5}})
	if d, ok := of(explorer.Refit{Subnet: cut}); ok {
		t.Errorf("%v, and nothing was re-fitted", d)
	}
	explorertest.Do(t, e, explorer.Refit{Subnet: cut})
	if d, ok := of(explorer.Refit{Subnet: cut, Calibration: explorer.Calibration{Windows: 16}}); !ok || d != 2*took {
		t.Errorf("a re-fit: %v, %v", d, ok)
	}
}
