package reform_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
)

func gradientRecipe(steps int) reform.Recipe {
	return reform.Recipe{
		Target: reform.DenseResidual, Blend: 0.5, Relative: true, GradientSteps: steps,
		Solve: reform.Options{Pull: true, Lambdas: []float64{0.03, 0.3}},
	}
}

// A re-fit by gradient changes all matrices of the modules where held-out text gains and no others, is the same each time, and brings the states of
// the subnet nearer to those of the dense model.
func TestRefitByGradient(t *testing.T) {
	families(t, []string{"llama", "llama biases", "deci", "qwen3", "gemma2", "opt"}, func(t *testing.T, _ string, m *decoder.Model) {
		windows := decodertest.Windows(6, 8, 64, m.Geometry().Vocab)
		masks := randomMasks(m, 2)
		for i, g := range m.Geometry().Layers { // and a KV group
			if l := masks.Layer(i); i%2 == 0 && g.KVHeads > 1 {
				l.Heads = subnet.Range(g.Heads, g.HeadsPerGroup(), g.Heads)
				masks = masks.With(i, l)
			}
		}
		refit := func(steps int) (float64, []reform.ModuleReport, int) {
			s, r, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{Recipe: gradientRecipe(steps)})
			if err != nil {
				t.Fatal(err)
			}
			again, _, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{Recipe: gradientRecipe(steps)})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(s.Refit, again.Refit); d != "" {
				t.Errorf("%d steps give other weights the second time", steps)
			}
			moved := 0
			for i, mod := range r.Modules {
				of := s.Refit[mod.Layer]
				inner := of.WQ != nil && of.WK != nil && of.WV != nil
				if i%2 == 1 {
					inner = of.WU != nil
				}
				cut := mod.Kept > 0 && mod.Kept < mod.Of
				switch g := mod.Gradient; {
				case (g != nil) != (cut && steps > 0):
					t.Errorf("%d steps: layer %d %s keeps %d of %d and has the report %v", steps, mod.Layer, mod.Module, mod.Kept, mod.Of, g)
				case inner != (g != nil && g.Steps > 0):
					t.Errorf("%d steps: layer %d %s has re-fitted inner matrices: %t, report %v", steps, mod.Layer, mod.Module, inner, g)
				case g != nil && (g.Steps > 0 && g.After >= g.Before || g.Steps == 0 && g.After != g.Before || g.Steps > steps):
					t.Errorf("%d steps: layer %d %s: %+v", steps, mod.Layer, mod.Module, *g)
				case g != nil && g.Steps > 0:
					moved++
				}
			}
			return decodertest.Distance(t, m, s, windows), r.Modules, moved
		}
		without, _, _ := refit(0)
		with, _, moved := refit(24)
		t.Logf("%d modules moved, states differ by %g, without steps by %g", moved, with, without)
		if moved == 0 {
			t.Error("no module was moved")
		}
		if with >= without {
			t.Errorf("states differ by %g, without steps by %g", with, without)
		}
	})
}

// Fewer than four windows are too few to hold some out, and recipes that matrices cannot be re-fitted with leave them as they are.
func TestGradientStepsWhereTheyDoNotApply(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(6, 4, 64, m.Geometry().Vocab)
	masks := randomMasks(m, 1)
	if _, _, err := reform.Refit(t.Context(), m, windows[:3], masks, reform.Config{Recipe: gradientRecipe(4)}); !errors.Is(err, reform.ErrText) {
		t.Errorf("three windows: %v", err)
	}
	for name, recipe := range map[string]reform.Recipe{
		"bias": {Solve: reform.Options{Bias: true}}, "admm": {Solve: reform.Options{Method: reform.ADMM}}, "none": {Solve: reform.Options{Method: reform.None}},
		"dense output": {Target: reform.DenseOutput}, "up": {UpSteps: 1}, "by gradient": {ByGradient: true},
	} {
		recipe.GradientSteps = 4
		_, r, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{Recipe: recipe})
		if err != nil {
			t.Fatal(err)
		}
		for _, mod := range r.Modules {
			if mod.Gradient != nil {
				t.Errorf("%s: layer %d %s: %+v", name, mod.Layer, mod.Module, *mod.Gradient)
			}
		}
	}
}
