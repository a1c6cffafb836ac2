package decoder

import (
	"context"
	"fmt"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// ScoreStates takes the likelihood of windows whose states st have passed all layers, without computing a layer. The
// first token of a window is not scored.
func (m *Model) ScoreStates(ctx context.Context, st *States, windows [][]int32) (Score, error) {
	if st.m != m || len(windows) != len(st.lengths) {
		return Score{}, fmt.Errorf("decoder: %d windows for states of %d", len(windows), len(st.lengths))
	}
	if err := st.usable(); err != nil {
		return Score{}, err
	}
	var total Score
	for i, w := range windows {
		if len(w) != st.lengths[i] {
			return Score{}, fmt.Errorf("decoder: window %d has %d tokens, its states %d", i, len(w), st.lengths[i])
		}
		err := st.hidden.use(i, func(x *tensors.Tensor) error {
			nll, err := m.nextLosses(ctx, x, w)
			for _, v := range nll {
				total.NLL += float64(v)
			}
			total.Tokens += len(nll)
			return err
		})
		if err != nil {
			return Score{}, fmt.Errorf("window %d: %w", i, err)
		}
	}
	return total, nil
}

// nextLosses returns the negative log-likelihood of every token of a window but the first, given its last states.
func (m *Model) nextLosses(ctx context.Context, x *tensors.Tensor, window []int32) ([]float32, error) {
	targets := append(append(make([]int32, 0, len(window)), window[1:]...), 0)
	ids, err := m.be.uploadInts(targets, len(targets))
	if err != nil {
		return nil, err
	}
	defer free(ids)
	eps := m.config.NormEps
	out, err := m.be.run1(ctx, fmt.Sprintf("nll %g", eps), func(in []*graph.Node) *graph.Node {
		return negLogLikelihood(rmsNorm(in[0], in[1], eps), in[2], in[3])
	}, x, m.outNorm, m.head, ids)
	if err != nil {
		return nil, err
	}
	defer free(out)
	nll, err := m.be.fetch(out)
	if err != nil {
		return nil, err
	}
	return nll[:len(window)-1], nil
}

// Difference is what is missing from the states b to be those of a, [tokens, hidden], both being of the same windows.
// It serves moments and cross moments, and goes stale when b moves on; a must not move before. The caller must Close it.
func (m *Model) Difference(ctx context.Context, a, b *States) (*Inputs, error) {
	if a.m != m || b.m != m || len(a.lengths) != len(b.lengths) {
		return nil, fmt.Errorf("decoder: states of other windows")
	}
	in := &Inputs{m: m, st: b, layer: -1, n: m.geo.Hidden, release: func() {}, moves: b.moves}
	in.kept = make([]*tensors.Tensor, len(b.lengths))
	for i := range in.kept {
		err := b.hidden.use(i, func(y *tensors.Tensor) error {
			return a.hidden.use(i, func(x *tensors.Tensor) (err error) {
				in.kept[i], err = m.be.run1(ctx, "difference", func(in []*graph.Node) *graph.Node {
					return graph.Sub(in[0], in[1])
				}, x, y)
				return err
			})
		})
		if err != nil {
			in.Close()
			return nil, err
		}
	}
	return in, nil
}

// Relative returns the same inputs with each token divided by the root mean square of the state it comes from: in their
// moments an error counts by how large it is beside the state that it is added to, which is what the next norm sees of
// it. The caller must Close it, before in.
func (in *Inputs) Relative(ctx context.Context) (*Inputs, error) {
	if err := in.usable(); err != nil {
		return nil, err
	}
	eps := in.m.config.NormEps
	divide := func(ctx context.Context, x, values *tensors.Tensor) (*tensors.Tensor, error) {
		return in.m.be.run1(ctx, fmt.Sprintf("relative %g", eps), func(in []*graph.Node) *graph.Node {
			square := graph.ReduceAndKeep(graph.Square(in[0]), graph.ReduceMean, -1)
			return graph.Mul(in[1], graph.Rsqrt(graph.AddScalar(square, eps)))
		}, x, values)
	}
	out := &Inputs{m: in.m, st: in.st, layer: -1, module: in.module, n: in.n, moves: in.moves, release: func() {}}
	out.compute = func(ctx context.Context, x *tensors.Tensor) (*tensors.Tensor, error) {
		values, err := in.compute(ctx, x)
		if err != nil {
			return nil, err
		}
		defer free(values)
		return divide(ctx, x, values)
	}
	out.kept = make([]*tensors.Tensor, len(in.kept))
	if in.n == 0 {
		return out, nil
	}
	for i, values := range in.kept {
		if values == nil {
			continue
		}
		err := in.st.hidden.use(i, func(x *tensors.Tensor) (err error) {
			out.kept[i], err = divide(ctx, x, values)
			return err
		})
		if err != nil {
			out.Close()
			return nil, err
		}
	}
	return out, nil
}
