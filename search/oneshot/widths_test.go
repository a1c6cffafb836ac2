package oneshot

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

// smol is the shape of the default model.
func smol() *subnet.Geometry {
	return &subnet.Geometry{
		Arch: "llama", Hidden: 576, Vocab: 49152, HeadDim: 64, Tied: true,
		Layers: slices.Repeat([]subnet.LayerGeometry{{Heads: 9, KVHeads: 3, FFN: 1536}}, 30),
	}
}

func uneven() *subnet.Geometry {
	return &subnet.Geometry{Arch: "deci", Hidden: 64, Vocab: 320, HeadDim: 16, Layers: []subnet.LayerGeometry{
		{Heads: 2, KVHeads: 2, FFN: 96}, {FFN: 128}, {Heads: 4, KVHeads: 2, FFN: 50}, {Heads: 4, KVHeads: 1},
	}}
}

func TestUniformMeetsTheRatio(t *testing.T) {
	for name, g := range map[string]*subnet.Geometry{"default": smol(), "uneven": uneven()} {
		for _, attention := range []bool{false, true} {
			for _, ratio := range []float64{1, 0.9, 0.83, 0.8, 0.7, 0.6} {
				c, err := widths{g: g, ratio: ratio, step: 8, attention: attention}.uniform()
				if err != nil {
					t.Fatalf("%s %g: %v", name, ratio, err)
				}
				got := float64(c.params(g)) / float64(g.BlockParams())
				if got > ratio+1e-9 || got < ratio-8*3*float64(g.Hidden)/float64(g.BlockParams())-1e-9 && !attention {
					t.Errorf("%s: asked for %g, got %g", name, ratio, got)
				}
				least, most := g.Layers[0].FFN, 0
				for i, l := range g.Layers {
					if c.channels[i] > l.FFN || c.groups[i] > l.KVHeads || l.KVHeads > 0 && c.groups[i] < 1 {
						t.Errorf("%s: layer %d has %d channels and %d groups", name, i, c.channels[i], c.groups[i])
					}
					least, most = min(least, c.channels[i]), max(most, c.channels[i])
				}
				if name == "default" && most-least > 8 {
					t.Errorf("widths from %d to %d", least, most)
				}
			}
		}
	}
	for _, ratio := range []float64{0, -1, 1.1, math.NaN(), 0.1} {
		if _, err := (widths{g: smol(), ratio: ratio, step: 32}).uniform(); !errors.Is(err, ErrRatio) {
			t.Errorf("ratio %g: error %v", ratio, err)
		}
	}
}

// With convex costs the greedy allocation is optimal: no exchange of a step between two layers is better.
func TestAllocateGreedyIsOptimal(t *testing.T) {
	g := smol()
	weight := func(layer int) float64 { return 1 + float64(layer*layer%17) }
	loss := func(layer, keep int) float64 { return weight(layer) * math.Pow(float64(1536-keep), 2.5) }
	c, err := widths{g: g, ratio: 0.7, step: 32}.allocateGreedy(func(layer int, _ subnet.Module, have, keep int) float64 {
		return loss(layer, keep) - loss(layer, have)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := float64(c.params(g)) / float64(g.BlockParams()); got > 0.7 || got < 0.7-0.001 {
		t.Errorf("ratio %g", got)
	}
	for i := range g.Layers {
		for j := range g.Layers {
			if i == j || c.channels[i] == 1536 || c.channels[j] <= 32 {
				continue
			}
			before := loss(i, c.channels[i]) + loss(j, c.channels[j])
			if after := loss(i, c.channels[i]+32) + loss(j, c.channels[j]-32); after < before*(1-1e-12) {
				t.Errorf("a step from layer %d to layer %d would lower the loss", j, i)
			}
		}
	}
	if _, err := (widths{g: g, ratio: 0.2, step: 32}).allocateGreedy(func(int, subnet.Module, int, int) float64 { return 1 }); !errors.Is(err, ErrRatio) {
		t.Errorf("out of reach: error %v", err)
	}
	if _, err := (widths{g: g, ratio: 0.05, step: 32, attention: true}).allocateGreedy(func(int, subnet.Module, int, int) float64 { return 1 }); !errors.Is(err, ErrRatio) {
		t.Errorf("out of reach with a group left everywhere: error %v", err)
	}
	c, err = widths{g: g, ratio: 0.5, step: 32, attention: true}.allocateGreedy(func(int, subnet.Module, int, int) float64 { return 1 })
	if err != nil || slices.Max(c.groups) != 1 {
		t.Errorf("groups cost no more than a step of channels and are larger: kept %v, error %v", c.groups, err)
	}
	for name, tt := range map[string]struct {
		saved  func(subnet.Masks) float64
		groups int // of each layer that remain at most, or at least where negative
	}{
		"groups save more than their weights": {func(m subnet.Masks) float64 { return float64(m.BlockParams() + 1000*m.Size().KVBytesPerToken) }, 1},
		"groups save nearly nothing": {func(m subnet.Masks) float64 {
			n := 0.0
			for i := range g.Layers {
				n += float64(m.Layer(i).Channels.Len()) + 1e-9*float64(m.Layer(i).Heads.Len())
			}
			return n
		}, -3},
	} {
		saved, err := savingsOf(g, tt.saved)
		if err != nil || saved == nil {
			t.Fatal(name, saved, err)
		}
		c, err := widths{g: g, ratio: 0.8, step: 32, attention: true, saved: saved}.allocateGreedy(func(_ int, _ subnet.Module, have, keep int) float64 { return float64(have - keep) })
		if err != nil || tt.groups > 0 && slices.Max(c.groups) > tt.groups || tt.groups < 0 && slices.Min(c.groups) < -tt.groups {
			t.Errorf("%s: kept groups %v, error %v", name, c.groups, err)
		}
	}
	if saved, err := savingsOf(g, func(subnet.Masks) float64 { return 1 }); saved != nil || err != nil {
		t.Errorf("units that save nothing: %v, %v", saved, err)
	}
}

func TestFloor(t *testing.T) {
	g := smol()
	// Dropping from the first layers costs nothing, from the others a lot.
	cost := func(layer int, _ subnet.Module, have, keep int) float64 {
		if layer < 15 {
			return 0
		}
		return float64(have - keep)
	}
	for _, tt := range []struct {
		floor float64
		least int
	}{{0, 32}, {0.25, 384}, {0.26, 416}} {
		c, err := widths{g: g, ratio: 0.6, step: 32, floor: tt.floor}.allocateGreedy(cost)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Min(c.channels); got != tt.least {
			t.Errorf("floor %g: a layer keeps %d channels, want %d", tt.floor, got, tt.least)
		}
		if got := float64(c.params(g)) / float64(g.BlockParams()); got > 0.6 || got < 0.6-0.001 {
			t.Errorf("floor %g: ratio %g", tt.floor, got)
		}
	}
	if _, err := (widths{g: g, ratio: 0.4, step: 32, floor: 0.25}).allocateGreedy(cost); !errors.Is(err, ErrRatio) || !strings.Contains(err.Error(), "0.43") {
		t.Errorf("out of reach of the floor: error %v", err)
	}
	c, err := widths{g: uneven(), ratio: 0.9, step: 32, floor: 1}.allocateGreedy(cost)
	if err == nil {
		t.Errorf("all channels stay, and %v are left", c.channels)
	}
}

func TestStandardized(t *testing.T) {
	got := standardized(importance.ByScore([]float64{5, 1, 3}))
	want := []float64{-math.Sqrt(1.5), 0, math.Sqrt(1.5)}
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-12 {
			t.Errorf("rank %d: %g, want %g", i, got[i], want[i])
		}
	}
	if got := standardized(importance.ByScore([]float64{2, 2})); got[0] != 0 || got[1] != 0 {
		t.Errorf("equal scores give %v", got)
	}
}
