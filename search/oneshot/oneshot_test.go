package oneshot_test

import (
	"context"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/importance"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

func TestPresets(t *testing.T) {
	for _, arch := range []string{"llama", "opt"} {
		t.Run(arch, func(t *testing.T) { testPresets(t, decodertest.Load(t, gguftest.Tiny(arch))) })
	}
}

func testPresets(t *testing.T, m *decoder.Model) {
	g := m.Geometry()
	windows := decodertest.Windows(1, 4, 64, g.Vocab)
	for _, p := range preset.All() {
		t.Run(string(p), func(t *testing.T) {
			events := map[oneshot.Phase][2]int{}
			const ratio = 0.66
			s, r, err := oneshot.OneShot(t.Context(), m, windows, ratio, oneshot.Config{
				Preset: p, Granularity: 8, Progress: func(e oneshot.Event) { events[e.Phase] = [2]int{e.Done, e.Total} },
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Masks.Validate(); err != nil {
				t.Fatal(err)
			}
			if got := s.Masks.Size().Ratio; got > ratio || got < ratio-0.34 || got != r.Ratio {
				t.Errorf("ratio %.3f, reported %.3f, want at most %g and not much less", got, r.Ratio, ratio)
			}
			if !preset.DropsLayers(string(p)) && r.Ratio < ratio-0.01 {
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

func TestSurvey(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	g := m.Geometry()
	methods := []importance.Method{importance.Phi, importance.OBS, importance.FLAP, importance.Wanda, importance.Leverage, importance.Taylor}
	s, err := oneshot.NewSurvey(t.Context(), m, decodertest.Windows(4, 3, 80, g.Vocab), methods, nil)
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
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(5, 2, 32, m.Geometry().Vocab)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name    string
		ctx     context.Context
		windows [][]int32
		ratio   float64
		c       oneshot.Config
		want    error
	}{
		{"ratio over 1", t.Context(), windows, 1.5, oneshot.Config{}, oneshot.ErrRatio},
		{"ratio 0", t.Context(), windows, 0, oneshot.Config{}, oneshot.ErrRatio},
		{"NaN", t.Context(), windows, math.NaN(), oneshot.Config{}, oneshot.ErrRatio},
		{"ratio out of reach", t.Context(), windows, 0.1, oneshot.Config{Preset: preset.OBS}, oneshot.ErrRatio},
		{"preset", t.Context(), windows, 0.8, oneshot.Config{Preset: "magic"}, oneshot.ErrPreset},
		{"no text", t.Context(), nil, 0.8, oneshot.Config{}, reform.ErrText},
		{"one token", t.Context(), [][]int32{{1}}, 0.8, oneshot.Config{}, reform.ErrText},
		{"canceled", canceled, windows, 0.8, oneshot.Config{Preset: preset.OBS}, context.Canceled},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := oneshot.OneShot(tt.ctx, m, tt.windows, tt.ratio, tt.c)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if early := oneshot.Reach(m.Geometry(), tt.ratio, tt.c); errors.Is(tt.want, oneshot.ErrRatio) && (early == nil || err.Error() != "cut: "+early.Error()) {
				t.Errorf("without text: error %v, want %v", early, err)
			}
		})
	}
}

// A ridge that is too small for so little text is raised, which the report contains for every layer.
func TestFewTokensAreReported(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(5, 2, 32, m.Geometry().Vocab)
	recipe := oneshot.Recipe{Method: importance.OBS, Sequential: true, Refit: reform.Recipe{Solve: reform.Options{Lambdas: []float64{1e-3}}}}
	_, r, err := oneshot.OneShot(t.Context(), m, windows, 0.7, oneshot.Config{Recipe: &recipe, Granularity: 8})
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
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(6, 2, 32, m.Geometry().Vocab)
	s, r, err := oneshot.OneShot(t.Context(), m, windows, 1, oneshot.Config{Preset: preset.OBS})
	if err != nil {
		t.Fatal(err)
	}
	if r.Ratio != 1 {
		t.Errorf("ratio %g", r.Ratio)
	}
	if d := decodertest.Distance(t, m, s, windows); d > 1e-10 {
		t.Errorf("states differ by %g from the dense model's", d)
	}
}

// Units chosen again for the widths of a subnet are those that a cut to these widths keeps.
func TestRefitRechoosesUnits(t *testing.T) {
	for _, attention := range []bool{false, true} {
		m := decodertest.Load(t, gguftest.Tiny("llama"))
		windows := decodertest.Windows(4, 4, 64, m.Geometry().Vocab)
		recipe, err := oneshot.RecipeOf(preset.OBS)
		if err != nil {
			t.Fatal(err)
		}
		recipe.Attention = attention
		random := oneshot.Recipe{Attention: attention, Refit: reform.Recipe{Solve: reform.Options{Method: reform.None}}}
		cut := func(r oneshot.Recipe) gguf.Subnet {
			s, _, err := oneshot.OneShot(t.Context(), m, windows, 0.7, oneshot.Config{Recipe: &r, Granularity: 8, Seed: 5})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		want, drawn := cut(recipe), cut(random)
		got, _, err := oneshot.Refit(t.Context(), m, windows, drawn.Masks, oneshot.Config{Recipe: &recipe, Rechoose: true})
		if err != nil {
			t.Fatal(err)
		}
		if drawn.Masks.Equal(want.Masks) || !got.Masks.Equal(want.Masks) {
			t.Errorf("attention %v: chosen again:\n%v\ncut:\n%v", attention, subnet.Diff(drawn.Masks, got.Masks), subnet.Diff(drawn.Masks, want.Masks))
		}
		if !reflect.DeepEqual(got.Refit, want.Refit) {
			t.Errorf("attention %v: other weights than those of the cut", attention)
		}
	}
}

func TestSequentialChoiceByPhi(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(11, 2, 48, m.Geometry().Vocab)
	_, r, err := oneshot.OneShot(t.Context(), m, windows, 0.7, oneshot.Config{
		Granularity: 8, Recipe: &oneshot.Recipe{Method: importance.Phi, Sequential: true, Attention: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Ratio > 0.7 || r.Ratio < 0.69 {
		t.Errorf("ratio %g", r.Ratio)
	}
}

// A ratio that MLP channels alone do not reach is reached with KV groups; without them it is refused.
func TestAttentionReachesSmallRatios(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	g := m.Geometry()
	windows := decodertest.Windows(4, 2, 48, g.Vocab)
	no, yes := false, true
	dense := subnet.Dense(g).Size().KVBytesPerToken
	for _, p := range []preset.Preset{preset.Allocated, preset.OBS, preset.FLAPGlobal, preset.Taylor, preset.Random} {
		const ratio = 0.35
		_, _, err := oneshot.OneShot(t.Context(), m, windows, ratio, oneshot.Config{Preset: p, Granularity: 8, Attention: &no})
		if !errors.Is(err, oneshot.ErrRatio) {
			t.Errorf("%s without KV groups: error %v", p, err)
		}
		for attention, want := range map[*bool]bool{&no: false, &yes: true, nil: true} {
			if err := oneshot.Reach(g, ratio, oneshot.Config{Preset: p, Granularity: 8, Attention: attention}); (err == nil) != want {
				t.Errorf("%s can be cut: %v, want %v", p, err, want)
			}
		}
		s, r, err := oneshot.OneShot(t.Context(), m, windows, ratio, oneshot.Config{Preset: p, Granularity: 8})
		if err != nil {
			t.Errorf("%s: %v", p, err)
			continue
		}
		size := s.Masks.Size()
		if size.Ratio > ratio || size.Ratio < ratio-0.08 || size.KVBytesPerToken >= dense || !r.Attention {
			t.Errorf("%s: ratio %.3f, %d of %d KV bytes per token, attention %v", p, size.Ratio, size.KVBytesPerToken, dense, r.Attention)
		}
		if warned := len(r.Warnings) > 0 && strings.Contains(r.Warnings[0], "KV groups are dropped too"); !warned {
			t.Errorf("%s: warnings %q", p, r.Warnings)
		}
		if s, _, err = oneshot.OneShot(t.Context(), m, windows, 0.6, oneshot.Config{Preset: p, Granularity: 8, Attention: &yes}); err != nil {
			t.Errorf("%s with KV groups: %v", p, err)
		} else if size := s.Masks.Size(); p != preset.FLAPGlobal && p != preset.Allocated && size.KVBytesPerToken >= dense {
			t.Errorf("%s: no KV group is dropped", p)
		}
	}
}

func TestGranularity(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	g := m.Geometry()
	windows := decodertest.Windows(4, 2, 48, g.Vocab)
	s, r, err := oneshot.OneShot(t.Context(), m, windows, 0.7, oneshot.Config{Preset: preset.Allocated, Granularity: 16})
	if err != nil {
		t.Fatal(err)
	}
	for i := range g.Layers {
		if n := s.Masks.Layer(i).Channels.Len(); n%16 != 0 {
			t.Errorf("layer %d keeps %d channels", i, n)
		}
	}
	if r.Granularity != 16 {
		t.Errorf("granularity %d reported", r.Granularity)
	}
	for n, want := range map[int]string{7: "does not divide", g.Layers[0].FFN: "too large", 1 << 20: "too large", -1: "not in [1,"} {
		_, _, err := oneshot.OneShot(t.Context(), m, windows, 0.7, oneshot.Config{Preset: preset.OBS, Granularity: n})
		if !errors.Is(err, subnet.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("granularity %d: error %v", n, err)
		}
	}
}

// The preset cosine drops the layers with the largest cosine that a survey of the first window finds.
func TestCosineDropsSimilarLayers(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(4, 2, 48, m.Geometry().Vocab)
	s, _, err := oneshot.OneShot(t.Context(), m, windows, 0.7, oneshot.Config{Preset: preset.Cosine})
	if err != nil {
		t.Fatal(err)
	}
	survey, err := oneshot.NewSurvey(t.Context(), m, windows[:1], []importance.Method{importance.Magnitude}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range survey.Layers {
		for j := range survey.Layers {
			if s.Masks.Layer(i).IsDropped() && !s.Masks.Layer(j).IsDropped() && survey.Layers[i].Cosine < survey.Layers[j].Cosine {
				t.Errorf("layer %d with cosine %g is dropped, layer %d with %g kept", i, survey.Layers[i].Cosine, j, survey.Layers[j].Cosine)
			}
		}
	}
}
