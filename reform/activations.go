package reform

import (
	"context"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/algebra"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// activations are the residual streams of calibration text before one module: those of the subnet and, where the target
// needs them, those of the dense model.
type activations struct {
	m      *decoder.Model // of the subnet
	ref    *decoder.Model // the dense model: m, or that which m has the rounded weights of
	target Target
	own    *decoder.States
	dense  *decoder.States // nil where the target needs none
	// factors are those of tokens where the recipe weighs them by gradients.
	factors tokenFactors
}

func newActivations(ctx context.Context, m, ref *decoder.Model, windows [][]int32, target Target) (*activations, error) {
	own, err := m.NewStates(ctx, windows)
	if err != nil {
		return nil, err
	}
	a := &activations{m: m, ref: ref, target: target, own: own}
	switch {
	case target == LocalOutput:
	case m == ref:
		a.dense, err = own.Clone(ctx)
	default:
		a.dense, err = ref.NewStates(ctx, windows)
	}
	if err != nil {
		own.Close()
		return nil, err
	}
	return a, nil
}

func (a *activations) close() {
	a.own.Close()
	if a.dense != nil {
		a.dense.Close()
	}
}

// innerMoments returns the moments of what enters the matrices of a module before its output matrix.
func (a *activations) innerMoments(ctx context.Context, layer int, module subnet.Module) (*decoder.Moments, error) {
	in, err := a.m.NormedInputs(ctx, layer, module, a.own)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return in.Moments(ctx)
}

// moduleInput is what enters the output matrix of one module.
type moduleInput struct {
	a        *activations
	layer    int
	module   subnet.Module
	own      *decoder.Inputs
	dense    *decoder.Inputs // nil unless the target is DenseOutput
	gap      int             // dropped layers behind the module that the dense stream is advanced past with it
	advanced bool            // the dense stream has been advanced past the module
}

// enter computes the inputs of a module's output matrix. From sub it uses the masks of the layer's query and key channels
// only.
func (a *activations) enter(ctx context.Context, layer int, module subnet.Module, sub *decoder.Subnet) (*moduleInput, error) {
	in := &moduleInput{a: a, layer: layer, module: module}
	var err error
	if in.own, err = a.m.OutputInputs(ctx, layer, module, sub, a.own); err != nil {
		return nil, err
	}
	if a.target == DenseOutput {
		if in.dense, err = a.ref.OutputInputs(ctx, layer, module, nil, a.dense); err != nil {
			in.own.Close()
			return nil, err
		}
	}
	return in, nil
}

func (in *moduleInput) close() {
	in.own.Close()
	if in.dense != nil {
		in.dense.Close()
	}
}

// moments computes what the output matrix w [out, in] is fitted to. With the target DenseResidual it advances the dense
// stream past the module.
func (in *moduleInput) moments(ctx context.Context, r Recipe, w []float32, out int, dense *decoder.Subnet) (Moments, error) {
	own, done, err := in.weigh(ctx, r, in.own)
	if err != nil {
		return Moments{}, err
	}
	defer done()
	mo, err := own.Moments(ctx)
	if err != nil {
		return Moments{}, err
	}
	local := Moments{Gram: mo.H, Mean: mo.Mean, Tokens: mo.Tokens}
	if r.Target == LocalOutput {
		return local, nil
	}
	reference, release, err := in.reference(ctx, r, dense)
	if err != nil {
		return Moments{}, err
	}
	defer release()
	cross, err := own.CrossMoments(ctx, reference)
	if err != nil {
		return Moments{}, err
	}
	w0 := linalg.Widen(w)
	second := r.Target == DenseOutput || r.Solve.Bias // the reference's own moments are needed, not only its energy
	by := algebra.Of(in.a.ref.Device())
	if err := local.complete(Problem{Out: out, In: mo.N, Algebra: by}, w0, second); err != nil {
		return Moments{}, err
	}
	other := Moments{Cross: cross.H, Energy: cross.Energy}
	if second {
		y, err := reference.Moments(ctx)
		if err != nil {
			return Moments{}, err
		}
		other.OutMean = y.Mean
		if r.Target == DenseOutput { // the dense module's outputs are w times its inputs
			mapped, err := by.Product(out, y.N, mo.N, w0, cross.H)
			if err != nil {
				return Moments{}, err
			}
			outputs, err := by.Product(out, y.N, y.N, w0, y.H)
			if err != nil {
				return Moments{}, err
			}
			other = Moments{Cross: mapped, Energy: linalg.Dot(outputs, w0), OutMean: linalg.ProductT(out, 1, y.N, w0, y.Mean)}
		}
	}
	return local.blend(r.blend(), other, w0), nil
}

// reference returns what the target is computed from: with DenseOutput the dense model's inputs of the matrix, with
// DenseResidual the residual, which is the dense model's hidden state after the module minus the subnet's before it.
// release closes what was created for it.
func (in *moduleInput) reference(ctx context.Context, r Recipe, dense *decoder.Subnet) (reference *decoder.Inputs, release func(), err error) {
	if r.Target == DenseOutput {
		return in.dense, func() {}, nil
	}
	if err := in.advanceDense(ctx, dense); err != nil {
		return nil, nil, err
	}
	residual, err := in.a.m.Difference(ctx, in.a.dense, in.a.own)
	if err != nil {
		return nil, nil, err
	}
	weighed, done, err := in.weigh(ctx, r, residual)
	if err != nil {
		residual.Close()
		return nil, nil, err
	}
	return weighed, func() { done(); residual.Close() }, nil
}

// advance moves both streams past the module.
func (in *moduleInput) advance(ctx context.Context, sub, dense *decoder.Subnet) error {
	if err := in.advanceDense(ctx, dense); err != nil {
		return err
	}
	return in.a.m.AddOutput(ctx, in.layer, in.module, sub, in.own, in.a.own)
}

// advanceDense moves the dense stream past the module, once.
func (in *moduleInput) advanceDense(ctx context.Context, dense *decoder.Subnet) error {
	if in.a.dense == nil || in.advanced {
		return nil
	}
	in.advanced = true
	if in.dense == nil {
		if err := in.a.ref.AdvanceBlock(ctx, in.layer, in.module, dense, in.a.dense); err != nil {
			return err
		}
		for layer := in.layer + 1; layer <= in.layer+in.gap; layer++ {
			for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
				if err := in.a.ref.AdvanceBlock(ctx, layer, module, dense, in.a.dense); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return in.a.ref.AddOutput(ctx, in.layer, in.module, dense, in.dense, in.a.dense)
}
