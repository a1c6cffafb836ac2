package decoder

import (
	"context"
	"fmt"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// batch is consecutive windows of one length, whose states [windows·tokens, hidden] one graph computes at once. In attention
// tokens see those of their own window only.
type batch struct{ first, windows int }

// WithBatches has graphs compute several calibration windows of one length at once: up to count, or where that is 0 as many as bytes are
// enough for the temporary memory of. By default graphs compute one.
func WithBatches(count int, bytes int64) Option {
	return func(o *options) { o.batch, o.batchBytes = count, bytes }
}

// AtOnce returns how many windows of so many tokens graphs compute at once at most.
func (m *Model) AtOnce(tokens int) int {
	if m.opts.batch > 0 {
		return m.opts.batch
	}
	return int(max(1, min(mostAtOnce, m.opts.batchBytes/max(1, m.windowBytes(tokens)))))
}

// mostAtOnce bounds how many windows a graph computes: more gain nothing.
const mostAtOnce = 64

// windowBytes estimates the temporary memory of a graph for a window: of an MLP, or of attention with the scores of a block of queries.
func (m *Model) windowBytes(tokens int) int64 {
	var most int64
	for _, l := range m.geo.Layers {
		mlp := tokens * (3*l.FFN + 2*m.geo.Hidden)
		attention := tokens * (4*l.Heads*m.geo.HeadDim + 2*m.geo.Hidden + 3*l.Heads*min(queryBlock, tokens))
		most = max(most, 4*int64(max(mlp, attention)))
	}
	return most
}

// batches divides windows with the given lengths into batches. Those of one run of equal lengths have about equally many windows, so
// that few shapes are compiled.
func (m *Model) batches(lengths []int) []batch {
	var out []batch
	for from := 0; from < len(lengths); {
		to := from
		for to < len(lengths) && lengths[to] == lengths[from] {
			to++
		}
		n, most := to-from, m.AtOnce(lengths[from])
		parts := (n + most - 1) / most
		for i := range parts {
			first := from + i*n/parts
			out = append(out, batch{first, from + (i+1)*n/parts - first})
		}
		from = to
	}
	return out
}

// windowsOf are the windows of a batch.
func windowsOf(all [][]int32, b batch) [][]int32 { return all[b.first : b.first+b.windows] }

// each calls use with each window of a batch and its rows of x [windows·tokens, n].
func (b batch) each(ctx context.Context, d *Device, x *tensors.Tensor, use func(window int, x *tensors.Tensor) error) error {
	for i := range b.windows {
		if err := b.only(ctx, d, x, i, func(x *tensors.Tensor) error { return use(b.first+i, x) }); err != nil {
			return err
		}
	}
	return nil
}

// only calls use with the rows of the batch's window i.
func (b batch) only(ctx context.Context, d *Device, x *tensors.Tensor, i int, use func(x *tensors.Tensor) error) error {
	if b.windows == 1 {
		return use(x)
	}
	rows, err := d.run1(ctx, fmt.Sprintf("window %d of %d", i, b.windows), func(in []*graph.Node) *graph.Node {
		tokens := in[0].Shape().Dimensions[0] / b.windows
		return graph.Slice(in[0], graph.AxisRange(i*tokens, (i+1)*tokens))
	}, x)
	if err != nil {
		return err
	}
	defer free(rows)
	return use(rows)
}
