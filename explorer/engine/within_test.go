package engine

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// TestCutWithinATarget cuts to targets that are no ratios by methods of every kind. The file that is written is within the target, and dropping less
// would not be: a granularity of 4 channels allows 2 %.
func TestCutWithinATarget(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	info := m.Info()
	dense := info.FileSize(subnet.Dense(m.geometry()), "")
	cut := func(method string, target search.Target, attention *bool) (explorer.Made, *quiet, error) {
		mon := &quiet{}
		made, err := m.Cut(t.Context(), explorer.Cut{
			Preset: method, Within: target, Granularity: 4, Attention: attention, Calibration: explorer.Calibration{Windows: 2, Seq: 64}, Seed: 1,
		}, mon)
		return made, mon, err
	}
	size := search.Target{Measure: search.Bytes, Value: 0.85 * float64(dense.File)}
	for _, method := range []string{"allocated", "flap-global", "obs", "taylor", "random"} {
		made, _, err := cut(method, size, nil)
		if err != nil {
			t.Errorf("%s: %v", method, err)
			continue
		}
		if made.Method.Goal != size.Text() || made.Method.Target != 0 {
			t.Errorf("%s: recorded as %q, %v", method, made.Method.Goal, made.Method.Target)
		}
		report, err := m.Write(t.Context(), made.Subnet, filepath.Join(t.TempDir(), "x.gguf"), "", &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(report.Bytes) / size.Value; got > 1 || got < 0.98 {
			t.Errorf("%s: the file has %d bytes, %.3f of the target", method, report.Bytes, got)
		}
	}
	for name, target := range map[string]search.Target{
		"memory": {Measure: search.Memory, Value: 0.6 * float64(dense.Tensors+subnet.Dense(m.geometry()).Size().KVBytes(1<<14)), Context: 1 << 14},
		"type":   {Measure: search.Bytes, Value: 0.6 * float64(dense.File), Type: "Q8_0"},
	} {
		made, mon, err := cut("obs", target, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		cost := target.Cost(made.Subnet.Masks, &m.prices)
		if cost > target.Value {
			t.Errorf("%s: %v instead of %v", name, cost, target.Value)
		}
		// Most of the memory is the KV cache, which MLP channels do not reduce: they stay.
		if l := made.Subnet.Masks.Layer(0); name == "memory" && (!l.Channels.IsFull() || l.Groups(m.geometry().Layers[0]).Len() != 1) {
			t.Errorf("memory: %d channels and %d groups remain", l.Channels.Len(), l.Groups(m.geometry().Layers[0]).Len())
		}
		if groups := strings.Contains(strings.Join(mon.notes, "\n"), "KV groups are dropped too"); groups != (name == "memory") {
			t.Errorf("%s: notes %q", name, mon.notes)
		}
	}
	// Where both may be dropped, KV groups go before channels in a long context and after them in a short one.
	yes := true
	var groups [2]int
	for i, context := range []int{1 << 14, 16} {
		kv := subnet.Dense(m.geometry()).Size().KVBytes(context)
		made, _, err := cut("allocated", search.Target{Measure: search.Memory, Value: 0.8 * float64(dense.Tensors+kv), Context: context}, &yes)
		if err != nil {
			t.Fatal(err)
		}
		for layer, lg := range m.geometry().Layers {
			groups[i] += made.Subnet.Masks.Layer(layer).Groups(lg).Len()
		}
	}
	t.Logf("KV groups that remain: %d", groups)
	if groups[0] >= groups[1] {
		t.Errorf("%d KV groups remain in a long context, %d in a short one", groups[0], groups[1])
	}
	m.prices.add(search.Times{Dense: 0.01, MLP: []search.TimePoint{{Kept: 0.5, Seconds: 0.006}}})
	speed := search.Target{Measure: search.Speed, Value: 0.8}
	made, _, err := cut("obs", speed, nil)
	if got := speed.Cost(made.Subnet.Masks, &m.prices); err != nil || got > 0.8+1e-9 || got < 0.78 {
		t.Errorf("speed: %v, %v", got, err)
	}
	made, mon, err := cut("obs", search.Target{Measure: search.Bytes, Value: 2 * float64(dense.File)}, nil)
	if err != nil || !made.Subnet.Masks.Equal(subnet.Dense(m.geometry())) || len(mon.notes) == 0 || !strings.Contains(mon.notes[0], "nothing is dropped") {
		t.Errorf("a target beyond the dense model: %v, notes %q", err, mon.notes)
	}
	no := false
	for name, attention := range map[string]*bool{"channels alone": &no, "all": nil} {
		if _, _, err := cut("obs", search.Target{Measure: search.Bytes, Value: 1000}, attention); !errors.Is(err, explorer.ErrUnsupported) || !strings.Contains(err.Error(), "the nearest possible is") {
			t.Errorf("an impossible target, %s: %v", name, err)
		}
	}
	// It is refused before text is read: this one does not exist.
	for _, c := range []explorer.Cut{{Within: search.Target{Measure: search.Bytes, Value: 1000}}, {Within: search.Target{Measure: search.Latency, Value: 1e-6}}, {Target: 0.02}} {
		c.Calibration.Text = filepath.Join(t.TempDir(), "missing.txt")
		for _, c.Preset = range []string{"", "allocated", "flap-global", "obs", "random", "depth", "cosine"} {
			want, text := explorer.ErrUnsupported, "the nearest possible is"
			if c.Target > 0 {
				want, text = explorer.ErrInvalid, "ratios from"
			}
			if _, err := m.Cut(t.Context(), c, &quiet{}); !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
				t.Errorf("an impossible target, %s by %q: %v", c.Within.Text(), c.Preset, err)
			}
		}
	}
	// Whole layers are dropped until the target is met.
	layers, err := m.Cut(t.Context(), explorer.Cut{Preset: "cosine", Within: search.Target{Measure: search.Bytes, Value: 0.9 * float64(dense.File)}, Calibration: explorer.Calibration{Windows: 2, Seq: 64}}, &quiet{})
	if got := info.FileSize(layers.Subnet.Masks, "").File; err != nil || float64(got) > 0.9*float64(dense.File) {
		t.Errorf("whole layers: %d bytes of %d, %v", got, dense.File, err)
	}
}
