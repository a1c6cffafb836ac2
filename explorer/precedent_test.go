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

// phased is a backend whose cuts have a phase that another one follows.
type phased struct{ *explorertest.Backend }

func (b phased) Open(ctx context.Context, path string) (explorer.Model, error) {
	m, err := b.Backend.Open(ctx, path)
	return phasedModel{m}, err
}

type phasedModel struct{ explorer.Model }

func (m phasedModel) Cut(ctx context.Context, c explorer.Cut, mon explorer.Monitor) (explorer.Made, error) {
	mon.Phase(explorer.Phase{Number: 2, Of: 4, Name: "re-fit"})
	return m.Model.Cut(ctx, c, mon)
}

// TestTimeLeftFromPrecedent: in each phase but the last one, the time left of a cut is that of an earlier one, less what it has run, and that of the phase
// where there is none. Tuning is the last phase.
func TestTimeLeftFromPrecedent(t *testing.T) {
	b := phased{explorertest.New()}
	var (
		e    *explorer.Exploration
		seen [2]explorer.Progress
		at   int
	)
	b.Pace = func(context.Context, string) error {
		b.Clock.Advance(time.Second)
		for _, j := range e.Snapshot().Jobs {
			if p := j.Progress; j.State == explorer.Running && p.Phase.Name == "re-fit" && p.Rate > 0 && p.Done < p.Total {
				seen[at] = p
			}
		}
		return nil
	}
	var err error
	e, err = explorer.Open(t.Context(), explorer.Options{Model: "m.gguf", Backend: b, Now: b.Clock.Now, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	for at = range seen {
		j := explorertest.Do(t, e, explorer.Cut{Target: 0.8, Tuning: explorer.Tuning{Steps: 3}})
		job, _ := e.Snapshot().Job(j.Job)
		if p := job.Progress.Phase; p.Name != "tuning" || p.Number != 4 || p.Of != 4 {
			t.Errorf("the last phase is %+v", p)
		}
	}
	if p := seen[0]; p.Left != 0 || p.PhaseLeft <= 0 {
		t.Errorf("the first cut: %v left, %v of the phase", p.Left, p.PhaseLeft)
	}
	made := e.Snapshot().Subnets
	p, ok := e.Snapshot().Precedent(explorer.Cut{Target: 0.8, Tuning: explorer.Tuning{Steps: 3}})
	if !ok || len(made) != 2 {
		t.Fatalf("no precedent among %d subnets", len(made))
	}
	if s := seen[1]; s.Left <= 0 || s.PhaseLeft != 0 || s.Left+s.Spent > 2*(p.Time+p.Tuning) || s.Left+s.Spent < (p.Time+p.Tuning)/2 {
		t.Errorf("the second cut: %v left after %v, with a precedent of %v", s.Left, s.Spent, p.Time+p.Tuning)
	}
}
