package reform_test

import (
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/reform"
)

// With W_U re-fitted too, the error falls with the number of steps, and so does that of the hidden states.
func TestRefitOfUp(t *testing.T) {
	for _, name := range []string{"llama", "qwen2"} {
		m := decodertest.Load(t, gguftest.Tiny(name))
		windows := decodertest.Windows(6, 8, 64, m.Geometry().Vocab)
		masks := randomMasks(m, 2)
		var states, errors []float64
		for _, steps := range []int{0, 1, 4, 16} {
			recipe := reform.Recipe{UpSteps: steps, Relative: true, Solve: reform.Options{Pull: true, Lambdas: []float64{0.03}}}
			fit, report, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{Recipe: recipe})
			if err != nil {
				t.Fatal(err)
			}
			var sum float64
			for i, mod := range report.Modules {
				sum += mod.ErrAfter
				if mod.ErrAfter > mod.ErrBefore+1e-6 {
					t.Errorf("%s, %d steps: module %d: error %g became %g", name, steps, i, mod.ErrBefore, mod.ErrAfter)
				}
			}
			for i, r := range fit.Refit {
				kept := fit.Masks.Layer(i).Channels
				if want := steps > 0 && !kept.IsFull(); (r.WU != nil) != want || want && len(r.WU) != kept.Len()*m.Geometry().Hidden {
					t.Errorf("%s, %d steps: layer %d has a W_U of %d numbers", name, steps, i, len(r.WU))
				}
			}
			states, errors = append(states, decodertest.Distance(t, m, fit, windows)), append(errors, sum)
		}
		t.Logf("%s: errors %.4f, states %.5f", name, errors, states)
		for i := 1; i < len(errors); i++ {
			if errors[i] >= errors[i-1] {
				t.Errorf("%s: errors %v do not fall with the steps", name, errors)
			}
		}
		if last := len(states) - 1; states[last] >= states[0] {
			t.Errorf("%s: states differ by %g, without W_U by %g", name, states[last], states[0])
		}
	}
}

// W_U is also re-fitted where the target is the dense residual.
func TestRefitOfUpToDenseResidual(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(6, 8, 64, m.Geometry().Vocab)
	masks := randomMasks(m, 2)
	var states []float64
	for _, steps := range []int{0, 4} {
		recipe := reform.Recipe{
			Target: reform.DenseResidual, Blend: 0.5, UpSteps: steps, Relative: true, Solve: reform.Options{Pull: true, Lambdas: []float64{0.03}},
		}
		fit, report, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{Recipe: recipe})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range fit.Refit {
			if want := steps > 0 && !fit.Masks.Layer(i).Channels.IsFull(); (r.WU != nil) != want {
				t.Errorf("%d steps: layer %d has a W_U of %d numbers", steps, i, len(r.WU))
			}
		}
		for i, mod := range report.Modules {
			if mod.ErrAfter > mod.ErrBefore+1e-6 {
				t.Errorf("%d steps: module %d: error %g became %g", steps, i, mod.ErrBefore, mod.ErrAfter)
			}
		}
		states = append(states, decodertest.Distance(t, m, fit, windows))
	}
	if states[1] >= states[0] {
		t.Errorf("states differ by %g, without W_U by %g", states[1], states[0])
	}
}

// Recipes that W_U cannot be re-fitted with leave it as it is.
func TestUpStepsWhereTheyDoNotApply(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(6, 4, 64, m.Geometry().Vocab)
	for name, recipe := range map[string]reform.Recipe{
		"bias":         {Solve: reform.Options{Bias: true}},
		"admm":         {Solve: reform.Options{Method: reform.ADMM}},
		"none":         {Solve: reform.Options{Method: reform.None}},
		"dense output": {Target: reform.DenseOutput},
	} {
		masks := randomMasks(m, 1)
		recipe.UpSteps = 4
		fit, _, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{Recipe: recipe})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range fit.Refit {
			if r.WU != nil {
				t.Errorf("%s: W_U of layer %d was re-fitted", name, i)
			}
		}
	}
}
