package decoder_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestModuleProblem compares derivatives with central differences, and errors with those of the subnet that has the moved matrices.
func TestModuleProblem(t *testing.T) {
	for _, family := range gguftest.Families() {
		t.Run(family.Name, func(t *testing.T) {
			f := gguftest.Open(t, family.Model)
			dev, err := decoder.OpenDevice("go")
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			m := load(t, dev, f)
			windows := [][]int32{window(5, 9, m.Geometry().Vocab), window(6, 7, m.Geometry().Vocab)}
			for name, spec := range cuts(t, m.Geometry()) {
				for layer := range m.Geometry().Layers {
					l := spec.Masks.Layer(layer)
					for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
						if len(spec.Masks.OutputColumns(layer, module)) == 0 || l.QK != nil || l.VO != nil {
							continue
						}
						var refit gguf.Refit
						if spec.Refit != nil {
							refit = spec.Refit[layer]
						}
						own, err := m.NewStates(t.Context(), windows)
						if err != nil {
							t.Fatal(err)
						}
						dense, err := own.Clone(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						d := m.Dense()
						if err := m.AdvanceBlock(t.Context(), layer, module, d, dense); err != nil {
							t.Fatal(err)
						}
						d.Close()
						target := decoder.ModuleTarget{Reference: m, States: dense, Blend: 0.4, Relative: layer%2 == 0}
						problem := func(r gguf.Refit) *decoder.ModuleProblem {
							p, err := m.NewModuleProblem(t.Context(), layer, module, spec.Masks, r, own, target)
							if err != nil {
								t.Fatal(err)
							}
							return p
						}
						p := problem(refit)
						r := rand.New(rand.NewPCG(3, 4))
						names, bounds := p.Parts()
						for _, n := range names {
							if n != "up" && n != "q" {
								continue
							}
							k := m.Geometry().Hidden
							if err := p.Precondition(n, random(r, k*k, 0.3)); err != nil {
								t.Fatal(err)
							}
						}
						values := random(r, p.Len(), 0.02)
						all := []int{0, 1}
						_, g, err := p.Gradient(t.Context(), values, all)
						if err != nil {
							t.Fatal(err)
						}
						var size float64
						for _, v := range g {
							size = max(size, math.Abs(v))
						}
						for _, b := range bounds {
							for range 3 {
								i := b[0] + r.IntN(b[1]-b[0])
								if g[i] == 0 { // of a padded head, which stays as it is
									continue
								}
								const h = 2e-3
								v := values[i]
								at := func(x float32) float64 {
									values[i] = x
									e, err := p.Error(t.Context(), values, all)
									if err != nil {
										t.Fatal(err)
									}
									return e
								}
								want := (at(v+h) - at(v-h)) / (2 * h)
								values[i] = v
								if math.Abs(want-g[i]) > 1e-2*size+1e-5 {
									t.Errorf("%s layer %d %v: derivative %d is %g, want %g (largest %g)", name, layer, module, i, g[i], want, size)
								}
							}
						}
						p.Close()
						p = problem(refit)
						zero := make([]float32, p.Len())
						_, g, err = p.Gradient(t.Context(), zero, all)
						if err != nil {
							t.Fatal(err)
						}
						for i := range zero {
							zero[i] -= float32(0.05 * g[i])
						}
						e, err := p.Error(t.Context(), zero, all)
						if err != nil {
							t.Fatal(err)
						}
						moved, err := p.Refit(t.Context(), zero)
						if err != nil {
							t.Fatal(err)
						}
						p.Close()
						with := refit
						if module == subnet.Attention {
							with.WQ, with.WK, with.WV, with.WO = moved.WQ, moved.WK, moved.WV, moved.WO
						} else {
							with.WG, with.WU, with.WD = moved.WG, moved.WU, moved.WD
						}
						p = problem(with)
						again, err := p.Error(t.Context(), make([]float32, p.Len()), all)
						if err != nil || math.Abs(again-e) > 1e-5*(1+e) {
							t.Errorf("%s layer %d %v: error %g, %v with the moved matrices in the subnet, want %g", name, layer, module, again, err, e)
						}
						p.Close()
						own.Close()
						dense.Close()
					}
				}
			}
		})
	}
}
