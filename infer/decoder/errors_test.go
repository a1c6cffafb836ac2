package decoder_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func TestOpenDevice(t *testing.T) {
	t.Setenv("LATHE_CACHE", t.TempDir())
	t.Setenv("PJRT_PLUGIN_LIBRARY_PATH", "")
	if _, err := decoder.OpenDevice("tpu"); err == nil || !strings.Contains(err.Error(), "tpu") {
		t.Errorf("unknown device: %v", err)
	}
	if _, err := decoder.OpenDevice("xla"); !errors.Is(err, decoder.ErrNoDevice) {
		t.Errorf("no plugin anywhere: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "plugin.so")
	if _, err := decoder.OpenDevice("xla:" + missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("plugin that is not there: %v", err)
	}
	t.Setenv(decoder.DeviceEnv, "go")
	dev, err := decoder.OpenDevice("")
	if err != nil {
		t.Fatal(err)
	}
	if dev.Name() != "go" || dev.Plugin() != "" || dev.Description() == "" {
		t.Errorf("device %q, plugin %q, %q", dev.Name(), dev.Plugin(), dev.Description())
	}
	dev.Close()
	dev.Close()
	if _, err := decoder.Load(t.Context(), dev, gguftest.Open(t, gguftest.Tiny("llama"))); !errors.Is(err, decoder.ErrClosed) {
		t.Errorf("load on a closed device: %v", err)
	}
}

func TestFallsBackToGo(t *testing.T) {
	t.Setenv("LATHE_CACHE", t.TempDir())
	t.Setenv("PJRT_PLUGIN_LIBRARY_PATH", "")
	t.Setenv(decoder.DeviceEnv, "")
	dev, err := decoder.OpenDevice("auto")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if dev.Name() == "go" && len(dev.Notes()) == 0 {
		t.Error("no note says why XLA was passed over")
	}
}

func TestBadArguments(t *testing.T) {
	ctx := t.Context()
	dev := devices(t)["go"]
	m := load(t, dev, gguftest.Open(t, gguftest.Tiny("llama")))
	wide := gguftest.Tiny("llama")
	wide.Layers[1].FFN = 128
	wide.Vocab = 400
	other := load(t, dev, gguftest.Open(t, wide))
	dense, foreign := m.Dense(), other.Dense()
	defer dense.Close()
	defer foreign.Close()
	w := window(1, 8, 320)
	st, err := m.NewStates(ctx, [][]int32{w})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	masks := subnet.Dense(m.Geometry())
	refits := make([]gguf.Refit, 3)
	refits[1].WD = make([]float32, 5)
	short := make([]gguf.Refit, 2)

	for _, c := range []struct {
		name string
		want error // nil for any
		call func() error
	}{
		{"token outside the vocabulary", nil, func() error { _, err := m.LogProbs(ctx, dense, []int32{1, 320}); return err }},
		{"negative token", nil, func() error { _, err := m.NewStates(ctx, [][]int32{{-1}}); return err }},
		{"window of one token", nil, func() error { _, err := m.LogProbs(ctx, dense, w[:1]); return err }},
		{"empty window", nil, func() error { _, err := m.Logits(ctx, dense, nil); return err }},
		{"empty calibration window", nil, func() error { _, err := m.NewStates(ctx, [][]int32{{}}); return err }},
		{"subnet of another model", decoder.ErrGeometry, func() error { _, err := m.Score(ctx, foreign, [][]int32{w}); return err }},
		{"masks of another model", decoder.ErrGeometry, func() error {
			_, err := m.Subnet(ctx, gguf.Subnet{Masks: subnet.Dense(other.Geometry())})
			return err
		}},
		{"no masks", nil, func() error { _, err := m.Subnet(ctx, gguf.Subnet{}); return err }},
		{"refit of another width", nil, func() error { _, err := m.Subnet(ctx, gguf.Subnet{Masks: masks, Refit: refits}); return err }},
		{"refits of fewer layers", nil, func() error { _, err := m.Subnet(ctx, gguf.Subnet{Masks: masks, Refit: short}); return err }},
		{"layer outside", nil, func() error { _, err := m.AttentionInputs(ctx, 3, dense, st); return err }},
		{"weights that are not there", nil, func() error { _, _, err := m.Weights(0, "x"); return err }},
		{"context ended", context.Canceled, func() error { _, err := m.Score(ended, dense, [][]int32{w}); return err }},
		{"subnet closed", decoder.ErrClosed, func() error {
			s := m.Dense()
			s.Close()
			_, err := m.Score(ctx, s, [][]int32{w})
			return err
		}},
		{"inputs of another module", nil, func() error {
			in, err := m.MLPInputs(ctx, 0, dense, st)
			if err != nil {
				return nil
			}
			defer in.Close()
			return m.AddAttention(ctx, 0, dense, in, st)
		}},
		{"states that an error left half advanced", decoder.ErrStale, func() error {
			half, err := m.NewStates(ctx, [][]int32{w})
			if err != nil {
				return nil
			}
			defer half.Close()
			if m.Advance(ended, 0, dense, half) == nil {
				return nil
			}
			return m.Advance(ctx, 0, dense, half)
		}},
	} {
		err := c.call()
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", c.name, err, c.want)
		}
	}
}
