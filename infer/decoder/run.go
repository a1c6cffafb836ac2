package decoder

import (
	"context"
	"fmt"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/decoder/weights"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// headOutputs computes the inputs of W_O of an attention block that keeps heads, [windows·tokens, groups·reps·value].
func (m *Model) headOutputs(ctx context.Context, b *attentionBlock, x *tensors.Tensor, windows int) (*tensors.Tensor, error) {
	args, h, err := m.attentionArgs(b, x, windows)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	shape := b.shape
	shape.windows, shape.outBias, shape.postNorm = windows, false, false
	return m.dev.run1(ctx, fmt.Sprintf("attend %+v", shape), func(in []*graph.Node) *graph.Node {
		return shape.attend(in[0], shape.split(in[1:]))
	}, args...)
}

// passAttention returns x plus the output of an attention block, x itself where that is zero.
func (m *Model) passAttention(ctx context.Context, b *attentionBlock, x *tensors.Tensor, windows int) (*tensors.Tensor, error) {
	if b.empty() {
		return m.addBias(ctx, x, b.w.oBias, b.w.attnPost)
	}
	args, h, err := m.attentionArgs(b, x, windows, b.w.o, b.w.oBias, b.w.attnPost)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	shape := b.shape
	shape.windows = windows
	return m.dev.run1(ctx, fmt.Sprintf("attention %+v", shape), func(in []*graph.Node) *graph.Node {
		p := shape.split(in[1:])
		return shape.add(in[0], shape.attend(in[0], p), p)
	}, args...)
}

// attentionArgs returns the inputs of an attention graph up to those of W_O, followed by more weights. The caller must release
// the held weights.
func (m *Model) attentionArgs(b *attentionBlock, x *tensors.Tensor, windows int, more ...*weights.Weight) ([]*tensors.Tensor, *weights.Held, error) {
	pos, err := m.tablesOf(b, x.Shape().Dimensions[0]/windows)
	if err != nil {
		return nil, nil, err
	}
	w := &b.w
	h, err := m.weights.Hold(append([]*weights.Weight{w.attnNorm, w.q, w.k, w.v, w.qBias, w.kBias, w.vBias, w.qGain, w.kGain}, more...)...)
	if err != nil {
		return nil, nil, err
	}
	const before = 4 // the positions come after W_V
	args := append([]*tensors.Tensor{x}, h.Tensors[:before]...)
	if pos.cos != nil {
		args = append(args, pos.cos, pos.sin)
	}
	args = append(args, pos.causal)
	return append(args, h.Tensors[before:]...), h, nil
}

// passMLP returns x plus the output of an MLP block, x itself where that is zero.
func (m *Model) passMLP(ctx context.Context, b *mlpBlock, x *tensors.Tensor) (*tensors.Tensor, error) {
	if b.width == 0 {
		return m.addBias(ctx, x, b.w.downBias, b.w.mlpPost)
	}
	h, err := m.weights.Hold(b.w.mlpNorm, b.w.gateOrUpBias(), b.w.up, b.w.down, b.w.downBias, b.w.mlpPost)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	shape := m.mlpShape(b.w.downBias)
	return m.dev.run1(ctx, fmt.Sprintf("mlp %+v", shape), func(in []*graph.Node) *graph.Node {
		bias, post := shape.split(in[5:])
		return shape.add(in[0], shape.inner(in[0], in[1], in[2], in[3]), in[4], bias, post)
	}, h.With(x)...)
}

// mlpShape returns the shape of the model's MLPs with that output bias, nil for none.
func (m *Model) mlpShape(bias *weights.Weight) mlpShape {
	return mlpShape{eps: m.config.NormEps, gelu: m.config.Activation == subnet.GELU, ungated: m.config.Ungated, outBias: bias != nil, postNorm: m.config.PostNorms}
}

// addBias adds the output of a block that keeps nothing but its bias, normalised where there is a gain; without a bias it returns
// x itself.
func (m *Model) addBias(ctx context.Context, x *tensors.Tensor, bias, post *weights.Weight) (*tensors.Tensor, error) {
	if bias == nil {
		return x, nil
	}
	h, err := m.weights.Hold(bias, post)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	eps := m.config.NormEps
	return m.dev.run1(ctx, fmt.Sprintf("bias %g %t", eps, post != nil), func(in []*graph.Node) *graph.Node {
		y := graph.InsertAxes(in[1], 0)
		if len(in) > 2 {
			y = rmsNorm(y, in[2], eps)
		}
		return graph.Add(in[0], y)
	}, h.With(x)...)
}

func identity(in []*graph.Node) *graph.Node { return graph.Identity(in[0]) }
