package oneshot

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// dropLayers drops whole layers, each time the one without which the model's loss is least (SLEB), until the ratio is met.
// The scorer computes layers that candidates have in common once.
func (p *plan) dropLayers(ctx context.Context) (subnet.Masks, error) {
	g := p.g
	texts, _ := probeTexts(p.windows)
	scorer, err := p.m.NewScorer(texts, decoder.ScorerOptions{})
	if err != nil {
		return subnet.Masks{}, err
	}
	defer scorer.Close()
	var text decoder.Text
	for i := range texts {
		text.Windows = append(text.Windows, i)
	}
	masks := subnet.Dense(g)
	total := int(math.Ceil((1 - p.ratio) * float64(len(g.Layers))))
	for done := 0; !p.enough(masks); {
		best, err := p.cheapestLayer(ctx, scorer, text, masks)
		if err != nil {
			return subnet.Masks{}, err
		}
		masks = masks.With(best, dropped(g, best))
		done++
		p.config.report(Event{Phase: Measuring, Done: done, Total: max(total, done)})
	}
	return masks, nil
}

// dropSimilarLayers drops the layers with the largest cosine between the hidden states before and after them in the dense
// model, over the first window, until the ratio is met (ShortGPT).
func (p *plan) dropSimilarLayers(ctx context.Context) (subnet.Masks, error) {
	g := p.g
	dense, err := newPass(ctx, p.m, p.windows[:1])
	if err != nil {
		return subnet.Masks{}, err
	}
	defer dense.close()
	cosines := make([]float64, len(g.Layers))
	err = dense.run(ctx, visitor{
		skip: func(int, subnet.Module) bool { return true },
		layer: func(layer int, cosine float64) error {
			if dense.finite() != nil { // tokens with NaN are left out of the cosine
				return notFinite(ctx, p.m, p.windows[:1])
			}
			cosines[layer] = cosine
			p.config.report(Event{Phase: Surveying, Done: layer + 1, Total: len(g.Layers)})
			return nil
		},
	})
	if err != nil {
		return subnet.Masks{}, err
	}
	masks := subnet.Dense(g)
	for _, layer := range mostSimilar(cosines) {
		if p.enough(masks) {
			return masks, nil
		}
		if without := masks.With(layer, dropped(g, layer)); without.Validate() == nil {
			masks = without
		}
	}
	if !p.enough(masks) {
		return subnet.Masks{}, fmt.Errorf("no layer can be dropped: %w", ErrRatio)
	}
	return masks, nil
}

// mostSimilar returns the layers from the largest cosine to the least, of equal ones the later first.
func mostSimilar(cosines []float64) []int {
	order := make([]int, len(cosines))
	for i := range order {
		order[i] = len(order) - 1 - i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(cosines[b], cosines[a]) })
	return order
}

// cheapestLayer returns the layer of masks without which the loss is least.
func (p *plan) cheapestLayer(ctx context.Context, scorer *decoder.Scorer, text decoder.Text, masks subnet.Masks) (int, error) {
	best, least, broken := -1, math.Inf(1), false
	for i := masks.Layers() - 1; i >= 0; i-- {
		without := masks.With(i, dropped(masks.Geometry(), i))
		if masks.Layer(i).IsDropped() || without.Validate() != nil {
			continue
		}
		s, err := p.m.Subnet(ctx, gguf.Subnet{Masks: without})
		if err != nil {
			return 0, err
		}
		score, err := scorer.Score(ctx, s, text)
		s.Close()
		if err != nil {
			return 0, fmt.Errorf("without layer %d: %w", i, err)
		}
		broken = broken || math.IsNaN(score.NLL) || math.IsInf(score.NLL, 0)
		if score.NLL < least {
			best, least = i, score.NLL
		}
	}
	switch {
	case best >= 0:
		return best, nil
	case broken:
		texts, _ := probeTexts(p.windows)
		return 0, notFinite(ctx, p.m, texts)
	}
	return 0, fmt.Errorf("no layer can be dropped: %w", ErrRatio)
}

// dropped returns the mask of a dropped layer.
func dropped(g *subnet.Geometry, layer int) subnet.Layer {
	l := g.Layers[layer]
	return subnet.Layer{Heads: subnet.Empty(l.Heads), Channels: subnet.Empty(l.FFN)}
}
