package oneshot

import (
	"context"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/importance"
)

// ranker keeps the best units of each module by a ranking on the subnet's own inputs. It implements reform.Chooser.
type ranker struct {
	m       *decoder.Model
	method  importance.Method
	chooses func(layer int, m subnet.Module) bool
	keep    func(layer int, m subnet.Module) int // how many units
}

func (r *ranker) Chooses(layer int, module subnet.Module) bool { return r.chooses(layer, module) }

func (r *ranker) Choose(ctx context.Context, in reform.Block) (subnet.Layer, error) {
	g := r.m.Geometry()
	l, n := subnet.DenseLayer(g.Layers[in.Layer]), r.keep(in.Layer, in.Module)
	b := blockOf(r.m, in.Layer, in.Module, importance.Matrix{Out: in.Out, In: in.In, Data: in.Output})
	if n == b.Count(units(in.Module)) {
		return l, nil
	}
	b.Mid = asInputs(in.Moments)
	needs := importance.NeedsOf(r.method)
	if needs.Weights {
		if err := addInner(r.m, in.Layer, b); err != nil {
			return l, err
		}
	}
	if needs.Inputs {
		mo, err := in.InnerMoments(ctx)
		if err != nil {
			return l, err
		}
		b.In = asInputs(mo)
	}
	rank, err := importance.Rank(r.method, b, units(in.Module), importance.Options{Keep: n})
	if err != nil {
		return l, err
	}
	return withUnits(g, in.Layer, l, in.Module, rank.Keep(n)), nil
}

// rechooser returns the chooser that keeps as many units as masks do. Modules that are dense or dropped, or that are not cut by
// whole units, stay as they are.
func rechooser(m *decoder.Model, masks subnet.Masks, method importance.Method) *ranker {
	g := masks.Geometry()
	chooses := func(layer int, module subnet.Module) bool {
		l, lg := masks.Layer(layer), g.Layers[layer]
		if module == subnet.MLP {
			return !l.Channels.IsFull() && !l.Channels.IsEmpty()
		}
		groups := l.Groups(lg)
		whole := withUnits(g, layer, subnet.DenseLayer(lg), module, groups)
		return l.QK == nil && l.VO == nil && l.Heads.Equal(whole.Heads) && !groups.IsFull() && !groups.IsEmpty()
	}
	keep := func(layer int, module subnet.Module) int {
		if module == subnet.MLP {
			return masks.Layer(layer).Channels.Len()
		}
		return masks.Layer(layer).Groups(g.Layers[layer]).Len()
	}
	return &ranker{m, method, chooses, keep}
}

// units returns what modules are ranked by: an MLP by channels, attention by KV groups.
func units(m subnet.Module) importance.Unit {
	if m == subnet.Attention {
		return importance.Groups
	}
	return importance.Channels
}

// withUnits returns l with the kept units of one module.
func withUnits(g *subnet.Geometry, layer int, l subnet.Layer, module subnet.Module, kept subnet.Set) subnet.Layer {
	if module == subnet.MLP {
		l.Channels = kept
		return l
	}
	lg := g.Layers[layer]
	per := lg.HeadsPerGroup()
	l.Heads = subnet.Empty(lg.Heads)
	for _, group := range kept.Indices() {
		l.Heads = l.Heads.Union(subnet.Range(lg.Heads, group*per, (group+1)*per))
	}
	return l
}
