package oneshot

import (
	"context"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
	"github.com/lathe-llm/lathe/search/space"
)

// Start ranks, in one pass of text through the dense model, the units that the paper's search starts from, and returns the
// function that search.Problem needs as its Start: it keeps a share of the in-head channels of each KV group and a share of
// the MLP channels of each layer. Units are scored by the paper's Φ with the whole inverse of the second moments. The gate, unless nil, is called after each layer and may block.
func Start(ctx context.Context, m *decoder.Model, windows [][]int32, gate func(context.Context) error) (func(s space.Space, attention, mlp float64) (subnet.Masks, error), error) {
	p, err := newPass(ctx, m, windows)
	if err != nil {
		return nil, err
	}
	defer p.close()
	g := m.Geometry()
	scores := make([][subnet.Modules][]float64, len(g.Layers))
	err = p.run(ctx, visitor{
		needs: importance.NeedsOf(importance.Phi),
		module: func(layer int, module subnet.Module, b *importance.Block) error {
			unit := importance.Channels
			if module == subnet.Attention {
				unit = importance.HeadChannels
			}
			r, err := importance.Rank(importance.Phi, b, unit, importance.Options{})
			scores[layer][module] = r.Scores
			return err
		},
		layer: func(int, float64) error {
			if gate == nil {
				return nil
			}
			return gate(ctx)
		},
	})
	if err != nil {
		return nil, err
	}
	return func(s space.Space, attention, mlp float64) (subnet.Masks, error) {
		layers := make([]subnet.Layer, len(g.Layers))
		for i, lg := range g.Layers {
			l := subnet.DenseLayer(lg)
			if lg.FFN > 0 {
				l.Channels = importance.ByScore(scores[i][subnet.MLP]).Keep(subnet.Count(lg.FFN, mlp, s.Granularity))
			}
			for group := range lg.KVHeads {
				inHead := scores[i][subnet.Attention][group*g.HeadDim : (group+1)*g.HeadDim]
				l.VO = append(l.VO, importance.ByScore(inHead).Keep(subnet.Count(g.HeadDim, attention, s.HeadGranularity)))
			}
			l.QK = l.VO
			layers[i] = l
		}
		return subnet.New(g, layers)
	}, nil
}
