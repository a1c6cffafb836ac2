package decoder

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Fold returns the re-fitted weights of a subnet with these numbers in place. spec must be what the tuned subnet was made of.
func (t *Tuning) Fold(ctx context.Context, spec gguf.Subnet, values []float32) (gguf.Subnet, error) {
	if len(values) != t.n {
		return gguf.Subnet{}, fmt.Errorf("decoder: %d numbers to fold, want %d", len(values), t.n)
	}
	out := spec
	out.Refit = make([]gguf.Refit, len(t.m.layers))
	copy(out.Refit, spec.Refit)
	for i := range t.blocks {
		b := &t.blocks[i]
		r, err := t.fold(ctx, b, out.Masks, out.Refit[b.layer], values)
		if err != nil {
			return gguf.Subnet{}, fmt.Errorf("layer %d: %w", b.layer, err)
		}
		out.Refit[b.layer] = r
	}
	return out, nil
}

func (t *Tuning) fold(ctx context.Context, b *tunedBlock, masks subnet.Masks, r gguf.Refit, values []float32) (gguf.Refit, error) {
	m, hidden := t.m, t.m.geo.Hidden
	if b.matrices != nil {
		if err := t.foldMatrices(ctx, b, &r, values); err != nil {
			return r, err
		}
	}
	norm, bias := t.s.mlp[b.layer].w.mlpNorm, t.s.mlp[b.layer].w.downBias
	gains, matrix, added := &r.GM, &r.WD, &r.BD
	kept := masks.Layer(b.layer).Channels.Indices()
	order := allOf(len(kept)) // by input of the output matrix on the device, its kept column
	if b.module == subnet.Attention {
		norm, bias = t.s.attention[b.layer].w.attnNorm, t.s.attention[b.layer].w.oBias
		gains, matrix, added = &r.GA, &r.WO, &r.BO
		kept = masks.OColumns(b.layer)
		order = m.layOutHeads(m.geo.Layers[b.layer], masks.Layer(b.layer), kept).refit
	}
	old, err := m.weights.Fetch(norm)
	if err != nil {
		return r, err
	}
	*gains = old[:hidden:hidden]
	for i, v := range values[b.numbers[gainNumbers].at:][:hidden] {
		(*gains)[i] *= 1 + v
	}
	columns, err := t.output(b, kept, *matrix)
	if err != nil {
		return r, err
	}
	scales := values[b.numbers[scaleNumbers].at:]
	for j, column := range order {
		if column < 0 {
			continue
		}
		for row := range hidden {
			columns[row*len(kept)+column] *= 1 + scales[j]
		}
	}
	*matrix = columns
	if !t.o.Bias {
		return r, nil
	}
	sum := make([]float32, hidden)
	if bias != nil {
		if sum, err = m.weights.Fetch(bias); err != nil {
			return r, err
		}
	}
	n := &b.numbers[biasNumbers]
	for i, v := range values[n.at : n.at+hidden] {
		sum[i] += float32(n.unit) * v
	}
	*added = sum
	return r, nil
}

// foldMatrices sets the matrices of a block with what is added to them.
func (t *Tuning) foldMatrices(ctx context.Context, b *tunedBlock, r *gguf.Refit, values []float32) error {
	changes, err := t.changes(ctx, b, values)
	if err != nil {
		return err
	}
	moved, err := b.matrices.Refit(ctx, changes)
	if err != nil {
		return err
	}
	if b.module == subnet.MLP {
		r.WG, r.WU, r.WD = moved.WG, moved.WU, moved.WD
		return nil
	}
	r.WO = moved.WO
	if len(b.matrices.parts) > 1 {
		r.WQ, r.WK, r.WV = moved.WQ, moved.WK, moved.WV
	}
	return nil
}

// output returns a copy of the kept columns of the output matrix of a block, [hidden, kept].
func (t *Tuning) output(b *tunedBlock, kept []int, refit []float32) ([]float32, error) {
	if refit != nil {
		return append([]float32(nil), refit...), nil
	}
	data, dims, err := t.m.Weights(b.layer, t.m.OutputMatrix(b.module))
	if err != nil {
		return nil, err
	}
	return columnsOf(data, dims[0], kept), nil
}
