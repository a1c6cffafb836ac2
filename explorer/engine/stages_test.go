package engine

import (
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// phases records the phases of a job in which something is reported.
type phases struct {
	quiet
	now  explorer.Phase
	seen []explorer.Phase
}

func (p *phases) Phase(now explorer.Phase) { p.now = now }

func (p *phases) Progress(_, _ float64, _, _ string) {
	if len(p.seen) == 0 || p.seen[len(p.seen)-1] != p.now {
		p.seen = append(p.seen, p.now)
	}
}

// check compares what was reported with the names of phases, of which another number follows.
func (p *phases) check(t *testing.T, job string, after int, want ...string) {
	t.Helper()
	var names []string
	for i, s := range p.seen {
		names = append(names, s.Name)
		if s.Number != i+1 || s.Of != len(want)+after {
			t.Errorf("%s: phase %d is %+v", job, i+1, s)
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("%s: phases %q, want %q", job, names, want)
	}
}

// TestPhases runs jobs of several phases: each phase is reported, once and in its order.
func TestPhases(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	on := explorer.Calibration{Windows: 2, Seq: 32}
	for _, preset := range explorer.Presets() {
		want := []string{"text", "re-fit", "scoring"}
		switch preset {
		case "allocated":
			want = []string{"text", "measuring", "re-fit", "scoring"}
		case "flap-global":
			want = []string{"text", "ranking", "re-fit", "scoring"}
		case "depth", "taylor":
			want = []string{"text", "measuring", "scoring"}
		case "magnitude", "cosine":
			want = []string{"text", "ranking", "scoring"}
		case "random":
			want = []string{"text", "scoring"}
		}
		mon := &phases{}
		made, err := m.Cut(t.Context(), explorer.Cut{Preset: preset, Target: 0.8, Granularity: 16, Calibration: on, Seed: 1, Tuning: explorer.Tuning{Steps: 1}}, mon)
		if err != nil {
			t.Fatal(preset, err)
		}
		mon.check(t, preset, 1, want...)
		if preset != "obs" {
			continue
		}
		mon = &phases{}
		if _, err := m.Refit(t.Context(), made.Subnet.Masks, explorer.Refit{Calibration: on}, mon); err != nil {
			t.Fatal(err)
		}
		mon.check(t, "re-fit", 0, "text", "re-fit", "scoring")
		mon = &phases{}
		if _, err := m.Tune(t.Context(), made.Subnet, explorer.Tune{Calibration: explorer.Calibration{Windows: 4, Seq: 32}, Tuning: explorer.Tuning{Steps: 2}}, "", mon); err != nil {
			t.Fatal(err)
		}
		mon.check(t, "tuning", 0, "text", "tuning", "scoring")
	}
	mon := &phases{}
	if _, err := m.Gather(t.Context(), explorer.GatherStatistics{Calibration: on}, "", mon); err != nil {
		t.Fatal(err)
	}
	mon.check(t, "statistics", 0, "text", "statistics")
	info := m.Info()
	dense := info.FileSize(subnet.Dense(m.geometry()), "")
	size := explorer.Quantize{
		Target: search.Target{Measure: search.Bytes, Value: 0.6 * float64(dense.File)}, Widths: true, Vocab: explorer.VocabSize{Auto: true}, Granularity: 16, Calibration: on, Seed: 1,
	}
	mon = &phases{}
	if _, err := m.Quantize(t.Context(), gguf.Subnet{Masks: subnet.Dense(m.geometry())}, size, t.TempDir(), mon); err != nil {
		t.Fatal(err)
	}
	mon.check(t, "size", 0, "vocabulary", "text", "types", "measuring", "rounding", "re-fit", "comparing", "scoring")
}
