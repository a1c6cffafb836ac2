package decoder

import (
	"context"
	"fmt"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Gradients computes the gradients of the dense model's mean negative log-likelihood of windows, of which the first token is not
// scored, with respect to the matrices of every layer. It passes them to visit from the last layer to the first, by name and in
// the shapes of Weights. Blocks that a layer lacks have none.
//
// The state before every block is kept for all windows at once, so windows should be short and few.
func (m *Model) Gradients(ctx context.Context, windows [][]int32, visit func(layer int, gradients map[string][]float32) error) error {
	tokens := 0
	for i, w := range windows {
		if len(w) < 2 {
			return fmt.Errorf("window %d: %w", i, errShort)
		}
		tokens += len(w) - 1
	}
	b := &backward{m: m, tokens: tokens}
	defer b.free()
	for i, w := range windows {
		if err := b.forward(ctx, w); err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
	}
	for layer := len(m.layers) - 1; layer >= 0; layer-- {
		gradients := make(map[string][]float32)
		for i := range windows {
			if err := b.back(ctx, i, layer, gradients); err != nil {
				return fmt.Errorf("layer %d: gradients: %w", layer, err)
			}
		}
		if err := visit(layer, gradients); err != nil {
			return err
		}
	}
	return nil
}

// TokenGradients returns how much the dense model's negative log-likelihood of a window depends on the hidden state of each token after
// each block: the root mean square, over channels, of its gradient, by layer, module and token. The first token is not scored.
//
// The state before every block is kept meanwhile.
func (m *Model) TokenGradients(ctx context.Context, window []int32) ([][subnet.Modules][]float32, error) {
	if len(window) < 2 {
		return nil, errShort
	}
	b := &backward{m: m, tokens: len(window) - 1, statesOnly: true}
	defer b.free()
	if err := b.forward(ctx, window); err != nil {
		return nil, err
	}
	out := make([][subnet.Modules][]float32, len(m.layers))
	for layer := len(m.layers) - 1; layer >= 0; layer-- {
		for _, module := range []subnet.Module{subnet.MLP, subnet.Attention} {
			sizes, err := b.sizes(ctx)
			if err == nil && module == subnet.MLP && m.mlp[layer].width > 0 {
				err = b.backMLP(ctx, 0, layer, nil)
			}
			if err == nil && module == subnet.Attention && !m.attention[layer].empty() {
				err = b.backAttention(ctx, 0, layer, nil)
			}
			if err != nil {
				return nil, fmt.Errorf("layer %d: gradients: %w", layer, err)
			}
			out[layer][module] = sizes
		}
	}
	return out, nil
}

// sizes returns the root mean squares of the slope of the first window.
func (b *backward) sizes(ctx context.Context) ([]float32, error) {
	t, err := b.m.dev.run1(ctx, "sizes of slopes", func(in []*graph.Node) *graph.Node {
		return graph.Sqrt(graph.ReduceMean(graph.Square(in[0]), -1))
	}, b.slopes[0])
	if err != nil {
		return nil, err
	}
	defer free(t)
	return b.m.dev.fetch(t)
}

// backward is one pass back through the layers.
type backward struct {
	m      *Model
	tokens int                 // scored, of all windows
	states [][]*tensors.Tensor // of each window, before every attention block and every MLP
	slopes []*tensors.Tensor   // of each window: the gradient by its state, before the layer reached
	// statesOnly leaves out the gradients by matrices.
	statesOnly bool
}

// by returns what to take gradients by: the state and, unless those are left out, the matrices.
func (b *backward) by(state *graph.Node, matrices ...*graph.Node) []*graph.Node {
	if b.statesOnly {
		return []*graph.Node{state}
	}
	return append([]*graph.Node{state}, matrices...)
}

func (b *backward) free() {
	for _, s := range b.states {
		free(s...)
	}
	free(b.slopes...)
}

// forward computes the states of a window and the gradient by the last.
func (b *backward) forward(ctx context.Context, window []int32) error {
	m := b.m
	x, err := m.embed(ctx, window)
	if err != nil {
		return err
	}
	at := len(b.states)
	b.states = append(b.states, []*tensors.Tensor{x})
	for layer := range m.layers {
		for _, step := range []func() (*tensors.Tensor, error){
			func() (*tensors.Tensor, error) { return m.passAttention(ctx, m.attention[layer], x, 1) },
			func() (*tensors.Tensor, error) { return m.passMLP(ctx, m.mlp[layer], x) },
		} {
			y, err := step()
			if err == nil && y == x { // a block that adds nothing; each state is freed once
				y, err = m.dev.run1(ctx, "copy", identity, x)
			}
			if err != nil {
				return err
			}
			b.states[at] = append(b.states[at], y)
			x = y
		}
	}
	ids, err := m.targets(window)
	if err != nil {
		return err
	}
	defer free(ids)
	whole := b.tokens
	slope, err := m.onHead(ctx, fmt.Sprintf("slope of the loss %d", whole), func(head lmHead, in []*graph.Node) []*graph.Node {
		scored := in[0].Shape().Dimensions[0] - 1
		xn := graph.SliceAxis(head.norm(in[0], in[1]), 0, graph.AxisRange(0, scored))
		scores := head.scores(xn, in[2])
		top := graph.StopGradient(graph.ReduceAndKeep(scores, graph.ReduceMax, -1))
		logSum := graph.Log(graph.ReduceSum(graph.Exp(graph.Sub(scores, top)), -1))
		targets := graph.Gather(in[2], graph.InsertAxes(graph.SliceAxis(in[3], 0, graph.AxisRange(0, scored)), -1))
		loss := graph.Sub(graph.Add(logSum, graph.Reshape(top, scored)), softCap(graph.ReduceSum(graph.Mul(xn, targets), -1), head.cap))
		return graph.Gradient(graph.DivScalar(graph.ReduceAllSum(loss), float64(whole)), in[0])
	}, x, ids)
	if err != nil {
		return err
	}
	b.slopes = append(b.slopes, slope...)
	return nil
}

// back propagates the slope of a window through a layer and adds the gradients by its matrices to sums.
func (b *backward) back(ctx context.Context, window, layer int, sums map[string][]float32) error {
	m := b.m
	if f := m.mlp[layer]; f.width > 0 {
		if err := b.backMLP(ctx, window, layer, sums); err != nil {
			return err
		}
	}
	if a := m.attention[layer]; !a.empty() {
		return b.backAttention(ctx, window, layer, sums)
	}
	return nil
}

func (b *backward) backMLP(ctx context.Context, window, layer int, sums map[string][]float32) error {
	m, f := b.m, b.m.mlp[layer]
	h, err := m.weights.Hold(f.w.mlpNorm, f.w.gateOrUpBias(), f.w.up, f.w.down, f.w.downBias, f.w.mlpPost)
	if err != nil {
		return err
	}
	defer h.Release()
	shape := m.mlpShape(f.w.downBias)
	out, err := m.dev.run(ctx, fmt.Sprintf("slope of mlp %+v %t", shape, b.statesOnly), func(in []*graph.Node) []*graph.Node {
		bias, post := shape.split(in[5 : len(in)-1])
		y := shape.add(in[0], shape.inner(in[0], in[1], in[2], in[3]), in[4], bias, post)
		by := []*graph.Node{in[3], in[4]}
		if !shape.ungated {
			by = append(by, in[2])
		}
		return graph.Gradient(graph.ReduceAllSum(graph.Mul(y, in[len(in)-1])), b.by(in[0], by...)...)
	}, append(h.With(b.states[window][2*layer+1]), b.slopes[window])...)
	if err != nil {
		return err
	}
	return b.take(window, out, sums, "up", "down", "gate")
}

func (b *backward) backAttention(ctx context.Context, window, layer int, sums map[string][]float32) error {
	m, a := b.m, b.m.attention[layer]
	args, h, err := m.attentionArgs(a, b.states[window][2*layer], 1, a.w.o, a.w.oBias, a.w.attnPost)
	if err != nil {
		return err
	}
	defer h.Release()
	args = append(args, b.slopes[window])
	shape := a.shape
	out, err := m.dev.run(ctx, fmt.Sprintf("slope of attention %+v %t", shape, b.statesOnly), func(in []*graph.Node) []*graph.Node {
		p := shape.split(in[1 : len(in)-1])
		y := shape.add(in[0], shape.attend(in[0], p), p)
		return graph.Gradient(graph.ReduceAllSum(graph.Mul(y, in[len(in)-1])), b.by(in[0], p.q, p.k, p.v, p.o)...)
	}, args...)
	if err != nil {
		return err
	}
	return b.take(window, out, sums, "q", "k", "v", "o")
}

// take makes out[0] the slope and adds the other gradients to the sums of their names, the last of which may have none.
func (b *backward) take(window int, out []*tensors.Tensor, sums map[string][]float32, names ...string) error {
	free(b.slopes[window])
	b.slopes[window] = out[0]
	defer free(out[1:]...)
	for i, t := range out[1:] {
		name := names[i]
		data, err := b.m.dev.fetch(t)
		if err != nil {
			return err
		}
		if name == "q" || name == "k" {
			permuteHeads(data, t.Shape().Dimensions[1], b.m.config.HeadDim, inverse(b.m.order))
		}
		if sums[name] == nil {
			sums[name] = make([]float32, len(data))
		}
		for j, v := range data {
			sums[name][j] += v
		}
	}
	return nil
}
