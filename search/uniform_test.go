package search_test

import (
	"errors"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/searchtest"
)

// TestUniform compares the strategy with a full enumeration: its subnets have equal
// widths, files hold them without zeros, and the best is at least as good as the best
// with at most one run of layers dropped.
func TestUniform(t *testing.T) {
	for _, arch := range []string{"llama", "qwen3", "gemma2", "gemma3"} {
		for _, target := range []float64{0.8, 0.5} {
			l := searchtest.New(searchtest.Options{Seed: 1, Layers: 7, Error: 0.5})
			l.Geometry.Arch, l.Geometry.Tied = arch, false
			l.Geometry.QKNorm = arch == "qwen3"
			result := run(t, search.Options{Strategy: search.DefaultUniform(), Problem: l.Problem(search.Ratio(target), 3), Evaluator: l})
			best := result.Best
			if best.Ratio > target*(1+1e-9) || result.State.Done == "" {
				t.Errorf("%s at %v: ratio %v, done %q", arch, target, best.Ratio, result.State.Done)
			}
			for _, in := range result.State.Population {
				checkEqualWidths(t, l.Geometry, in.Masks)
			}
			l.Fitness = nil
			if want := bestUniform(l, target); l.Loss(best.Masks) > want+1e-9 {
				t.Errorf("%s at %v: loss %v, a uniform subnet has %v", arch, target, l.Loss(best.Masks), want)
			}
		}
	}
}

func checkEqualWidths(t *testing.T, g *subnet.Geometry, m subnet.Masks) {
	t.Helper()
	if n := m.Size().ZeroedParams; n != 0 {
		t.Errorf("%s: a file has %d zeros", g.Arch, n)
	}
	first := -1
	for i := range m.Layers() {
		l := m.Layer(i)
		if l.IsDropped() {
			continue
		}
		if first < 0 {
			first = i
		}
		if o := m.Layer(first); l.Heads.Len() != o.Heads.Len() || l.Channels.Len() != o.Channels.Len() {
			t.Errorf("%s: layer %d keeps %d heads and %d channels, layer %d %d and %d", g.Arch, i, l.Heads.Len(), l.Channels.Len(), first, o.Heads.Len(), o.Channels.Len())
		}
	}
}

// bestUniform returns the least loss of a uniform subnet with at most one run of
// layers dropped, by enumeration.
func bestUniform(l *searchtest.Landscape, target float64) float64 {
	levels, layers := l.Levels, len(l.Geometry.Layers)
	best := -1.0
	for a := range len(levels.Attention[0]) {
		for m := range len(levels.MLP[0]) {
			for from := range layers {
				for to := from; to <= layers; to++ {
					c := levels.Dense()
					for s := range c {
						c[s] = int16(a)
						if subnet.Module(s%subnet.Modules) == subnet.MLP {
							c[s] = int16(m)
						}
						if layer := s / subnet.Modules; layer >= from && layer < to {
							c[s] = int16(len(levels.Ladder(s)) - 1)
						}
					}
					masks, err := levels.Masks(c)
					if err != nil || masks.BlockParams() == 0 {
						continue
					}
					if size := masks.Size(); size.Ratio <= target && size.ZeroedParams == 0 && (best < 0 || l.Loss(masks) < best) {
						best = l.Loss(masks)
					}
				}
			}
		}
	}
	return best
}

func TestUniformRefuses(t *testing.T) {
	l := searchtest.New(searchtest.Options{Seed: 1})
	if err := search.DefaultUniform().Check(ptr(l.Problem(search.Ratio(0.001), 1)), search.Ratio(0.001)); !errors.Is(err, search.ErrTarget) {
		t.Errorf("a target out of reach: %v", err)
	}
	p := l.Problem(search.Ratio(0.8), 1)
	if err := (&search.Uniform{}).Check(&p, p.Target); !errors.Is(err, search.ErrConfig) {
		t.Errorf("no options: %v", err)
	}
	g := *p.Geometry
	g.Layers = append([]subnet.LayerGeometry(nil), g.Layers...)
	g.Layers[1].FFN /= 2
	p.Geometry = &g
	if err := search.DefaultUniform().Check(&p, p.Target); err == nil {
		t.Error("unequal layers are accepted")
	}
}

func ptr[T any](v T) *T { return &v }
