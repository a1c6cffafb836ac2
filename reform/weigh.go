package reform

import (
	"context"
	"math"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// mostFactor bounds how much more than the others a token counts, as a factor of its error: its gradient is that of small errors.
const mostFactor = 3

// tokenFactors are the factors of tokens in the moments of a module, by layer, module and window.
type tokenFactors [][subnet.Modules][][]float32

// newTokenFactors computes factors from the gradients of the dense model's loss: their root mean square over all tokens of a module is 1,
// before they are bounded.
func newTokenFactors(ctx context.Context, m *decoder.Model, windows [][]int32) (tokenFactors, error) {
	factors := make(tokenFactors, len(m.Geometry().Layers))
	for _, w := range windows {
		sizes, err := m.TokenGradients(ctx, w)
		if err != nil {
			return nil, err
		}
		for layer, modules := range sizes {
			for module, s := range modules {
				factors[layer][module] = append(factors[layer][module], s)
			}
		}
	}
	for layer := range factors {
		for _, of := range factors[layer] {
			bound(of)
		}
	}
	return factors, nil
}

// bound scales factors to a root mean square of 1 and bounds them.
func bound(factors [][]float32) {
	sum, n := 0.0, 0
	for _, w := range factors {
		for _, v := range w {
			sum, n = sum+float64(v)*float64(v), n+1
		}
	}
	rms := math.Sqrt(sum / float64(max(n, 1)))
	for _, w := range factors {
		for i, v := range w {
			if rms == 0 {
				w[i] = 1
				continue
			}
			w[i] = float32(min(float64(v)/rms, mostFactor))
		}
	}
}

// weigh returns inputs with their tokens weighed as the recipe does; the caller must call release.
func (in *moduleInput) weigh(ctx context.Context, r Recipe, x *decoder.Inputs) (weighed *decoder.Inputs, release func(), err error) {
	switch {
	case r.byGradient():
		weighed, err = x.Weighted(ctx, in.a.factors[in.layer][in.module])
	case r.relative():
		weighed, err = x.Relative(ctx)
	default:
		return x, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	return weighed, weighed.Close, nil
}
