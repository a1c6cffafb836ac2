package decoder

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Difference returns the residual error a − b, [tokens, hidden], of states of the same windows, b of m and a of m or a model of the same
// shape on its device: the target of re-fits that
// compensate for upstream error. It is good for moments and cross moments and cannot be added to states; it is stale once a or b
// advances. The caller must Close it.
func (m *Model) Difference(ctx context.Context, a, b *States) (*Inputs, error) {
	if b.m != m || a.m.dev != m.dev || !a.m.geo.Equal(&m.geo) {
		return nil, errOtherStates
	}
	if !slices.Equal(a.lengths, b.lengths) || !slices.Equal(a.batches, b.batches) {
		return nil, fmt.Errorf("decoder: difference of states of different windows")
	}
	if m.config.PostNorms {
		return nil, fmt.Errorf("decoder: %s normalises block outputs; a residual target is not defined for it", m.config.Arch)
	}
	if err := a.usable(); err != nil {
		return nil, err
	}
	in := &Inputs{m: m, st: b, layer: -1, n: m.geo.Hidden, release: func() {}, other: a, otherMoves: a.moves}
	in.compute = func(ctx context.Context, at int, y *tensors.Tensor) (out *tensors.Tensor, err error) {
		err = a.hidden.Use(at, func(x *tensors.Tensor) error {
			out, err = m.dev.run1(ctx, "difference", func(in []*graph.Node) *graph.Node { return graph.Sub(in[0], in[1]) }, x, y)
			return err
		})
		return out, err
	}
	return in.fill(ctx)
}

// Relative returns the same inputs with each token divided by the root mean square of the state it comes from, or by its
// standard deviation where norms subtract the mean. In their moments an error counts relative to the state that it is added to,
// as it does after the next norm. The caller must Close it, before in.
func (in *Inputs) Relative(ctx context.Context) (*Inputs, error) {
	if err := in.usable(); err != nil {
		return nil, err
	}
	eps, layerNorm := in.m.config.NormEps, in.m.config.LayerNorm
	divide := func(ctx context.Context, x, values *tensors.Tensor) (*tensors.Tensor, error) {
		return in.m.dev.run1(ctx, fmt.Sprintf("relative %g %t", eps, layerNorm), func(in []*graph.Node) *graph.Node {
			state := in[0]
			if layerNorm {
				state = centred(state)
			}
			square := graph.ReduceAndKeep(graph.Square(state), graph.ReduceMean, -1)
			return graph.Mul(in[1], graph.Rsqrt(graph.AddScalar(square, eps)))
		}, x, values)
	}
	return in.scaled(ctx, func(ctx context.Context, _ int, x, values *tensors.Tensor) (*tensors.Tensor, error) {
		return divide(ctx, x, values)
	})
}

// Weighted returns the same inputs with each token multiplied by its factor: of each window as many as it has tokens. The caller must
// Close it, before in.
func (in *Inputs) Weighted(ctx context.Context, factors [][]float32) (*Inputs, error) {
	if err := in.usable(); err != nil {
		return nil, err
	}
	for i, n := range in.st.lengths {
		if i >= len(factors) || len(factors[i]) != n {
			return nil, fmt.Errorf("decoder: factors for the tokens of %d windows, want %d of them with the windows' tokens", len(factors), len(in.st.lengths))
		}
	}
	return in.scaled(ctx, func(ctx context.Context, at int, _, values *tensors.Tensor) (*tensors.Tensor, error) {
		b := in.st.batches[at]
		all := slices.Concat(factors[b.first : b.first+b.windows]...)
		f, err := in.m.dev.upload(all, len(all), 1)
		if err != nil {
			return nil, err
		}
		defer free(f)
		return in.m.dev.run1(ctx, "weighted", func(in []*graph.Node) *graph.Node { return graph.Mul(in[0], in[1]) }, values, f)
	})
}

// scaled returns inputs that scale computes of those of each batch and of the states x they come from.
func (in *Inputs) scaled(ctx context.Context, scale func(ctx context.Context, at int, x, values *tensors.Tensor) (*tensors.Tensor, error)) (*Inputs, error) {
	out := &Inputs{
		m: in.m, st: in.st, layer: -1, module: in.module, n: in.n, moves: in.moves, release: func() {},
		other: in.other, otherMoves: in.otherMoves,
	}
	out.compute = func(ctx context.Context, at int, x *tensors.Tensor) (*tensors.Tensor, error) {
		values, err := in.compute(ctx, at, x)
		if err != nil {
			return nil, err
		}
		defer free(values)
		return scale(ctx, at, x, values)
	}
	out.kept = make([]*tensors.Tensor, len(in.kept))
	if in.n == 0 {
		return out, nil
	}
	for i, values := range in.kept {
		if values == nil {
			continue
		}
		err := in.st.hidden.Use(i, func(x *tensors.Tensor) (err error) {
			out.kept[i], err = scale(ctx, i, x, values)
			return err
		})
		if err != nil {
			out.Close()
			return nil, err
		}
	}
	return out, nil
}
