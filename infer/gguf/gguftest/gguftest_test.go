package gguftest_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestEveryFamilyHasAModel fails for an architecture of the table without a tiny model.
func TestEveryFamilyHasAModel(t *testing.T) {
	for _, arch := range subnet.Architectures() {
		if !slices.ContainsFunc(gguftest.Families(), func(n gguftest.Named) bool { return n.Model.Arch == arch }) {
			t.Errorf("no model of %s in Families", arch)
		}
	}
}

// Every model must give a file that reads back as described.
func TestFamilies(t *testing.T) {
	for _, family := range gguftest.Families() {
		for _, shuffle := range []bool{false, true} {
			m := family.Model
			m.Shuffle = shuffle
			t.Run(family.Name, func(t *testing.T) {
				c, err := gguftest.Open(t, m).Config()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(m.Layers, c.Layers); diff != "" {
					t.Error(diff)
				}
				gemma := m.Arch == "gemma2" || m.Arch == "gemma3"
				opt, positions := m.Arch == "opt", 0
				if opt {
					positions = m.Context
				}
				norms := m.Arch == "openelm" || m.Arch == "qwen3" || m.Arch == "gemma3"
				if c.Arch != m.Arch || c.Hidden != m.Hidden || c.HeadDim != m.HeadDim || c.Vocab != m.Vocab || c.Tied != m.Tied ||
					c.QKVBias != m.QKVBias || c.OutBias != m.OutBias || (c.RopeFactors != nil) != m.RopeFreqs ||
					c.HalfSplit != (m.Arch == "qwen2" || norms || gemma) || c.PostNorms != gemma || (c.Local != nil) != gemma || c.Window != m.Window || c.QKNorm != norms ||
					c.LayerNorm != opt || c.Ungated != opt || c.Positions != positions || (c.RopeDims == 0) != opt {
					t.Errorf("model %+v reads back as %+v", m, c)
				}
			})
		}
	}
}

func TestWriteIsDeterministic(t *testing.T) {
	m := gguftest.Tiny("llama")
	a, err := os.ReadFile(gguftest.Write(t, m))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(gguftest.Write(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the same model gave two different files")
	}
}

func TestWriteFallsBackWhereRowsDoNotFit(t *testing.T) {
	m := gguftest.Tiny("llama")
	m.Type = gguf.Q8_0
	for i := range m.Layers {
		m.Layers[i].FFN = 48
	}
	f := gguftest.Open(t, m)
	for name, want := range map[string]gguf.Type{"blk.0.ffn_down.weight": gguf.F16, "blk.0.ffn_up.weight": gguf.Q8_0} {
		if got, _ := f.Tensor(name); got.Type != want {
			t.Errorf("%s is %s, want %s", name, got.Type, want)
		}
	}
}
