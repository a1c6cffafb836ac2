package engine

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/explorer/draft"
)

// Norms implements [explorer.Statistician]: the score of a unit is the sum of the squares of the weights that compute it, and of
// its column of the output matrix. Keys and values, which the heads of a group share, are left out.
func (m *model) Norms(ctx context.Context) ([]draft.Importance, error) {
	g := m.geometry()
	out := make([]draft.Importance, len(g.Layers))
	for i, l := range g.Layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var err error
		if l.FFN > 0 {
			out[i].Channels, err = m.norms(l.FFN, fmt.Sprintf("blk.%d.ffn_down.weight", i), fmt.Sprintf("blk.%d.ffn_up.weight", i), fmt.Sprintf("blk.%d.ffn_gate.weight", i))
		}
		if err == nil && l.Heads > 0 {
			out[i].Heads, err = m.norms(l.Heads, fmt.Sprintf("blk.%d.attn_output.weight", i), fmt.Sprintf("blk.%d.attn_q.weight", i))
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// norms are the energies of n units, each of which has an equal share of the columns of an output matrix and of the rows of inner
// matrices. Inner matrices that the model does not have, such as the gate of a plain MLP, add nothing.
func (m *model) norms(n int, output string, inner ...string) ([]float64, error) {
	scores := make([]float64, n)
	data, dims, err := m.file.Float32(output)
	if err != nil {
		return nil, err
	}
	columns := dims[len(dims)-1]
	for at, w := range data {
		scores[at%columns*n/columns] += float64(w) * float64(w)
	}
	for _, name := range inner {
		if !m.file.Has(name) {
			continue
		}
		if data, dims, err = m.file.Float32(name); err != nil {
			return nil, err
		}
		columns, rows := dims[len(dims)-1], dims[0]
		for at, w := range data {
			scores[at/columns*n/rows] += float64(w) * float64(w)
		}
	}
	return scores, nil
}
