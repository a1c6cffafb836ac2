package decoder

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Moments are the first and second moments of N channels over Tokens tokens.
type Moments struct {
	N      int       `json:"n"`
	Tokens int       `json:"tokens"`
	H      []float64 `json:"h"`    // XᵀX / Tokens, [N, N], symmetric
	Mean   []float64 `json:"mean"` // [N]
	Var    []float64 `json:"var"`  // [N], around the mean
}

// Cross is the mean product of two sets of channels, YᵀX / Tokens, [Rows, Columns].
type Cross struct {
	Rows, Columns int
	Tokens        int
	H             []float64
	Energy        float64 // E‖y‖²
}

// Moments computes the moments over all windows. The product of a batch of windows is computed on the device in 32-bit floats; batches
// are summed on the host in 64 bits.
func (in *Inputs) Moments(ctx context.Context) (*Moments, error) {
	mo := &Moments{N: in.n, H: make([]float64, in.n*in.n), Mean: make([]float64, in.n), Var: make([]float64, in.n)}
	if in.n == 0 {
		return mo, in.usable()
	}
	err := in.each(ctx, func(_ int, x *tensors.Tensor) error {
		out, err := in.m.dev.run(ctx, "moments", func(in []*graph.Node) []*graph.Node {
			return append(upper(in[0]), graph.ReduceSum(in[0], 0))
		}, x)
		if err != nil {
			return err
		}
		defer free(out...)
		mo.Tokens += x.Shape().Dimensions[0]
		last := len(out) - 1
		for i, from := range strips(in.n) {
			if err := in.m.dev.accumulateStrip(mo.H, mo.N, from, out[i]); err != nil {
				return err
			}
		}
		return in.m.dev.accumulate(mo.Mean, out[last])
	})
	if err != nil {
		return nil, err
	}
	divide(mo.H, mo.Tokens)
	divide(mo.Mean, mo.Tokens)
	for i, mean := range mo.Mean {
		mo.Var[i] = max(0, mo.H[i*mo.N+i]-mean*mean)
		for j := range i {
			mo.H[i*mo.N+j] = mo.H[j*mo.N+i]
		}
	}
	return mo, nil
}

// CrossMoments returns YᵀX / tokens, Y being the channels of y and X those of in, and the energy of Y, over all windows: what a
// least-squares fit of the outputs of one model to the inputs of another needs.
func (in *Inputs) CrossMoments(ctx context.Context, y *Inputs) (*Cross, error) {
	c := &Cross{Rows: y.n, Columns: in.n, H: make([]float64, y.n*in.n)}
	var energy [1]float64
	if !slices.Equal(y.st.batches, in.st.batches) {
		return nil, fmt.Errorf("decoder: cross moments of states of %d and %d windows, of other lengths or batches", y.st.Windows(), in.st.Windows())
	}
	if err := y.usable(); err != nil {
		return nil, err
	}
	if len(c.H) == 0 {
		return c, in.usable()
	}
	err := in.each(ctx, func(at int, x *tensors.Tensor) error {
		return y.st.hidden.Use(at, func(state *tensors.Tensor) error {
			return y.use(ctx, at, state, func(yt *tensors.Tensor) error {
				out, err := in.m.dev.run(ctx, "cross", func(in []*graph.Node) []*graph.Node {
					return []*graph.Node{product(in[0], in[1]), graph.ReduceAllSum(graph.Square(in[0]))}
				}, yt, x)
				if err != nil {
					return err
				}
				defer free(out...)
				c.Tokens += x.Shape().Dimensions[0]
				if err := in.m.dev.accumulate(energy[:], out[1]); err != nil {
					return err
				}
				return in.m.dev.accumulate(c.H, out[0])
			})
		})
	})
	if err != nil {
		return nil, err
	}
	divide(c.H, c.Tokens)
	divide(energy[:], c.Tokens)
	c.Energy = energy[0]
	return c, nil
}

// product returns aᵀ·b over the tokens.
func product(a, b *graph.Node) *graph.Node {
	return graph.DotGeneral(a, []int{0}, nil, b, []int{0}, nil)
}

// stripCount is in how many strips of rows XᵀX is computed, each from its diagonal block on: with four strips, 5/8 of the work.
const stripCount = 4

// strips returns the first row of each strip of an [n, n] product.
func strips(n int) []int {
	var from []int
	for at := 0; at < n; at += (n + stripCount - 1) / stripCount {
		from = append(from, at)
	}
	return from
}

// upper returns the upper part of XᵀX over the tokens in strips [rows, n − first row].
func upper(x *graph.Node) []*graph.Node {
	n := x.Shape().Dimensions[1]
	from := strips(n)
	out := make([]*graph.Node, len(from))
	for i, at := range from {
		end := n
		if i+1 < len(from) {
			end = from[i+1]
		}
		out[i] = product(graph.Slice(x, graph.AxisRange(), graph.AxisRange(at, end)), graph.Slice(x, graph.AxisRange(), graph.AxisRange(at)))
	}
	return out
}

// accumulateStrip adds a strip of rows, from the diagonal element of its first row on, to a sum [n, n].
func (d *Device) accumulateStrip(sum []float64, n, from int, t *tensors.Tensor) error {
	return d.read(t, func(data []float32) {
		width := n - from
		for row := range len(data) / width {
			to := sum[(from+row)*n+from:][:width]
			for i, v := range data[row*width:][:width] {
				to[i] += float64(v)
			}
		}
	})
}

// accumulate adds the tensor's numbers to sum.
func (d *Device) accumulate(sum []float64, t *tensors.Tensor) error {
	return d.read(t, func(data []float32) {
		for i, v := range data {
			sum[i] += float64(v)
		}
	})
}

func divide(sum []float64, n int) {
	for i := range sum {
		sum[i] /= float64(n)
	}
}
