package oneshot

import (
	"context"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/reform/algebra"
	"github.com/lathe-llm/lathe/search/importance"
)

// pass is calibration text on its way through the dense model.
type pass struct {
	m     *decoder.Model
	st    *decoder.States
	dense *decoder.Subnet
	at    int // layers that the text has passed
}

func newPass(ctx context.Context, m *decoder.Model, windows [][]int32) (*pass, error) {
	st, err := m.NewStates(ctx, windows)
	if err != nil {
		return nil, err
	}
	return &pass{m: m, st: st, dense: m.Dense()}, nil
}

func (p *pass) close() {
	p.st.Close()
	p.dense.Close()
}

// visitor is called on the way of a pass.
type visitor struct {
	needs importance.Needs
	skip  func(layer int, m subnet.Module) bool // modules that are not visited; nil skips none
	// module is called before the text passes a module, with the moments of its inputs and what is needed beside them.
	module func(layer int, module subnet.Module, b *importance.Block) error
	// layer is called after each layer, with the cosine between the hidden states before and after it over the first window.
	layer func(layer int, cosine float64) error
}

// run passes the text through all layers.
func (p *pass) run(ctx context.Context, v visitor) error {
	return p.runTo(ctx, len(p.m.Geometry().Layers), v)
}

// runTo passes the text through the layers before end that it has not passed.
func (p *pass) runTo(ctx context.Context, end int, v visitor) error {
	g := p.m.Geometry()
	before, err := p.st.Hidden(0)
	if err != nil {
		return err
	}
	for ; p.at < end; p.at++ {
		layer := p.at
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			if g.OutputColumns(layer, module) == 0 {
				continue
			}
			if err := p.module(ctx, layer, module, v); err != nil {
				return reform.ModuleError(layer, module, err)
			}
		}
		after, err := p.st.Hidden(0)
		if err != nil {
			return err
		}
		if err := v.layer(layer, importance.Cosine(before, after, g.Hidden)); err != nil {
			return err
		}
		before = after
	}
	return nil
}

// module visits a module and moves the text past it.
func (p *pass) module(ctx context.Context, layer int, module subnet.Module, v visitor) error {
	in, err := p.m.OutputInputs(ctx, layer, module, p.dense, p.st)
	if err != nil {
		return err
	}
	defer in.Close()
	if v.skip == nil || !v.skip(layer, module) {
		b, err := newBlock(p.m, layer, module, v.needs.Weights)
		if err != nil {
			return err
		}
		if v.needs.Inputs {
			if b.In, err = p.innerInputs(ctx, layer, module); err != nil {
				return err
			}
		}
		mo, err := in.Moments(ctx)
		if err != nil {
			return err
		}
		b.Mid = asInputs(mo)
		if err := v.module(layer, module, b); err != nil {
			return err
		}
	}
	return p.m.AddOutput(ctx, layer, module, p.dense, in, p.st)
}

// innerInputs returns the moments of what enters the matrices of a module before its output matrix.
func (p *pass) innerInputs(ctx context.Context, layer int, module subnet.Module) (importance.Inputs, error) {
	in, err := p.m.NormedInputs(ctx, layer, module, p.st)
	if err != nil {
		return importance.Inputs{}, err
	}
	defer in.Close()
	mo, err := in.Moments(ctx)
	if err != nil {
		return importance.Inputs{}, err
	}
	return asInputs(mo), nil
}

func asInputs(mo *decoder.Moments) importance.Inputs {
	return importance.Inputs{N: mo.N, Gram: mo.H, Mean: mo.Mean, Var: mo.Var}
}

// newBlock reads the weights of a module, those of the inner matrices where inner is set.
func newBlock(m *decoder.Model, layer int, module subnet.Module, inner bool) (*importance.Block, error) {
	output, err := matrix(m, layer, m.OutputMatrix(module))
	if err != nil {
		return nil, err
	}
	b := blockOf(m, layer, module, output)
	if inner {
		err = addInner(m, layer, b)
	}
	return b, err
}

func blockOf(m *decoder.Model, layer int, module subnet.Module, output importance.Matrix) *importance.Block {
	g := m.Geometry()
	return &importance.Block{
		Name: reform.ModuleName(layer, module), Module: module, HeadDim: g.HeadDim, Layer: g.Layers[layer], Output: output,
		Algebra: algebra.Of(m.Device()),
	}
}

// addInner reads the inner matrices of a block.
func addInner(m *decoder.Model, layer int, b *importance.Block) error {
	for _, name := range m.InnerMatrices(b.Module) {
		w, err := matrix(m, layer, name)
		if err != nil {
			return err
		}
		b.Inner = append(b.Inner, w)
	}
	return nil
}

func matrix(m *decoder.Model, layer int, name string) (importance.Matrix, error) {
	w, dims, err := m.Weights(layer, name)
	if err != nil {
		return importance.Matrix{}, err
	}
	return importance.Matrix{Out: dims[0], In: dims[1], Data: w}, nil
}
