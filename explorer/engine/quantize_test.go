package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// TestWidthsLoseNoMoreThanTypes cuts to sizes that types alone reach too: the result loses no more on held-out text.
func TestWidthsLoseNoMoreThanTypes(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	dense := gguf.Subnet{Masks: subnet.Dense(m.geometry())}
	reached := 0
	for _, size := range []float64{110e3, 115e3, 120e3, 125e3} {
		both := explorer.Quantize{
			Subnet: explorer.DenseID, Widths: true, Target: search.Target{Measure: search.Bytes, Value: size}, Seed: 1,
			Calibration: explorer.Calibration{Windows: 4, Seq: 64},
		}
		types := both
		types.Widths = false
		dir := t.TempDir()
		alone, err := m.Quantize(t.Context(), dense, types, dir, &quiet{})
		if errors.Is(err, explorer.ErrInvalid) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		mon := &quiet{}
		got, err := m.Quantize(t.Context(), dense, both, dir, mon)
		if err != nil {
			t.Fatal(err)
		}
		if reached++; got.After > alone.After {
			t.Errorf("%g bytes: perplexity %.3f, with types alone %.3f; notes %q", size, got.After, alone.After, mon.notes)
		}
	}
	if reached == 0 {
		t.Error("types alone reach none of the sizes")
	}
}

// TestTypeLossesAreOfTheirDraw: losses of types that were kept for other windows of the same text are measured again.
func TestTypeLossesAreOfTheirDraw(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	dense := gguf.Subnet{Masks: subnet.Dense(m.geometry())}
	losses := func(seed uint64, dir string) []byte {
		t.Helper()
		_, err := m.Quantize(t.Context(), dense, explorer.Quantize{
			Subnet: explorer.DenseID, Target: search.Target{Measure: search.Bytes, Value: 130e3}, Calibration: explorer.Calibration{Windows: 4, Seq: 64, Seed: seed},
		}, dir, &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		kept, err := readTypes(dir)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(kept.Losses)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	dir := t.TempDir()
	first, second := losses(1, dir), losses(2, dir)
	if alone := losses(2, t.TempDir()); !bytes.Equal(second, alone) {
		t.Errorf("the losses on the windows of seed 2 are those of seed 1: %t", bytes.Equal(first, second))
	}
}
