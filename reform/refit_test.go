package reform_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
)

// meanState returns the mean over tokens of the state after the first layer.
func meanState(t *testing.T, m *decoder.Model, s *decoder.Subnet, windows [][]int32) []float64 {
	t.Helper()
	st, err := m.NewStates(t.Context(), windows)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := m.Advance(t.Context(), 0, s, st); err != nil {
		t.Fatal(err)
	}
	hidden := m.Geometry().Hidden
	mean := make([]float64, hidden)
	for i := range windows {
		h, err := st.Hidden(i)
		if err != nil {
			t.Fatal(err)
		}
		for j, v := range h {
			mean[j%hidden] += float64(v) / float64(st.Tokens())
		}
	}
	return mean
}

// randomMasks keeps 70 % of the MLP channels of each layer, chosen at random.
func randomMasks(m *decoder.Model, seed uint64) subnet.Masks {
	rng := rand.New(rand.NewPCG(seed, 0))
	masks := subnet.Dense(m.Geometry())
	for i, lg := range m.Geometry().Layers {
		l := masks.Layer(i)
		l.Channels = subnet.Full(lg.FFN).Sample(rng, lg.FFN*7/10)
		masks = masks.With(i, l)
	}
	return masks
}

// families runs a test with a model of each of the named ones.
func families(t *testing.T, names []string, f func(t *testing.T, name string, m *decoder.Model)) {
	for _, family := range gguftest.Families() {
		if slices.Contains(names, family.Name) {
			t.Run(family.Name, func(t *testing.T) { f(t, family.Name, decodertest.Load(t, family.Model)) })
		}
	}
}

func TestRefitBringsStatesBack(t *testing.T) {
	// Attention with and without groups, biases, unequal layers, no gates.
	families(t, []string{"llama mha", "llama biases", "deci", "openelm", "opt uneven"}, func(t *testing.T, _ string, m *decoder.Model) {
		g := m.Geometry()
		// Measured on the calibration text: on other text, channels of a random model are independent.
		windows := decodertest.Windows(2, 4, 64, g.Vocab)
		masks := randomMasks(m, 3)
		none := decodertest.Distance(t, m, gguf.Subnet{Masks: masks}, windows)
		for name, recipe := range map[string]reform.Recipe{
			"exact":          {},
			"pulled":         {Solve: reform.Options{Pull: true, Lambdas: []float64{0.01, 0.1}}},
			"admm":           {Solve: reform.Options{Method: reform.ADMM}},
			"bias":           {Solve: reform.Options{Bias: true}},
			"relative":       {Relative: true, Solve: reform.Options{Pull: true}},
			"dense residual": {Target: reform.DenseResidual, Blend: 0.5, Relative: true, Solve: reform.Options{Pull: true}},
			"all residual":   {Target: reform.DenseResidual, Solve: reform.Options{Pull: true}},
			"dense output":   {Target: reform.DenseOutput, Solve: reform.Options{Pull: true}},
		} {
			fit, report, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{Recipe: recipe})
			if err != nil {
				t.Fatal(err)
			}
			if got := decodertest.Distance(t, m, fit, windows); got >= none {
				t.Errorf("%s: states differ by %.4f, without a re-fit by %.4f", name, got, none)
			}
			for _, mod := range report.Modules {
				if mod.ErrAfter > mod.ErrBefore+1e-6 {
					t.Errorf("%s: layer %d %s: error %g became %g", name, mod.Layer, mod.Module, mod.ErrBefore, mod.ErrAfter)
				}
			}
			if len(report.Modules) != subnet.Modules*len(g.Layers) {
				t.Errorf("%s: report of %d modules", name, len(report.Modules))
			}
		}
	})
}

// Uncut attention compensates for modules cut before it, and is not re-fitted otherwise.
func TestRefitOfWholeBlocks(t *testing.T) {
	families(t, []string{"llama", "deci", "opt uneven", "gemma2"}, func(t *testing.T, name string, m *decoder.Model) {
		g := m.Geometry()
		windows := decodertest.Windows(2, 4, 64, g.Vocab)
		masks := subnet.Dense(g)
		const cut = 0
		l := masks.Layer(cut)
		l.Channels = subnet.Range(g.Layers[cut].FFN, 0, g.Layers[cut].FFN/2)
		masks = masks.With(cut, l)
		if last := len(g.Layers) - 1; name == "llama" {
			masks = masks.With(last, subnet.Layer{Heads: subnet.Empty(g.Layers[last].Heads), Channels: subnet.Empty(g.Layers[last].FFN)})
		}
		recipe := reform.Recipe{Target: reform.DenseResidual, Relative: true, Solve: reform.Options{Pull: true}}
		states := make(map[bool]float64)
		for _, recipe.RefitUncutAttention = range []bool{false, true} {
			fit, _, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{Recipe: recipe})
			if err != nil {
				t.Fatal(err)
			}
			states[recipe.RefitUncutAttention] = decodertest.Distance(t, m, fit, windows)
			// Modules with a bias and models that normalise the outputs of modules are re-fitted to local outputs.
			able := !m.Config().PostNorms && m.Config().Arch != "opt"
			for i, r := range fit.Refit {
				if want := recipe.RefitUncutAttention && able && i > cut && !masks.Layer(i).Heads.IsEmpty(); (len(r.WO) > 0) != want {
					t.Errorf("uncut attention %t: layer %d has a W_O of %d numbers", recipe.RefitUncutAttention, i, len(r.WO))
				}
			}
			if !able {
				return
			}
		}
		if states[true] >= states[false] {
			t.Errorf("states differ by %g, without re-fits of uncut attention by %g", states[true], states[false])
		}
	})
}

// The MLP before dropped layers is fitted to the hidden states behind them: with the last layers dropped no other W_D is nearer to the
// dense model's last states, and with layers between the modules behind them follow.
func TestBridge(t *testing.T) {
	families(t, []string{"llama mha", "llama", "deci"}, func(t *testing.T, _ string, m *decoder.Model) {
		g := m.Geometry()
		windows := decodertest.Windows(2, 6, 64, g.Vocab)
		without := func(layers ...int) subnet.Masks {
			masks := subnet.Dense(g)
			for _, i := range layers {
				masks = masks.With(i, subnet.Layer{Heads: subnet.Empty(g.Layers[i].Heads), Channels: subnet.Empty(g.Layers[i].FFN)})
			}
			return masks
		}
		refit := func(masks subnet.Masks, bridge bool) (gguf.Subnet, float64, reform.Report) {
			fit, report, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{Recipe: reform.Recipe{
				Target: reform.DenseResidual, RefitUncutAttention: true, Bridge: bridge, Solve: reform.Options{Pull: true, Lambdas: []float64{1e-6}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			return fit, decodertest.Distance(t, m, fit, windows), report
		}
		last := len(g.Layers) - 1
		end := without(last-1, last)
		fit, got, report := refit(end, true)
		if none := decodertest.Distance(t, m, gguf.Subnet{Masks: end}, windows); got > 0.9*none {
			t.Errorf("last layers dropped: states differ by %.4f, without a re-fit by %.4f", got, none)
		}
		if len(report.Modules) != subnet.Modules*len(g.Layers) || report.Modules[len(report.Modules)-1].Kept != 0 {
			t.Errorf("modules %+v", report.Modules)
		}
		rng := rand.New(rand.NewPCG(4, 4))
		best := slices.Clone(fit.Refit[last-2].WD)
		for range 4 {
			for i, v := range best {
				fit.Refit[last-2].WD[i] = v + 0.02*float32(rng.NormFloat64())
			}
			if other := decodertest.Distance(t, m, fit, windows); other <= got {
				t.Errorf("another W_D is nearer: %.6f, the fitted one %.6f", other, got)
			}
		}
		middle := without(1)
		_, bridged, _ := refit(middle, true)
		if _, plain, _ := refit(middle, false); bridged >= plain {
			t.Errorf("a layer between dropped: states differ by %.4f, without a bridge by %.4f", bridged, plain)
		}
	})
}

func TestRefitRefusesMasksOfAnotherModel(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	g := *m.Geometry()
	g.Layers = slices.Clone(g.Layers)
	g.Layers[1].FFN += 32
	_, _, err := reform.Refit(t.Context(), m, decodertest.Windows(5, 2, 32, g.Vocab), subnet.Dense(&g), reform.Config{})
	if !errors.Is(err, decoder.ErrGeometry) {
		t.Errorf("error %v, want %v", err, decoder.ErrGeometry)
	}
}
