package oneshot

import (
	"context"
	"math"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

// probeExponent is the power of the dropped share with which the loss of a cut grows.
const probeExponent = 2.5

// losses predict the rise of the model's loss, in nats per token, when units of one module are dropped and the rest
// re-fitted: probe·(dropped/probed)^probeExponent, from one measured cut of each module. Losses of several modules add up.
type losses struct {
	g      *subnet.Geometry
	probe  [][subnet.Modules]float64 // measured rise of the loss
	probed [][subnet.Modules]int     // units dropped for it
}

func (l losses) at(layer int, m subnet.Module, keep int) float64 {
	all := denseCounts(l.g).of(layer, m)
	if l.probed[layer][m] == 0 || keep >= all {
		return 0
	}
	return l.probe[layer][m] * math.Pow(float64(all-keep)/float64(l.probed[layer][m]), probeExponent)
}

func (l losses) total(c counts) float64 {
	var sum float64
	for i := range l.g.Layers {
		sum += l.at(i, subnet.MLP, c.channels[i]) + l.at(i, subnet.Attention, c.groups[i])
	}
	return sum
}

// sensitivity measures, for each module that may be cut, by how much the model's loss rises when half of its units are
// dropped and the rest re-fitted, all other modules being dense.
func (p *plan) sensitivity(ctx context.Context) (losses, error) {
	g := p.m.Geometry()
	l := losses{g: g, probe: make([][subnet.Modules]float64, len(g.Layers)), probed: make([][subnet.Modules]int, len(g.Layers))}
	pr, err := newProber(ctx, p.m, p.windows)
	if err != nil {
		return l, err
	}
	defer pr.close()
	return l, pr.run(ctx, visitor{
		needs: importance.Needs{Weights: importance.NeedsOf(p.recipe.Method).Weights},
		skip:  func(_ int, module subnet.Module) bool { return module == subnet.Attention && !p.recipe.Attention },
		module: func(layer int, module subnet.Module, b *importance.Block) error {
			all := b.Count(units(module))
			if all < 2 {
				return nil
			}
			r, err := importance.Rank(p.recipe.Method, b, units(module), importance.Options{})
			if err != nil {
				return err
			}
			l.probed[layer][module] = all / 2
			half := withUnits(g, layer, subnet.DenseLayer(g.Layers[layer]), module, r.Keep(all-all/2))
			l.probe[layer][module], err = pr.rise(ctx, layer, half, b)
			return err
		},
		layer: func(layer int, _ float64) error {
			p.config.report(Event{Phase: Measuring, Done: layer + 1, Total: len(g.Layers)})
			return nil
		},
	})
}
