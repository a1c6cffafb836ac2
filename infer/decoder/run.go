package decoder

import (
	"context"
	"fmt"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// mixed computes what enters W_O of an attention block that keeps heads, [tokens, groups·reps·value].
func (m *Model) mixed(ctx context.Context, b *attentionBlock, x *tensors.Tensor) (*tensors.Tensor, error) {
	args, err := m.attentionArgs(b, x)
	if err != nil {
		return nil, err
	}
	shape := b.shape
	shape.outBias = false
	return m.be.run1(ctx, fmt.Sprintf("mix %+v", shape), func(in []*graph.Node) *graph.Node {
		return shape.mix(in[0], shape.split(in[1:]))
	}, args...)
}

// attend returns x plus the output of an attention block, x itself where that is nothing.
func (m *Model) attend(ctx context.Context, b *attentionBlock, x *tensors.Tensor) (*tensors.Tensor, error) {
	if b.empty() {
		return m.addBias(ctx, x, b.w.oBias)
	}
	args, err := m.attentionArgs(b, x)
	if err != nil {
		return nil, err
	}
	args = append(args, b.w.o)
	if b.w.oBias != nil {
		args = append(args, b.w.oBias)
	}
	shape := b.shape
	return m.be.run1(ctx, fmt.Sprintf("attention %+v", shape), func(in []*graph.Node) *graph.Node {
		p := shape.split(in[1:])
		return graph.Add(in[0], linear(shape.mix(in[0], p), p.o, p.oBias))
	}, args...)
}

// attentionArgs lists the inputs of an attention graph up to those of W_O.
func (m *Model) attentionArgs(b *attentionBlock, x *tensors.Tensor) ([]*tensors.Tensor, error) {
	pos, err := m.positions(b, x.Shape().Dimensions[0])
	if err != nil {
		return nil, err
	}
	args := []*tensors.Tensor{x, b.w.attnNorm, b.w.q, b.w.k, b.w.v, pos.cos, pos.sin, pos.future}
	for _, t := range []*tensors.Tensor{b.w.qBias, b.w.kBias, b.w.vBias, b.w.qGain, b.w.kGain} {
		if t != nil {
			args = append(args, t)
		}
	}
	return args, nil
}

// feed returns x plus the output of an MLP block, x itself where that is nothing.
func (m *Model) feed(ctx context.Context, b *mlpBlock, x *tensors.Tensor) (*tensors.Tensor, error) {
	if b.width == 0 {
		return m.addBias(ctx, x, b.w.downBias)
	}
	args := []*tensors.Tensor{x, b.w.mlpNorm, b.w.gate, b.w.up, b.w.down}
	if b.w.downBias != nil {
		args = append(args, b.w.downBias)
	}
	eps := m.config.NormEps
	return m.be.run1(ctx, fmt.Sprintf("mlp %g %t", eps, b.w.downBias != nil), func(in []*graph.Node) *graph.Node {
		return graph.Add(in[0], linear(gated(in[0], in[1], in[2], in[3], eps), in[4], optional(in, 5)))
	}, args...)
}

// addBias adds a bias to x; without one the result is x itself.
func (m *Model) addBias(ctx context.Context, x, bias *tensors.Tensor) (*tensors.Tensor, error) {
	if bias == nil {
		return x, nil
	}
	return m.be.run1(ctx, "bias", func(in []*graph.Node) *graph.Node {
		return graph.Add(in[0], graph.InsertAxes(in[1], 0))
	}, x, bias)
}

func identity(in []*graph.Node) *graph.Node { return graph.Identity(in[0]) }
