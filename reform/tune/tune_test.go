package tune_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/tune"
)

// open returns a tiny model, a subnet with half of each MLP, and windows of random tokens.
func open(t *testing.T) (*decoder.Model, gguf.Subnet, [][]int32) {
	t.Helper()
	dev, err := decoder.OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	m, err := decoder.Load(t.Context(), dev, gguftest.Open(t, gguftest.Tiny("llama")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	geo := m.Geometry()
	masks := subnet.Dense(geo)
	for i, g := range geo.Layers {
		l := masks.Layer(i)
		l.Channels = subnet.Empty(g.FFN)
		for c := 0; c < g.FFN; c += 2 {
			l.Channels = l.Channels.With(c)
		}
		masks = masks.With(i, l)
	}
	r := rand.New(rand.NewPCG(1, 2))
	windows := make([][]int32, 12)
	for i := range windows {
		windows[i] = make([]int32, 64)
		for j := range windows[i] {
			windows[i][j] = int32(r.IntN(geo.Vocab))
		}
	}
	return m, gguf.Subnet{Masks: masks}, windows
}

// divergence measures a subnet on windows.
func divergence(t *testing.T, m *decoder.Model, spec gguf.Subnet, windows [][]int32) float64 {
	t.Helper()
	s, err := m.Subnet(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tuning, err := m.NewTuning(t.Context(), s, windows[0], decoder.TuningOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kl, err := tuning.Divergence(t.Context(), make([]float32, tuning.Len()), windows)
	if err != nil {
		t.Fatal(err)
	}
	return kl
}

// The folded subnet has the divergence that the report states, on text that was not trained on.
func TestTune(t *testing.T) {
	m, spec, windows := open(t)
	for _, o := range []decoder.TuningOptions{{}, {Bias: true}, {Bias: true, Rank: 4}} {
		var last tune.Event
		got, report, err := tune.Tune(t.Context(), m, spec, windows, tune.Config{
			Steps: 40, Rate: 0.02, Bias: o.Bias, Rank: o.Rank, Seed: 1, Progress: func(e tune.Event) { last = e },
		})
		if err != nil {
			t.Fatal(err)
		}
		if report.Best == 0 || report.After > 0.99*report.Before {
			t.Errorf("%+v: divergence from %g to %g at step %d", o, report.Before, report.After, report.Best)
		}
		if last.Step != report.Steps || last.Share != 1 && report.Stopped == "" {
			t.Errorf("%+v: the last event is %+v, the report %+v", o, last, report)
		}
		held := [][]int32{windows[3], windows[7], windows[11]}
		if before := divergence(t, m, spec, held); math.Abs(before-report.Before) > 1e-6 {
			t.Errorf("%+v: held-out divergence is %g, the report has %g", o, before, report.Before)
		}
		if after := divergence(t, m, got, held); math.Abs(after-report.After) > 1e-4*report.After {
			t.Errorf("%+v: held-out divergence is %g after folding, the report has %g", o, after, report.After)
		}
		if !got.Masks.Equal(spec.Masks) {
			t.Errorf("%+v: the masks changed", o)
		}
	}
}

// A run of less time than lies between two states keeps one at each check of held-out text.
func TestSaveAtChecks(t *testing.T) {
	m, spec, windows := open(t)
	saves := 0
	_, report, err := tune.Tune(t.Context(), m, spec, windows, tune.Config{
		Steps: 6, Rate: 0.02, Seed: 3,
		Now:  func() time.Time { return time.Unix(0, 0) },
		Save: func([]byte) error { saves++; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if checks := len(report.Curve) - 1; saves != checks || saves < report.Steps { // the curve begins before the first step
		t.Errorf("%d states were saved at %d checks of %d steps", saves, checks, report.Steps)
	}
}

// A run that is interrupted at any step continues to the same weights.
func TestResume(t *testing.T) {
	m, spec, windows := open(t)
	config := tune.Config{Steps: 6, Rate: 0.02, Seed: 3, Rank: 2}
	want, wantReport, err := tune.Tune(t.Context(), m, spec, windows, config)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{1, 4} {
		var stored []byte
		c := config
		now := time.Unix(0, 0)
		c.Now = func() time.Time { now = now.Add(time.Minute); return now } // saves after every step
		c.Save = func(state []byte) error { stored = state; return nil }
		c.Load = func() ([]byte, error) { return stored, nil }
		ctx, cancel := context.WithCancel(t.Context())
		c.Progress = func(e tune.Event) {
			if e.Step == at {
				cancel()
			}
		}
		if _, _, err := tune.Tune(ctx, m, spec, windows, c); !errors.Is(err, context.Canceled) {
			t.Fatalf("at step %d: %v", at, err)
		}
		first := -1
		c.Progress = func(e tune.Event) {
			if first < 0 {
				first = e.Step
			}
		}
		got, report, err := tune.Tune(t.Context(), m, spec, windows, c)
		if err != nil || first != at {
			t.Fatalf("resumed at step %d, not %d: %v", first, at, err)
		}
		report.Seconds, wantReport.Seconds = 0, 0
		if diff := cmp.Diff(want.Refit, got.Refit); diff != "" {
			t.Errorf("interrupted at step %d: the weights differ: %s", at, diff)
		}
		if report.After != wantReport.After || report.Best != wantReport.Best || report.Steps != wantReport.Steps || !cmp.Equal(report.Curve, wantReport.Curve) {
			t.Errorf("interrupted at step %d: %+v, want %+v", at, report, wantReport)
		}
		other := c
		other.Seed++
		first = -1
		if _, _, err := tune.Tune(t.Context(), m, spec, windows, other); err != nil || first != 0 {
			t.Errorf("a run with another seed began at step %d: %v", first, err)
		}
	}
}

// A run is repeated from its report: one of steps, and one of time whose steps took unequal times and whose best step is not the last.
func TestRepeat(t *testing.T) {
	m, spec, windows := open(t)
	for name, c := range map[string]tune.Config{
		"steps": {Steps: 9, Rate: 0.05, Seed: 3, Rank: 2},
		"time":  {Time: time.Minute, Rate: 0.05, Seed: 3},
		"both":  {Steps: 30, Time: time.Minute, Rate: 0.05, Seed: 3},
	} {
		now, calls := time.Unix(0, 0), 0
		c.Now = func() time.Time {
			calls++
			now = now.Add(time.Duration(calls%5) * time.Second)
			return now
		}
		want, report, err := tune.Tune(t.Context(), m, spec, windows, c)
		if err != nil || report.Best == 0 {
			t.Fatalf("%s: best step %d, %v", name, report.Best, err)
		}
		again := tune.Config{Steps: c.Steps, Rate: c.Rate, Seed: c.Seed, Rank: c.Rank, Until: report.Best, Marks: report.Marks}
		got, repeated, err := tune.Tune(t.Context(), m, spec, windows, again)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want.Refit, got.Refit); diff != "" {
			t.Errorf("%s: the weights differ: %.300s", name, diff)
		}
		if repeated.Best != report.Best || repeated.Before != report.Before || repeated.After != report.After {
			t.Errorf("%s: %+v, want the result of %+v", name, repeated, report)
		}
		if c.Time > 0 {
			again.Marks = again.Marks[:len(again.Marks)/4]
			if other, _, err := tune.Tune(t.Context(), m, spec, windows, again); err != nil || cmp.Equal(want.Refit, other.Refit) {
				t.Errorf("%s: marks have no effect, error %v", name, err)
			}
		} else if report.Marks != nil {
			t.Errorf("%s: marks %v", name, report.Marks)
		}
	}
}

// A run that diverges, or gains nothing, leaves the subnet as it was.
func TestKeepsTheBetter(t *testing.T) {
	m, spec, windows := open(t)
	got, report, err := tune.Tune(t.Context(), m, spec, windows, tune.Config{Steps: 60, Rate: 30})
	if err != nil {
		t.Fatal(err)
	}
	if report.Stopped == "" || report.Steps == 60 {
		t.Errorf("%d steps, stopped %q", report.Steps, report.Stopped)
	}
	if report.Best == 0 && got.Refit != nil || report.After > report.Before {
		t.Errorf("best at step %d with %g, %g before", report.Best, report.After, report.Before)
	}
}

// The report of a run whose numbers overflow can be stored: JSON holds no NaN.
func TestReportOfOverflow(t *testing.T) {
	m, spec, windows := open(t)
	_, report, err := tune.Tune(t.Context(), m, spec, windows, tune.Config{Steps: 12, Rate: 1e30})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(report.Stopped, "NaN") || report.Best != 0 {
		t.Errorf("stopped %q, best at step %d", report.Stopped, report.Best)
	}
	if _, err := json.Marshal(report); err != nil {
		t.Error(err)
	}
}

func TestTuneRefuses(t *testing.T) {
	m, spec, windows := open(t)
	for name, c := range map[string]struct {
		config  tune.Config
		windows [][]int32
		want    error
	}{
		"one window":    {tune.Config{Steps: 1}, windows[:1], tune.ErrText},
		"no budget":     {tune.Config{}, windows, nil},
		"NaN rate":      {tune.Config{Steps: 1, Rate: math.NaN()}, windows, nil},
		"negative step": {tune.Config{Steps: -1, Time: time.Second}, windows, nil},
		"two ends":      {tune.Config{Until: 3, Time: time.Second}, windows, nil},
		"marks alone":   {tune.Config{Steps: 3, Marks: []int{1}}, windows, nil},
		"marks back":    {tune.Config{Until: 3, Marks: []int{2, 1}}, windows, nil},
		"many marks":    {tune.Config{Until: 3, Marks: make([]int, 65)}, windows, nil},
	} {
		_, _, err := tune.Tune(t.Context(), m, spec, c.windows, c.config)
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A stored state that is damaged or of another run is not used.
func TestDamagedState(t *testing.T) {
	m, spec, windows := open(t)
	for _, state := range [][]byte{nil, {}, []byte("damaged"), make([]byte, 4096)} {
		first := -1
		c := tune.Config{Steps: 1, Load: func() ([]byte, error) { return state, nil }, Progress: func(e tune.Event) {
			if first < 0 {
				first = e.Step
			}
		}}
		if _, _, err := tune.Tune(t.Context(), m, spec, windows, c); err != nil || first != 0 {
			t.Errorf("%q: began at step %d: %v", fmt.Sprintf("%.10q", state), first, err)
		}
	}
}
