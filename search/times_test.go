package search_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
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
		times, err := search.MeasureTimes(t.Context(), g, func(_ context.Context, m subnet.Masks) ([]float64, error) {
			measured++
			drift *= 1.0005 // the machine becomes slower while it measures
			return []float64{1.2 * drift * seconds(m), drift * seconds(m)}, nil
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if measured > 8*8 || !times.Valid() {
			t.Errorf("%d runs: %+v", measured, times)
		}
		scale := times.Dense / seconds(subnet.Dense(g))
		if scale > 1.01 {
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
	failure := errors.New("the engine crashed")
	if _, err := search.MeasureTimes(t.Context(), g, func(context.Context, subnet.Masks) ([]float64, error) { return nil, failure }, nil); !errors.Is(err, failure) {
		t.Errorf("a run that fails: %v", err)
	}
	for _, seconds := range [][]float64{{}, {0.1, math.NaN()}, {0}, {math.Inf(1), 0.1}} {
		if _, err := search.MeasureTimes(t.Context(), g, func(context.Context, subnet.Masks) ([]float64, error) { return seconds, nil }, nil); err == nil {
			t.Errorf("times %v are taken", seconds)
		}
	}
}

// noisyMachine generates tokens like a real machine: at most as fast as seconds has it, a percent or two slower in each run, more so in bursts of other work, and slower the longer it runs.
type noisyMachine struct {
	rng     *rand.Rand
	seconds func(subnet.Masks) float64
	noise   float64 // mean slowdown of a run
	bursts  float64 // how likely other work starts before a run
	burst   int     // runs that it goes on for
	shared  float64 // how much slower the host of a virtual machine makes a run in the mean
	runs    int
}

func (n *noisyMachine) run(_ context.Context, m subnet.Masks) ([]float64, error) {
	n.runs++
	if n.burst == 0 && n.rng.Float64() < n.bursts {
		n.burst = 1 + n.rng.IntN(6)
	}
	other := 1.0
	if n.burst > 0 {
		n.burst--
		other = 1.3 + n.rng.Float64()
	}
	times := make([]float64, 6)
	for i := range times {
		times[i] = n.seconds(m) * other * (1 + n.noise*n.rng.ExpFloat64() + n.shared*n.rng.ExpFloat64() + 1e-5*float64(n.runs))
	}
	return times, nil
}

// Times of a machine with known noise are within 3 % of the true ones, and never refused on a quiet one. Where cuts hardly differ, as those
// of attention, noise changes their order.
func TestNoisyTimes(t *testing.T) {
	g := &subnet.Geometry{Arch: "llama", Hidden: 64, Vocab: 256, HeadDim: 16, Tied: true}
	for range 8 {
		g.Layers = append(g.Layers, subnet.LayerGeometry{Heads: 9, KVHeads: 3, FFN: 1536})
	}
	seconds := func(m subnet.Masks) float64 {
		sum := 2e-3
		for _, l := range m.Cut().Layers {
			sum += 1e-6*float64(len(l.Channels)) + 1e-6*float64(len(l.Heads)+len(l.Groups))
		}
		return sum
	}
	for name, c := range map[string]struct {
		machine noisyMachine
		refused int // of 20 measurements, at most
	}{
		"quiet":        {noisyMachine{noise: 0.005, bursts: 0.01}, 0},
		"noisy":        {noisyMachine{noise: 0.03, bursts: 0.02}, 0},
		"bursts":       {noisyMachine{noise: 0.01, bursts: 0.1}, 0},
		"shared host":  {noisyMachine{noise: 0.005, shared: 0.4, bursts: 0.05}, 2},
		"much is done": {noisyMachine{noise: 0.02, bursts: 0.25}, 2},
	} {
		refused, changed, worst := 0, 0, 0.0
		for seed := range uint64(20) {
			n := c.machine
			n.rng, n.seconds = rand.New(rand.NewPCG(seed, 7)), seconds
			times, err := search.MeasureTimes(t.Context(), g, n.run, nil)
			if errors.Is(err, search.ErrTimes) {
				refused++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			last := times.Dense
			for _, p := range times.Attention {
				if p.Seconds > last {
					t.Fatalf("%s: times rise: %+v", name, times)
				}
				if p.Seconds == last {
					changed++
				}
				last = p.Seconds
			}
			if times.Spread <= 0 || times.Spread > 0.1 {
				t.Errorf("%s: a spread of %v", name, times.Spread)
			}
			for i := range 20 {
				m := subnet.Dense(g)
				for j := range g.Layers {
					l := m.Layer(j)
					l.Channels = subnet.Range(1536, 0, 64*(i+4))
					m = m.With(j, l)
				}
				worst = max(worst, math.Abs(times.Seconds(m)/seconds(m)-1))
			}
		}
		t.Logf("%s: %d of 20 refused, worst error %.1f %%, %d times made equal", name, refused, 100*worst, changed)
		if refused > c.refused || worst > 0.03 && c.refused == 0 || worst > 0.06 {
			t.Errorf("%s: %d of 20 refused, worst error %.1f %%", name, refused, 100*worst)
		}
		if name == "noisy" && changed == 0 {
			t.Error("noise never changed the order of times")
		}
	}
}

// Noise that ends costs more rounds; a machine on which narrower cuts are slower, or that does much else all the time, is refused after all of them.
func TestUnreliableTimes(t *testing.T) {
	g := &subnet.Geometry{Arch: "llama", Hidden: 64, Vocab: 256, HeadDim: 16, Tied: true}
	for range 4 {
		g.Layers = append(g.Layers, subnet.LayerGeometry{Heads: 4, KVHeads: 2, FFN: 1024})
	}
	quiet := func(m subnet.Masks) float64 { return 1e-3 + 1e-8*float64(m.BlockParams()) }
	rng := rand.New(rand.NewPCG(2, 2))
	for name, c := range map[string]struct {
		seconds func(run int, m subnet.Masks) float64
		why     string // of a refusal; "" for none
	}{
		"a short disturbance": {func(run int, m subnet.Masks) float64 {
			if run < 96 {
				return quiet(m) * (1 + 2*rng.Float64())
			}
			return quiet(m)
		}, ""},
		"other work":         {func(_ int, m subnet.Masks) float64 { return quiet(m) * (1 + 4*rng.Float64()) }, "differ by"},
		"narrower is slower": {func(_ int, m subnet.Masks) float64 { return 1e-1 - 1e-8*float64(m.BlockParams()) }, "longer than"},
	} {
		runs, last := 0, 0
		times, err := search.MeasureTimes(t.Context(), g, func(_ context.Context, m subnet.Masks) ([]float64, error) {
			runs++
			return []float64{c.seconds(runs, m)}, nil
		}, func(round, _ int) { last = round + 1 })
		if c.why == "" && (err != nil || last < 20 || last == 64) || c.why != "" && (!errors.Is(err, search.ErrTimes) || !strings.Contains(err.Error(), c.why) || last != 64) {
			t.Errorf("%s: %v after %d rounds", name, err, last)
		}
		if c.why == "" && math.Abs(times.Dense/quiet(subnet.Dense(g))-1) > 1e-9 {
			t.Errorf("%s: %+v", name, times)
		}
	}
}

func TestInvalidTimes(t *testing.T) {
	for name, times := range map[string]search.Times{
		"none":       {},
		"infinite":   {Dense: math.Inf(1)},
		"a share":    {Dense: 1, MLP: []search.TimePoint{{Kept: 1.2, Seconds: 0.5}}},
		"rising":     {Dense: 1, MLP: []search.TimePoint{{Kept: 0.2, Seconds: 0.5}, {Kept: 0.4, Seconds: 0.6}}},
		"a negative": {Dense: 1, Attention: []search.TimePoint{{Kept: 0.2, Seconds: -0.5}}},
	} {
		if times.Valid() {
			t.Errorf("%s: valid", name)
		}
	}
}
