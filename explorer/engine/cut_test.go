package engine

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

func TestNamesAreThoseOfReform(t *testing.T) {
	if got := explorer.FitTargets(); !slices.Equal(got, reform.TargetNames()) {
		t.Errorf("targets %q, want %q", got, reform.TargetNames())
	}
	for _, name := range explorer.FitMethods() {
		if _, err := recipeOf("obs", explorer.ReformOptions{Method: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, p := range preset.All() {
		r, err := oneshot.RecipeOf(p)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := preset.DropsLayers(string(p)), r.Layers != oneshot.NoLayers; got != want {
			t.Errorf("%s drops layers: %v, want %v", p, got, want)
		}
	}
}

// TestADMMIsThePapers checks that admm is the paper's iteration whatever the preset, that single settings change it, and that
// recipes from before are re-fitted as they were.
func TestADMMIsThePapers(t *testing.T) {
	for _, name := range preset.Names() {
		r, err := recipeOf(name, explorer.ReformOptions{Method: "admm"})
		if s := r.Refit.Solve; err != nil || s.Method != reform.ADMM || s.Pull || s.Bias || len(s.Lambdas) != 1 || s.Lambdas[0] != 0 || s.Rho != 1 || s.Steps != 30 ||
			r.Refit.Target != reform.LocalOutput || r.Refit.Relative || r.Refit.UpSteps != 0 {
			t.Errorf("%s: %+v, %v", name, r.Refit, err)
		}
	}
	lambda, yes := 0.1, true
	r, err := recipeOf("allocated", explorer.ReformOptions{Method: "admm", Lambda: &lambda, Pull: &yes, Bias: &yes, Rho: 10, Steps: 20, Target: "dense"})
	if s := r.Refit.Solve; err != nil || s.Lambdas[0] != 0.1 || !s.Pull || !s.Bias || s.Rho != 10 || s.Steps != 20 || r.Refit.Target != reform.DenseOutput {
		t.Errorf("%+v, %v", r.Refit, err)
	}
	r, err = recipeOf("allocated", explorer.ReformOptions{Method: "admm", Pull: &yes, OwnRidge: true})
	if s := r.Refit.Solve; err != nil || len(s.Lambdas) != 4 || !s.Pull || r.Refit.Target != reform.LocalOutput || !r.Refit.Relative {
		t.Errorf("as before: %+v, %v", r.Refit, err)
	}
}

func TestOptionsWithoutEffectAreRefused(t *testing.T) {
	one, steps, yes := 1.0, 2, true
	for what, o := range map[string]explorer.ReformOptions{
		"rho":    {Rho: 2},
		"steps":  {Method: "exact", Steps: 3},
		"lambda": {Method: "none", Lambda: &one},
		"pull":   {Method: "none", Pull: &yes},
		"target": {Method: "none", Target: "dense"},
		"up":     {Method: "admm", Up: &steps},
		"bridge": {Bridge: &yes, Target: "local"},
		"weigh":  {Weigh: "gradient", Bias: &yes},
	} {
		if _, err := recipeOf("", o); !errors.Is(err, explorer.ErrInvalid) || !strings.Contains(err.Error(), what+" has no effect") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, o := range []explorer.ReformOptions{{Up: &steps, Bias: &yes}, {Up: &steps, Target: "dense"}, {Bridge: &yes, Method: "none"}} {
		if _, err := recipeOf("", o); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestBridgedDepth drops a layer and fits the MLP before it; the setting is recorded, and a preset that re-fits nothing gets a re-fit.
func TestBridgedDepth(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	yes := true
	cut := explorer.Cut{Preset: "depth", Target: 0.7, Calibration: explorer.Calibration{Windows: 4, Seq: 64}, Reform: explorer.ReformOptions{Bridge: &yes}}
	made, err := m.Cut(t.Context(), cut, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	if me := made.Method; !me.Bridge || me.Reform != "exact" || me.FitTarget != "residual" || !me.Pull {
		t.Errorf("method %+v", me)
	}
	refit, err := m.Refit(t.Context(), made.Subnet.Masks, explorer.Refit{Preset: "depth", Calibration: cut.Calibration, Reform: cut.Reform}, &quiet{})
	if err != nil || !refit.Method.Bridge || refit.After != made.After {
		t.Errorf("re-fitted to %g (%v), the cut has %g", refit.After, err, made.After)
	}
}

// TestCutWeighsByGradients cuts with tokens weighed by gradients: it is recorded, and the weights are others.
func TestCutWeighsByGradients(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	cut := explorer.Cut{Preset: "obs", Target: 0.7, Calibration: explorer.Calibration{Windows: 4, Seq: 64}}
	perplexities := make(map[float64]string)
	for _, cut.Reform.Weigh = range append(explorer.Weighings(), "") {
		made, err := m.Cut(t.Context(), cut, &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		want := cut.Reform.Weigh
		if want == "" {
			want = "none"
		}
		if made.Method.Weigh != want {
			t.Errorf("%q: recorded as %q", cut.Reform.Weigh, made.Method.Weigh)
		}
		if other, ok := perplexities[made.After]; ok && other != want {
			t.Errorf("weighed by %s and by %s it is the same subnet", other, want)
		}
		perplexities[made.After] = want
	}
}

// TestCutReportsItsRefit cuts with KV groups, a granularity and ADMM, and looks at what is reported of it.
func TestCutReportsItsRefit(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	yes := true
	mon := &quiet{}
	made, err := m.Cut(t.Context(), explorer.Cut{
		Preset: "obs", Target: 0.6, Attention: &yes, Granularity: 8, Calibration: explorer.Calibration{Windows: 4, Seq: 64},
		Reform: explorer.ReformOptions{Method: "admm"},
	}, mon)
	if err != nil {
		t.Fatal(err)
	}
	me := made.Method
	if me.Reform != "admm" || me.Rho != 1 || me.Steps != 30 || me.Pull || me.Lambda == nil || *me.Lambda != 0 || me.FitTarget != "local" || !me.Attention || me.Granularity != 8 {
		t.Errorf("method %+v", me)
	}
	if got, dense := made.Subnet.Masks.Size().KVBytesPerToken, subnet.Dense(m.geometry()).Size().KVBytesPerToken; got >= dense {
		t.Errorf("%d KV bytes per token, dense has %d", got, dense)
	}
	if len(mon.layers) != 6 {
		t.Fatalf("%d blocks reported", len(mon.layers))
	}
	for _, l := range mon.layers {
		if l.Kept == l.Of {
			continue
		}
		if len(l.Curve) != 30 || l.Ridge != 0 || l.ErrAfter > l.ErrBefore {
			t.Errorf("layer %d %s: curve of %d, ridge %g, error %g to %g", l.Layer, l.Module, len(l.Curve), l.Ridge, l.ErrBefore, l.ErrAfter)
		} else if last := l.Curve[29]; last > l.Curve[0] || last > l.ErrAfter*1.01 {
			t.Errorf("layer %d %s: curve from %g to %g, error %g", l.Layer, l.Module, l.Curve[0], last, l.ErrAfter)
		}
	}
	// The ridge that is chosen for each block is reported.
	mon = &quiet{}
	if _, err := m.Cut(t.Context(), explorer.Cut{Target: 0.7, Granularity: 8, Calibration: explorer.Calibration{Windows: 4, Seq: 64}}, mon); err != nil {
		t.Fatal(err)
	}
	for _, l := range mon.layers {
		if l.Module == "mlp" && (!slices.Contains([]float64{0.01, 0.03, 0.1, 0.3}, l.Ridge) || l.HeldOut <= 0) {
			t.Errorf("layer %d: ridge %g, held-out error %g", l.Layer, l.Ridge, l.HeldOut)
		}
	}
	// Targets and the pull change the weights.
	fits := map[string][]float32{}
	for _, target := range explorer.FitTargets() {
		refit, err := m.Refit(t.Context(), made.Subnet.Masks, explorer.Refit{
			Preset: "obs", Calibration: explorer.Calibration{Windows: 4, Seq: 64}, Reform: explorer.ReformOptions{Target: target, Pull: &yes},
		}, &quiet{})
		if err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		if refit.Method.FitTarget != target || !refit.Method.Pull {
			t.Errorf("%s: method %+v", target, refit.Method)
		}
		fits[target] = refit.Subnet.Refit[2].WD
	}
	if slices.Equal(fits["local"], fits["dense"]) || slices.Equal(fits["local"], fits["residual"]) || slices.Equal(fits["dense"], fits["residual"]) {
		t.Error("targets do not change the weights")
	}
}

// TestSearchSettingsOfTheRefit checks that a search takes the granularity and the settings of its last re-fit.
func TestSearchSettingsOfTheRefit(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	lambda := 0.2
	for _, strategy := range []string{"", "paper-laptop"} {
		r := asked(strategy, 12)
		r.Granularity, r.Reform = 16, explorer.ReformOptions{Method: "exact", Target: "dense", Lambda: &lambda}
		found, err := m.Search(t.Context(), r, t.TempDir(), &recorder{}, &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		if me := found.Method; me.Reform != "exact" || me.FitTarget != "dense" || *me.Lambda != 0.2 || me.Granularity != 16 {
			t.Errorf("%q: method %+v", strategy, me)
		}
		for i := range m.geometry().Layers {
			if n := found.Subnet.Masks.Layer(i).Channels.Len(); n%16 != 0 {
				t.Errorf("%q: layer %d keeps %d channels", strategy, i, n)
			}
		}
	}
	r := asked("", 12)
	r.Reform = explorer.ReformOptions{Rho: 3}
	if _, err := m.Search(t.Context(), r, t.TempDir(), &recorder{}, &quiet{}); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("rho without ADMM: %v", err)
	}
	r = asked("", 12)
	r.Granularity = 7
	if _, err := m.Search(t.Context(), r, t.TempDir(), &recorder{}, &quiet{}); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("granularity 7: %v", err)
	}
}

// TestGranularityOfKQuants checks that widths which are multiples of 256 keep the matrices of MLPs in a K-quant type, and that others
// do not.
func TestGranularityOfKQuants(t *testing.T) {
	b := newEngine(t)
	wide := gguftest.Tiny("llama")
	wide.Hidden, wide.HeadDim = 256, 64
	for i := range wide.Layers {
		wide.Layers[i].FFN = 768
	}
	m := open(t, b, wide)
	for granularity, whole := range map[int]bool{256: true, 32: false} {
		made, err := m.Cut(t.Context(), explorer.Cut{Preset: "random", Target: 0.8, Granularity: granularity, Seed: 1, Calibration: explorer.Calibration{Windows: 2, Seq: 32}}, &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Write(t.Context(), made.Subnet, filepath.Join(t.TempDir(), "x.gguf"), "Q4_K", &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		other := slices.ContainsFunc(r.Fallbacks, func(f gguf.Fallback) bool { return strings.Contains(f.Tensor, "ffn_down") })
		if other == whole {
			t.Errorf("granularity %d: ffn_down in another type: %v", granularity, other)
		}
	}
}
