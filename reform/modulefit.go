package reform

import (
	"context"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/algebra"
)

// moduleFit is the re-fit of one module.
type moduleFit struct {
	m         *decoder.Model  // of the subnet
	ref       *decoder.Model  // the dense model
	dense     *decoder.Subnet // of ref
	layer     int
	module    subnet.Module
	recipe    Recipe       // as it applies to this module
	fit, held *moduleInput // held may be nil
	bias      []float32    // [hidden] of the original output matrix, or nil
	problem   Problem      // once gather has returned
}

func (f *moduleFit) close() {
	for _, in := range []*moduleInput{f.fit, f.held} {
		if in != nil {
			in.close()
		}
	}
}

// gather computes the moments of the output matrix.
func (f *moduleFit) gather(ctx context.Context) error {
	w, dims, err := f.ref.Weights(f.layer, f.m.OutputMatrix(f.module))
	if err != nil {
		return err
	}
	p := Problem{Name: ModuleName(f.layer, f.module), W: w, Out: dims[0], In: dims[1], Algebra: algebra.Of(f.ref.Device())}
	if p.Fit, err = f.fit.moments(ctx, f.recipe, p.W, p.Out, f.dense); err != nil {
		return err
	}
	if f.held != nil {
		held, err := f.held.moments(ctx, f.recipe, p.W, p.Out, f.dense)
		if err != nil {
			return err
		}
		p.HeldOut = &held
	}
	f.problem = p
	return nil
}

// block returns what a chooser sees of the module.
func (f *moduleFit) block() Block {
	p := f.problem
	return Block{
		Layer: f.layer, Module: f.module, Output: p.W, Out: p.Out, In: p.In, Moments: p.inputMoments(),
		InnerMoments: func(ctx context.Context) (*decoder.Moments, error) {
			return f.fit.a.innerMoments(ctx, f.layer, f.module)
		},
	}
}

// solve returns the re-fitted weights of the module, for the units that masks keep.
func (f *moduleFit) solve(ctx context.Context, masks subnet.Masks) (gguf.Refit, Result, error) {
	kept := masks.OutputColumns(f.layer, f.module)
	weights, r, err := solve(f.problem, kept, f.recipe.Solve)
	if err != nil {
		return gguf.Refit{}, r, err
	}
	var up []float32
	if f.recipe.refitsUp(f.module) && len(kept) > 0 && len(kept) < f.problem.In && f.m.Geometry().LinearInUp() {
		u := upFit{f, masks.Layer(f.layer).Channels}
		if up, weights, err = u.run(ctx, weights, &r); err != nil {
			return gguf.Refit{}, r, err
		}
	}
	if f.recipe.Solve.Method == None {
		weights = nil
	}
	if r.Bias != nil { // it replaces the model's own
		for i, v := range f.bias {
			r.Bias[i] += v
		}
	}
	if f.module == subnet.Attention {
		return gguf.Refit{WO: weights, BO: r.Bias}, r, nil
	}
	return gguf.Refit{WD: weights, BD: r.Bias, WU: up}, r, nil
}

// advance moves the text past the module of sub.
func (f *moduleFit) advance(ctx context.Context, sub *decoder.Subnet) error {
	for _, in := range []*moduleInput{f.fit, f.held} {
		if in == nil {
			continue
		}
		if err := in.advance(ctx, sub, f.dense); err != nil {
			return err
		}
	}
	return nil
}
