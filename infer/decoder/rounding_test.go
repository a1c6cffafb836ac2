//go:build cgo && !nocgo

package decoder_test

import (
	"math"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestRounding scores a model with matrices rounded as they are read, and one with matrices of a layer replaced by rounded ones, against the
// file that has these types.
func TestRounding(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	m := decodertest.LoadFile(t, f)
	windows := decodertest.Windows(1, 2, 40, m.Geometry().Vocab)
	types := map[string]gguf.Type{
		"blk.1.attn_q.weight": gguf.Q4_0, "blk.1.attn_k.weight": gguf.Q4_1, "blk.1.attn_output.weight": gguf.Q5_0, "blk.1.ffn_gate.weight": subnet.IQ4_NL,
		"blk.1.ffn_down.weight": gguf.Q4_0,
	}
	path := filepath.Join(t.TempDir(), "typed.gguf")
	if _, err := gguf.WriteSubnet(t.Context(), f, path, gguf.Subnet{Masks: subnet.Dense(m.Geometry()), Types: types}, gguf.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	written, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = written.Close() }() // only read from
	score := func(m *decoder.Model, s *decoder.Subnet) float64 {
		defer s.Close()
		got, err := m.Score(t.Context(), s, windows)
		if err != nil {
			t.Fatal(err)
		}
		return got.NLL
	}
	file := decodertest.LoadFile(t, written)
	want, dense := score(file, file.Dense()), score(m, m.Dense())
	if math.Abs(want-dense) < 1e-4 {
		t.Fatalf("rounding changes nothing: %g", want)
	}
	rounded, err := decoder.Load(t.Context(), m.Device(), f, decoder.WithRounding(func(tensor string, width int, data []float32) error {
		typ, ok := types[tensor]
		if !ok {
			return nil
		}
		back, err := gguf.Round(typ, data, width, nil)
		copy(data, back)
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer rounded.Close()
	if got := score(rounded, rounded.Dense()); math.Abs(got-want) > 1e-3 {
		t.Errorf("rounded as it is read: %g, the file %g", got, want)
	}
	by := make(map[string][]float32)
	for name, rest := range map[string]string{"q": "attn_q", "k": "attn_k", "o": "attn_output", "gate": "ffn_gate", "down": "ffn_down"} {
		data, dims, err := m.Weights(1, name)
		if err != nil {
			t.Fatal(err)
		}
		if by[name], err = gguf.Round(types["blk.1."+rest+".weight"], data, dims[1], nil); err != nil {
			t.Fatal(err)
		}
	}
	d := m.Dense()
	defer d.Close()
	replaced, err := d.WithMatrices(t.Context(), 1, by)
	if err != nil {
		t.Fatal(err)
	}
	if got := score(m, replaced); math.Abs(got-want) > 1e-3 {
		t.Errorf("with matrices replaced: %g, the file %g", got, want)
	}
	for name, bad := range map[string]map[string][]float32{"a short matrix": {"q": by["q"][1:]}, "an unknown matrix": {"moon": by["q"]}} {
		if s, err := d.WithMatrices(t.Context(), 1, bad); err == nil {
			s.Close()
			t.Errorf("%s was taken", name)
		}
	}
}
