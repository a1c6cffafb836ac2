package oneshot_test

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/search/importance"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// broken loads a tiny model with one value of one F32 tensor replaced by v.
func broken(t *testing.T, tensor string, v float32) *decoder.Model {
	t.Helper()
	recipe := gguftest.Tiny("llama")
	recipe.Type = gguf.F32
	path := gguftest.Write(t, recipe)
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	info, ok := f.Tensor(tensor)
	if err := f.Close(); err != nil || !ok || info.Type != gguf.F32 {
		t.Fatalf("tensor %s is %v, error %v", tensor, info, err)
	}
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.WriteAt(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)), info.Offset)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if f, err = gguf.Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	be, err := decoder.OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	m, err := decoder.Load(t.Context(), be, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// Activations that are NaN or infinite are reported with the layer in which they first occur.
func TestNotFiniteIsNamed(t *testing.T) {
	tests := []struct {
		tensor string
		value  float32
		where  string
	}{
		{"blk.1.ffn_norm.weight", float32(math.NaN()), "layer 1 "},
		{"blk.2.ffn_gate.weight", float32(math.Inf(1)), "layer 2 "},
		{"blk.1.attn_v.weight", float32(math.NaN()), "layer 1 "},
		{"blk.0.attn_norm.weight", float32(math.Inf(-1)), "layer 0 "},
	}
	for _, tt := range tests {
		t.Run(tt.tensor, func(t *testing.T) {
			m := broken(t, tt.tensor, tt.value)
			g := m.Geometry()
			windows := decodertest.Windows(3, 4, 48, g.Vocab)
			check := func(what string, err error) {
				t.Helper()
				if !errors.Is(err, linalg.ErrNotFinite) || !strings.Contains(err.Error(), tt.where) {
					t.Errorf("%s: error %v, want one of %s", what, err, tt.where)
				}
			}
			for _, p := range preset.All() {
				if p == preset.Random || p == preset.Depth { // one reads no text, the other drops such a layer
					continue
				}
				_, _, err := oneshot.OneShot(t.Context(), m, windows, 0.66, oneshot.Config{Preset: p, Granularity: 8})
				check(string(p), err)
			}
			_, err := oneshot.NewStatistics(t.Context(), m, windows, oneshot.Gathering{})
			check("statistics", err)
			for _, method := range []importance.Method{
				importance.Phi, importance.PhiDiagonal, importance.OBS, importance.FLAP, importance.Wanda, importance.Leverage, importance.Taylor,
			} {
				_, err := oneshot.NewSurvey(t.Context(), m, windows, []importance.Method{method}, nil)
				check(string(method), err)
			}
			half := subnet.DenseLayer(g.Layers[2])
			half.Channels = subnet.Range(128, 0, 64)
			half.Heads = subnet.Range(4, 0, 2)
			masks := subnet.Dense(g)
			for i := range g.Layers {
				masks = masks.With(i, half)
			}
			_, _, err = oneshot.Refit(t.Context(), m, windows, masks, oneshot.Config{})
			check("refit", err)
		})
	}
	m := broken(t, "output_norm.weight", float32(math.NaN()))
	_, _, err := oneshot.OneShot(t.Context(), m, decodertest.Windows(3, 4, 48, m.Geometry().Vocab), 0.66, oneshot.Config{Preset: preset.Depth})
	if !errors.Is(err, linalg.ErrNotFinite) || !strings.Contains(err.Error(), "output") {
		t.Errorf("layers dropped by a loss that is NaN: %v", err)
	}
}
