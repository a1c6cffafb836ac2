package decoder_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Files of families without a runtime are read back by this package alone, so that what they compute is compared here: with
// the plain loops over the source, zeroed where units were dropped.
func TestWrittenSubnetsWithoutARuntime(t *testing.T) {
	dev := devices(t)["go"]
	for _, family := range gguftest.Families() {
		if facts, _ := subnet.FamilyOf(family.Model.Arch); facts.Runs {
			continue
		}
		f := gguftest.Open(t, family.Model)
		config, err := f.Config()
		if err != nil {
			t.Fatal(err)
		}
		geo := config.Geometry()
		ref, w := newNaive(t, f), window(4, 29, family.Model.Vocab)
		all := cuts(t, &geo)
		all["first layer"] = gguf.Subnet{Masks: subnet.Dense(&geo).With(0, subnet.Layer{
			Heads: subnet.Empty(geo.Layers[0].Heads), Channels: subnet.Empty(geo.Layers[0].FFN),
		})}
		for name, spec := range all {
			t.Run(strings.ReplaceAll(family.Name+"/"+name, " ", "-"), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "cut.gguf")
				if _, err := gguf.WriteSubnet(t.Context(), f, path, spec, gguf.WriteOptions{Type: "F32"}); err != nil {
					t.Fatal(err)
				}
				cut, err := gguf.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = cut.Close() })
				m := load(t, dev, cut)
				dense := m.Dense()
				defer dense.Close()
				got, err := m.Logits(t.Context(), dense, w)
				if err != nil {
					t.Fatal(err)
				}
				if d := distance(got, ref.cut(spec).logits(w)); !(d < tolerance) {
					t.Errorf("logits differ by %g", d)
				}
			})
		}
	}
}

// A table of positions ends.
func TestWindowBeyondThePositions(t *testing.T) {
	recipe := gguftest.Tiny("opt")
	recipe.Context = 16
	m := load(t, devices(t)["go"], gguftest.Open(t, recipe))
	dense := m.Dense()
	defer dense.Close()
	if _, err := m.LogProbs(t.Context(), dense, window(1, 16, 320)); err != nil {
		t.Error(err)
	}
	if _, err := m.NewStates(t.Context(), [][]int32{window(1, 17, 320)}); err == nil || !strings.Contains(err.Error(), "16 positions") {
		t.Errorf("error %v", err)
	}
}

// Without a gate the output of an MLP is not linear in W_U, which is an error.
func TestUpProblemNeedsAGate(t *testing.T) {
	m := load(t, devices(t)["go"], gguftest.Open(t, gguftest.Tiny("opt")))
	st, err := m.NewStates(t.Context(), [][]int32{window(1, 16, 320)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	in, err := m.MLPInputs(t.Context(), 0, nil, st)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	_, err = m.NewUpProblem(t.Context(), 0, subnet.Range(128, 0, 64), make([]float32, 64*64), in, false, []int{0})
	if m.Geometry().LinearInUp() || err == nil || !strings.Contains(err.Error(), "not linear in W_U") {
		t.Errorf("error %v", err)
	}
}
