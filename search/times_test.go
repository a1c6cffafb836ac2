package search_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// A machine whose time of a token is the sum over the modules, of a constant and a time for each unit in the file, is predicted exactly from
// the few cuts that are measured, up to 3 % where the time of a unit depends on the width.
func TestTimes(t *testing.T) {
	g := &subnet.Geometry{Arch: "llama", Hidden: 64, Vocab: 256, HeadDim: 16, Tied: true}
	for i := range 8 {
		g.Layers = append(g.Layers, subnet.LayerGeometry{Heads: 9, KVHeads: 3, FFN: 1536 - 256*(i%2)})
	}
	for _, curve := range []float64{0, 0.1} {
		seconds := func(m subnet.Masks) float64 {
			sum := 2e-3
			for _, l := range m.Cut().Layers {
				lg := g.Layers[l.Source]
				width := float64(len(l.Channels)) / float64(lg.FFN)
				sum += float64(lg.FFN) * 1e-6 * (width + curve*width*(1-width))
				sum += float64(len(l.Heads)+len(l.Groups)) * 2e-5
			}
			return sum
		}
		drift := 1.0
		measured := 0
		times, err := search.MeasureTimes(t.Context(), g, func(_ context.Context, m subnet.Masks) (cut, dense float64, err error) {
			measured++
			drift *= 1.1 // the machine becomes slower while it measures: only the ratio to the dense model counts
			return drift * seconds(m), drift * seconds(subnet.Dense(g)), nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if measured > 8 || !times.Valid() {
			t.Errorf("%d cuts were measured: %+v", measured, times)
		}
		scale := times.Dense / seconds(subnet.Dense(g))
		if scale > 1.11 {
			t.Errorf("the dense model takes %v × what it took in the fastest run", scale)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		for range 200 {
			m := subnet.Dense(g)
			for i := range g.Layers {
				l := m.Layer(i)
				l.Channels = subnet.Range(l.Channels.N(), 0, 32*(1+rng.IntN(l.Channels.N()/32)))
				l.Heads = subnet.Range(9, 0, 3*rng.IntN(4))
				m = m.With(i, l)
			}
			got, want := times.Seconds(m), scale*seconds(m)
			if d := math.Abs(got/want - 1); d > 0.03 || curve == 0 && d > 0.01 {
				t.Errorf("curve %v: %v seconds, predicted %v", curve, want, got)
			}
		}
	}
	rng := rand.New(rand.NewPCG(2, 2))
	if _, err := search.MeasureTimes(t.Context(), g, func(context.Context, subnet.Masks) (cut, dense float64, err error) {
		return 0.01 * (1 + 2*rng.Float64()), 0.01 * (1 + 2*rng.Float64()), nil // of a machine that does much else
	}, nil); !errors.Is(err, search.ErrTimes) {
		t.Errorf("times without order: %v", err)
	}
	failure := errors.New("the engine crashed")
	if _, err := search.MeasureTimes(t.Context(), g, func(context.Context, subnet.Masks) (cut, dense float64, err error) { return 0, 0, failure }, nil); !errors.Is(err, failure) {
		t.Errorf("a bench that fails: %v", err)
	}
	if _, err := search.MeasureTimes(t.Context(), g, func(context.Context, subnet.Masks) (cut, dense float64, err error) { return math.NaN(), 1, nil }, nil); err == nil {
		t.Error("a time that is no number is taken")
	}
}

func TestInvalidTimes(t *testing.T) {
	for name, times := range map[string]search.Times{
		"none":       {},
		"infinite":   {Dense: math.Inf(1)},
		"a share":    {Dense: 1, MLP: []search.TimePoint{{1.2, 0.5}}},
		"rising":     {Dense: 1, MLP: []search.TimePoint{{0.2, 0.5}, {0.4, 0.6}}},
		"a negative": {Dense: 1, Attention: []search.TimePoint{{0.2, -0.5}}},
	} {
		if times.Valid() {
			t.Errorf("%s: valid", name)
		}
	}
}
