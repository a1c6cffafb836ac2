package reform

import (
	"context"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/search/mask"
)

// dropLayers drops whole layers, each time the one without which the model's loss is least (SLEB), until the ratio is met.
func (p *plan) dropLayers(ctx context.Context) (mask.Masks, error) {
	g := p.m.Geometry()
	most, err := budget(g, p.ratio)
	if err != nil {
		return mask.Masks{}, err
	}
	probes, _ := probeTexts(p.windows)
	masks := mask.Dense(g)
	for total, done := 0, 0; masks.BlockParams() > most; {
		if total == 0 {
			total = int(math.Ceil((1 - p.ratio) * float64(len(g.Layers))))
		}
		best, least := -1, math.Inf(1)
		for i := range g.Layers {
			if masks.Layer(i).IsDropped() {
				continue
			}
			without := masks.With(i, dropped(g, i))
			if without.Validate() != nil {
				continue
			}
			s, err := p.m.Subnet(ctx, gguf.Subnet{Masks: without})
			if err != nil {
				return mask.Masks{}, err
			}
			score, err := p.m.Score(ctx, s, probes)
			s.Close()
			if err != nil {
				return mask.Masks{}, fmt.Errorf("without layer %d: %w", i, err)
			}
			if score.NLL < least {
				best, least = i, score.NLL
			}
		}
		if best < 0 {
			return mask.Masks{}, fmt.Errorf("no layer can go: %w", ErrRatio)
		}
		masks = masks.With(best, dropped(g, best))
		done++
		if p.config.Progress != nil {
			p.config.Progress(Event{Phase: Measuring, Done: done, Total: max(total, done)})
		}
	}
	return masks, nil
}

// dropped is the mask of a layer that is not there.
func dropped(g *mask.Geometry, layer int) mask.Layer {
	l := g.Layers[layer]
	return mask.Layer{Heads: mask.Empty(l.Heads), Channels: mask.Empty(l.FFN)}
}
