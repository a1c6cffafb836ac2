package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestModelWithoutARuntime goes the way of a model that llama.cpp does not run: what is cut, written, read back and
// verified agrees, its vocabulary is llama.cpp's to read, and what would run it is refused with the reason.
func TestModelWithoutARuntime(t *testing.T) {
	b := newEngine(t)
	recipe := gguftest.Tiny("opt")
	recipe.Context = explorer.HeldOutTokens // which are measured at once
	opened, err := b.Open(t.Context(), gguftest.Write(t, recipe))
	if err != nil {
		t.Fatal(err)
	}
	m := opened.(*model)
	why := m.Info().NoRuntime
	if !strings.Contains(why, "no runtime for OPT") {
		t.Fatalf("reason %q", why)
	}
	mon := &quiet{}
	made, err := m.Cut(t.Context(), explorer.Cut{Preset: "allocated", Target: 0.7, Calibration: explorer.Calibration{Windows: 4, Seq: 128}, Seed: 1}, mon)
	if err != nil {
		t.Fatal(err)
	}
	// Blocks that are gone leave their biases to those before them.
	masks := made.Subnet.Masks
	l := masks.Layer(1)
	l.Heads = subnet.Empty(l.Heads.N())
	masks = masks.With(1, l)
	if made, err = m.Refit(t.Context(), masks, explorer.Refit{Calibration: explorer.Calibration{Windows: 4, Seq: 128}}, mon); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut.gguf")
	if _, err := m.Write(t.Context(), made.Subnet, path, "F32", mon); err != nil {
		t.Fatal(err)
	}
	if n := len(mon.notes); n == 0 || !strings.Contains(mon.notes[n-1], "only lathe reads the file") {
		t.Errorf("notes %q", mon.notes)
	}
	r := explorer.ScoreRequest{Seq: 128, Windows: 2}
	want, err := m.Score(t.Context(), made.Subnet, r, mon)
	if err != nil {
		t.Fatal(err)
	}
	if !want.Conditions.BOS {
		t.Error("texts begin without the start token")
	}
	read, err := m.Read(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.Score(t.Context(), read, r, mon)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "read back", got.Perplexity, want.Perplexity, 1e-4)
	cut, err := b.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = cut.Score(t.Context(), gguf.Subnet{Masks: subnet.Dense(cut.Info().Geometry)}, r, mon); err != nil {
		t.Fatal(err)
	}
	near(t, "as a model of its own", got.Perplexity, want.Perplexity, 1e-4)
	if err := cut.Close(); err != nil {
		t.Error(err)
	}
	v, err := b.Verify(t.Context(), path, m.Info().Path, mon)
	if err := errors.Join(err, v.Err()); err != nil {
		t.Error(err)
	}
	if last := v.Findings[len(v.Findings)-1]; last.Check != "subnet" || last.Outcome != gguf.Passed || !strings.Contains(last.Detail, "lathe's graphs") {
		t.Errorf("%+v", last)
	}

	r.Engine = explorer.EngineLlama
	_, scored := m.Score(t.Context(), made.Subnet, r, mon)
	_, loaded := m.Load(context.Background(), infer.Defaults(path), nil)
	for what, err := range map[string]error{"scoring": scored, "loading": loaded} {
		if !errors.Is(err, explorer.ErrUnsupported) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s in llama.cpp: %v", what, err)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(b.options.Scratch); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}
