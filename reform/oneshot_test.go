package reform_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/importance"
)

// tiny loads a random model on the Go backend.
func tiny(t *testing.T, recipe gguftest.Model) *decoder.Model {
	t.Helper()
	be, err := decoder.OpenBackend("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	m, err := decoder.Load(t.Context(), be, gguftest.Open(t, recipe))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// texts returns windows of random tokens that repeat themselves, so that there is something to learn.
func texts(seed uint64, count, tokens, vocab int) [][]int32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([][]int32, count)
	for i := range out {
		for t := range tokens {
			id := int32(rng.IntN(vocab))
			if t >= 7 && rng.IntN(2) == 0 {
				id = out[i][t-7]
			}
			out[i] = append(out[i], id)
		}
	}
	return out
}

func TestPresets(t *testing.T) {
	for _, arch := range []string{"llama", "opt"} {
		t.Run(arch, func(t *testing.T) { testPresets(t, tiny(t, gguftest.Tiny(arch))) })
	}
}

func testPresets(t *testing.T, m *decoder.Model) {
	g := m.Geometry()
	windows := texts(1, 4, 64, g.Vocab)
	for _, preset := range reform.Presets() {
		t.Run(string(preset), func(t *testing.T) {
			events := map[reform.Phase][2]int{}
			const ratio = 0.66
			s, r, err := reform.OneShot(t.Context(), m, windows, ratio, reform.Config{
				Preset: preset, Granularity: 8, Progress: func(e reform.Event) { events[e.Phase] = [2]int{e.Done, e.Total} },
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Masks.Validate(); err != nil {
				t.Fatal(err)
			}
			if got := s.Masks.Size().Ratio; got > ratio || got < ratio-0.34 || got != r.Ratio {
				t.Errorf("ratio %.3f, reported %.3f, want at most %g and not far under it", got, r.Ratio, ratio)
			}
			if preset != reform.Depth && r.Ratio < ratio-0.01 {
				t.Errorf("ratio %.3f, want nearly %g", r.Ratio, ratio)
			}
			for phase, e := range events {
				if e[0] != e[1] {
					t.Errorf("phase %s ended at %d of %d", phase, e[0], e[1])
				}
			}
			sub, err := m.Subnet(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			score, err := m.Score(t.Context(), sub, windows[:1])
			if err != nil {
				t.Fatal(err)
			}
			if p := score.Perplexity(); math.IsNaN(p) || p < 1 {
				t.Errorf("perplexity %g", p)
			}
		})
	}
}

// meanSquare is how far the hidden states of a subnet end from the dense model's, over the size of those.
func meanSquare(t *testing.T, m *decoder.Model, s gguf.Subnet, windows [][]int32) float64 {
	t.Helper()
	ctx := t.Context()
	end := func(sub *decoder.Subnet) []float32 {
		defer sub.Close()
		st, err := m.NewStates(ctx, windows)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		for i := range m.Geometry().Layers {
			if err := m.Advance(ctx, i, sub, st); err != nil {
				t.Fatal(err)
			}
		}
		var all []float32
		for i := range windows {
			h, err := st.Hidden(i)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, h...)
		}
		return all
	}
	sub, err := m.Subnet(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	got, want := end(sub), end(m.Dense())
	var d, e float64
	for i := range want {
		d += math.Pow(float64(got[i]-want[i]), 2)
		e += math.Pow(float64(want[i]), 2)
	}
	return d / e
}

// meanState is the mean over tokens of the state after the first layer.
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

// families runs a test with a model of each of the named ones.
func families(t *testing.T, names []string, f func(t *testing.T, name string, m *decoder.Model)) {
	for _, family := range gguftest.Families() {
		if slices.Contains(names, family.Name) {
			t.Run(family.Name, func(t *testing.T) { f(t, family.Name, tiny(t, family.Model)) })
		}
	}
}

func TestRefitBringsStatesBack(t *testing.T) {
	// Attention with and without groups, biases, unequal layers, no gates.
	families(t, []string{"llama mha", "llama biases", "deci", "openelm", "opt uneven"}, func(t *testing.T, _ string, m *decoder.Model) {
		g := m.Geometry()
		// On the text itself: channels of a random model say nothing about each other on other text.
		windows := texts(2, 4, 64, g.Vocab)
		s, _, err := reform.OneShot(t.Context(), m, windows, 0.7, reform.Config{Preset: reform.Random, Granularity: 8, Seed: 3})
		if err != nil {
			t.Fatal(err)
		}
		none := meanSquare(t, m, s, windows)
		for name, recipe := range map[string]reform.Recipe{
			"exact":        {},
			"pulled":       {Solve: reform.Options{Pull: true, Lambdas: []float64{0.01, 0.1}}},
			"admm":         {Solve: reform.Options{Method: reform.ADMM}},
			"bias":         {Solve: reform.Options{Bias: true}},
			"relative":     {Relative: true, Solve: reform.Options{Pull: true}},
			"dense state":  {Goal: reform.DenseState, Share: 0.5, Relative: true, Solve: reform.Options{Pull: true}},
			"all state":    {Goal: reform.DenseState, Solve: reform.Options{Pull: true}},
			"dense output": {Goal: reform.DenseOutput, Solve: reform.Options{Pull: true}},
		} {
			fit, report, err := reform.Refit(t.Context(), m, windows, s.Masks, reform.Config{Recipe: &recipe})
			if err != nil {
				t.Fatal(err)
			}
			if got := meanSquare(t, m, fit, windows); got >= none {
				t.Errorf("%s: states are %.4f away, without repair %.4f", name, got, none)
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

// Attention that nothing is dropped from makes up for what was dropped before it, and only for that.
func TestRefitOfWholeBlocks(t *testing.T) {
	families(t, []string{"llama", "deci", "opt uneven", "gemma2"}, func(t *testing.T, name string, m *decoder.Model) {
		g := m.Geometry()
		windows := texts(2, 4, 64, g.Vocab)
		masks := subnet.Dense(g)
		const cut = 0
		l := masks.Layer(cut)
		l.Channels = subnet.Range(g.Layers[cut].FFN, 0, g.Layers[cut].FFN/2)
		masks = masks.With(cut, l)
		if last := len(g.Layers) - 1; name == "llama" {
			masks = masks.With(last, subnet.Layer{Heads: subnet.Empty(g.Layers[last].Heads), Channels: subnet.Empty(g.Layers[last].FFN)})
		}
		recipe := reform.Recipe{Goal: reform.DenseState, Relative: true, Solve: reform.Options{Pull: true}}
		states := make(map[bool]float64)
		for _, recipe.Whole = range []bool{false, true} {
			fit, _, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{Recipe: &recipe})
			if err != nil {
				t.Fatal(err)
			}
			states[recipe.Whole] = meanSquare(t, m, fit, windows)
			// What has a bias says no more than the original does, and a block whose output is normed cannot say all.
			able := !m.Config().PostNorms && m.Config().Arch != "opt"
			for i, r := range fit.Refit {
				if want := recipe.Whole && able && i > cut && !masks.Layer(i).Heads.IsEmpty(); (len(r.WO) > 0) != want {
					t.Errorf("whole %t: layer %d has a W_O of %d numbers", recipe.Whole, i, len(r.WO))
				}
			}
			if !able {
				return
			}
		}
		if states[true] >= states[false] {
			t.Errorf("states are %g away, without whole blocks %g", states[true], states[false])
		}
	})
}

func TestSurvey(t *testing.T) {
	m := tiny(t, gguftest.Tiny("llama"))
	g := m.Geometry()
	methods := []importance.Method{importance.Phi, importance.OBS, importance.FLAP, importance.Wanda, importance.Leverage, importance.Taylor}
	s, err := reform.NewSurvey(t.Context(), m, texts(4, 3, 80, g.Vocab), methods, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.Tokens != 240 || len(s.Layers) != len(g.Layers) {
		t.Fatalf("%d tokens, %d layers", s.Tokens, len(s.Layers))
	}
	for i, l := range s.Layers {
		if l.Cosine <= 0 || l.Cosine > 1 {
			t.Errorf("layer %d: cosine %g", i, l.Cosine)
		}
		for _, method := range methods {
			if got := len(l.MLP.Rankings[method].Order); got != g.Layers[i].FFN {
				t.Errorf("layer %d: %s ranks %d channels", i, method, got)
			}
			if got := len(l.Attention.Rankings[method].Order); got != g.Layers[i].KVHeads {
				t.Errorf("layer %d: %s ranks %d groups", i, method, got)
			}
		}
	}
}

func TestOneShotRefuses(t *testing.T) {
	m := tiny(t, gguftest.Tiny("llama"))
	windows := texts(5, 2, 32, m.Geometry().Vocab)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name    string
		ctx     context.Context
		windows [][]int32
		ratio   float64
		c       reform.Config
		want    error
	}{
		{"ratio over 1", t.Context(), windows, 1.5, reform.Config{}, reform.ErrRatio},
		{"ratio 0", t.Context(), windows, 0, reform.Config{}, reform.ErrRatio},
		{"NaN", t.Context(), windows, math.NaN(), reform.Config{}, reform.ErrRatio},
		{"ratio out of reach", t.Context(), windows, 0.1, reform.Config{Preset: reform.OBS}, reform.ErrRatio},
		{"preset", t.Context(), windows, 0.8, reform.Config{Preset: "magic"}, reform.ErrPreset},
		{"no text", t.Context(), nil, 0.8, reform.Config{}, reform.ErrText},
		{"one token", t.Context(), [][]int32{{1}}, 0.8, reform.Config{}, reform.ErrText},
		{"canceled", canceled, windows, 0.8, reform.Config{Preset: reform.OBS}, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := reform.OneShot(tt.ctx, m, tt.windows, tt.ratio, tt.c); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestRefitRefusesMasksOfAnotherModel(t *testing.T) {
	m := tiny(t, gguftest.Tiny("llama"))
	g := *m.Geometry()
	g.Layers = slices.Clone(g.Layers)
	g.Layers[1].FFN += 32
	_, _, err := reform.Refit(t.Context(), m, texts(5, 2, 32, g.Vocab), subnet.Dense(&g), reform.Config{})
	if !errors.Is(err, decoder.ErrGeometry) {
		t.Errorf("error %v, want %v", err, decoder.ErrGeometry)
	}
}

// A ridge that is too small for so little text is raised, and the report says so of every layer.
func TestFewTokensAreReported(t *testing.T) {
	m := tiny(t, gguftest.Tiny("llama"))
	windows := texts(5, 2, 32, m.Geometry().Vocab)
	recipe := reform.Recipe{Method: importance.OBS, Sequential: true, Solve: reform.Options{Lambdas: []float64{1e-3}}}
	_, r, err := reform.OneShot(t.Context(), m, windows, 0.7, reform.Config{Recipe: &recipe, Granularity: 8})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Warnings) != 3 || !strings.HasPrefix(r.Warnings[0], "layer 0 mlp: 64 tokens are few for ") {
		t.Errorf("warnings %q", r.Warnings)
	}
	for _, mr := range r.Modules {
		if mr.Module == "mlp" && mr.Lambda != 0.1 {
			t.Errorf("layer %d: ridge %g", mr.Layer, mr.Lambda)
		}
	}
}

func TestUncutIsDense(t *testing.T) {
	m := tiny(t, gguftest.Tiny("llama"))
	windows := texts(6, 2, 32, m.Geometry().Vocab)
	s, r, err := reform.OneShot(t.Context(), m, windows, 1, reform.Config{Preset: reform.OBS})
	if err != nil {
		t.Fatal(err)
	}
	if r.Ratio != 1 {
		t.Errorf("ratio %g", r.Ratio)
	}
	if d := meanSquare(t, m, s, windows); d > 1e-10 {
		t.Errorf("states are %g away from the dense model's", d)
	}
}

// Units chosen anew for the widths of a subnet are those that a cut to these widths would have kept.
func TestRefitRechoosesUnits(t *testing.T) {
	for _, attention := range []bool{false, true} {
		m := tiny(t, gguftest.Tiny("llama"))
		windows := texts(4, 4, 64, m.Geometry().Vocab)
		recipe, err := reform.OBS.Recipe()
		if err != nil {
			t.Fatal(err)
		}
		recipe.Attention = attention
		chance := reform.Recipe{Attention: attention, Solve: reform.Options{Method: reform.None}}
		cut := func(r reform.Recipe) gguf.Subnet {
			s, _, err := reform.OneShot(t.Context(), m, windows, 0.7, reform.Config{Recipe: &r, Granularity: 8, Seed: 5})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		want, drawn := cut(recipe), cut(chance)
		got, _, err := reform.Refit(t.Context(), m, windows, drawn.Masks, reform.Config{Recipe: &recipe, Rechoose: true})
		if err != nil {
			t.Fatal(err)
		}
		if drawn.Masks.Equal(want.Masks) || !got.Masks.Equal(want.Masks) {
			t.Errorf("attention %v: chosen anew:\n%v\ncut:\n%v", attention, subnet.Diff(drawn.Masks, got.Masks), subnet.Diff(drawn.Masks, want.Masks))
		}
		if !reflect.DeepEqual(got.Refit, want.Refit) {
			t.Errorf("attention %v: other weights than those of the cut", attention)
		}
	}
}
