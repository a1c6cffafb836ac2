package decoder

import (
	"context"
	"slices"

	. "github.com/gomlx/gomlx/core/graph" // graphs read as formulas

	"github.com/lathe-llm/lathe/infer/gguf"
)

// Refit returns the re-fitted weights of the module with these numbers.
func (p *ModuleProblem) Refit(ctx context.Context, values []float32) (gguf.Refit, error) {
	var r gguf.Refit
	for _, part := range p.parts {
		data, err := p.moved(ctx, part, values[part.at:part.at+part.w.Numbers()])
		if err != nil {
			return r, err
		}
		switch part.name {
		case "gate":
			r.WG = p.keptRows(data)
		case "up":
			r.WU = p.keptRows(data)
		case "down":
			kept := p.masks.Layer(p.layer).Channels.Len()
			r.WD = columnsOf(data, p.m.geo.Hidden, allOf(kept))
		default:
			if err := p.heads(&r, part.name, data); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// moved returns a matrix with numbers added.
func (p *ModuleProblem) moved(ctx context.Context, part matrixPart, values []float32) ([]float32, error) {
	data, err := p.m.weights.Fetch(part.w)
	if err != nil {
		return nil, err
	}
	if part.by != nil {
		t, err := p.m.dev.upload(values, part.w.Dims...)
		if err != nil {
			return nil, err
		}
		defer free(t)
		moved, err := p.m.dev.run1(ctx, "precondition", func(in []*Node) *Node {
			return DotGeneral(in[0], []int{1}, nil, in[1], []int{0}, nil)
		}, t, part.by)
		if err != nil {
			return nil, err
		}
		defer free(moved)
		if values, err = p.m.dev.fetch(moved); err != nil {
			return nil, err
		}
	}
	for i, v := range values {
		data[i] += v
	}
	return data, nil
}

// keptRows returns the rows of kept channels, without padding.
func (p *ModuleProblem) keptRows(data []float32) []float32 {
	return slices.Clone(data[:p.masks.Layer(p.layer).Channels.Len()*p.m.geo.Hidden])
}

// heads puts a matrix of attention into the order of re-fitted weights.
func (p *ModuleProblem) heads(r *gguf.Refit, name string, data []float32) error {
	m, hidden, dim := p.m, p.m.geo.Hidden, p.m.config.HeadDim
	columns := p.masks.OColumns(p.layer)
	layout := m.layOutHeads(m.geo.Layers[p.layer], p.masks.Layer(p.layer), columns)
	if name == "o" {
		r.WO = make([]float32, hidden*len(columns))
		for j, c := range layout.refit {
			for row := 0; c >= 0 && row < hidden; row++ {
				r.WO[row*len(columns)+c] = data[row*len(layout.refit)+j]
			}
		}
		return nil
	}
	at, kept, to := layout.v, p.masks.KVRows(p.layer), &r.WV
	switch name {
	case "q":
		at, kept, to = layout.q, p.masks.QRows(p.layer), &r.WQ
	case "k":
		at, to = layout.k, &r.WK
	}
	place := make(map[int]int)
	for i := 0; i < len(kept); i += dim {
		place[kept[i]/dim] = i / dim
	}
	out := make([]float32, len(kept)*hidden)
	for i, row := range at {
		if row < 0 {
			continue
		}
		copy(out[(place[row/dim]*dim+row%dim)*hidden:][:hidden], data[i*hidden:])
	}
	if name != "v" {
		permuteHeads(out, hidden, dim, inverse(m.order))
	}
	*to = out
	return nil
}
