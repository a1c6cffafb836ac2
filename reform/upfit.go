package reform

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
)

const (
	// UpWindows is the most windows, spread over the fitted text, that W_U is re-fitted on.
	UpWindows = 24
	// upPull is the strength of the pull of W_U toward the original in the metric of the preconditioner, as a share of the
	// error's curvature along the first step.
	upPull = 0.05
	// upRidge keeps the second moments of the MLP's inputs from being singular, as a share of their mean diagonal.
	upRidge = 0.01
)

// upFit re-fits W_U of an MLP's kept channels. Another W_D only mixes the kept channels, and functions of the input that only
// the dropped channels computed stay lost; another W_U changes the kept channels themselves. For given W_G and W_D, the output
// is linear in W_U. Conjugate gradients from the original W_U approach its least-squares fit without forming normal equations
// of some hundred thousand unknowns. The preconditioner is the curvature for independent gates and inputs,
// diag(E act(W_G·x̂)²·‖W_D column‖²) ⊗ E x̂x̂ᵀ, which is the approximation of K-FAC (arXiv 1503.05671).
type upFit struct {
	*moduleFit
	kept subnet.Set // channels
}

// run returns the re-fitted W_U [kept, hidden] and a W_D [hidden, kept] re-fitted to it, and updates the result. down is W_D
// re-fitted to the original W_U. Where the new weights are no better, run returns nil and down.
func (u *upFit) run(ctx context.Context, down []float32, r *Result) (up, wd []float32, err error) {
	if up, err = u.up(ctx, down); err != nil {
		return nil, nil, fmt.Errorf("W_U: %w", err)
	}
	p := Problem{Name: u.problem.Name, Out: u.problem.Out, In: u.kept.Len(), Algebra: u.problem.Algebra}
	w0 := linalg.Widen(u.problem.W)
	p.W = linalg.Narrow(linalg.Columns(w0, u.problem.Out, u.problem.In, u.kept.Indices()))
	if p.Fit, err = u.moments(ctx, u.fit, u.problem.Fit, w0, up); err != nil {
		return nil, nil, err
	}
	if u.held != nil {
		held, err := u.moments(ctx, u.held, *u.problem.HeldOut, w0, up)
		if err != nil {
			return nil, nil, err
		}
		p.HeldOut = &held
	}
	wd, after, err := solve(p, subnet.Full(p.In).Indices(), u.recipe.Solve)
	if err != nil {
		return nil, nil, err
	}
	if after.ErrAfter >= r.ErrAfter || after.HeldOut > r.HeldOut {
		return nil, down, nil
	}
	after.ErrBefore = r.ErrBefore
	*r = after
	return up, wd, nil
}

// moments computes what W_D is fitted to on one text, with the inputs that the re-fitted W_U gives. own are the moments with the
// original inputs of all channels.
func (u *upFit) moments(ctx context.Context, in *moduleInput, own Moments, w0 []float64, up []float32) (Moments, error) {
	mid, err := u.m.RefittedInputs(ctx, u.layer, u.kept, up, in.a.own)
	if err != nil {
		return Moments{}, err
	}
	defer mid.Close()
	all := in.own
	if u.recipe.relative() {
		if mid, err = mid.Relative(ctx); err != nil {
			return Moments{}, err
		}
		defer mid.Close()
		if all, err = all.Relative(ctx); err != nil {
			return Moments{}, err
		}
		defer all.Close()
	}
	mo, err := mid.Moments(ctx)
	if err != nil {
		return Moments{}, err
	}
	cross, err := mid.CrossMoments(ctx, all)
	if err != nil {
		return Moments{}, err
	}
	if err := own.complete(u.problem, w0, false); err != nil {
		return Moments{}, err
	}
	target := Moments{Gram: mo.H, Mean: mo.Mean, Tokens: mo.Tokens, Energy: own.Energy}
	if target.Cross, err = linalg.OrCPU(u.problem.Algebra).Product(u.problem.Out, mo.N, u.problem.In, w0, cross.H); err != nil {
		return Moments{}, err
	}
	if u.recipe.Target == LocalOutput {
		return target, nil
	}
	residual, release, err := in.reference(ctx, u.recipe, u.dense)
	if err != nil {
		return Moments{}, err
	}
	defer release()
	if cross, err = mid.CrossMoments(ctx, residual); err != nil {
		return Moments{}, err
	}
	target.Cross = mix(cross.H, target.Cross, u.recipe.blend())
	return target, nil
}

// up returns the re-fitted W_U [kept, hidden] for a given W_D [hidden, kept].
func (u *upFit) up(ctx context.Context, down []float32) ([]float32, error) {
	m, layer := u.m, u.layer
	all, dims, err := m.Weights(layer, "up")
	if err != nil {
		return nil, err
	}
	hidden := dims[1]
	var start []float32
	for _, c := range u.kept.Indices() {
		start = append(start, all[c*hidden:(c+1)*hidden]...)
	}
	problem, err := m.NewUpProblem(ctx, layer, u.kept, down, u.fit.own, u.recipe.relative(), spread(u.fit.a.own.Windows(), UpWindows))
	if err != nil {
		return nil, err
	}
	defer problem.Close()
	residual, energy, err := problem.Residual(ctx, start)
	if err != nil {
		return nil, err
	}
	pre, err := u.preconditioner(ctx, down, energy)
	if err != nil {
		return nil, err
	}
	defer pre.inputs.Close()
	var pull float64
	move, err := conjugateGradients(residual, pre.solve, u.recipe.UpSteps, func(direction, curved []float64) ([]float64, error) {
		out, err := problem.Apply(ctx, linalg.Narrow(direction))
		if err != nil {
			return nil, err
		}
		if pull == 0 {
			pull = upPull * linalg.Dot(direction, out) / linalg.Dot(direction, curved)
		}
		for i := range out {
			out[i] += pull * curved[i]
		}
		return out, nil
	})
	if err != nil {
		return nil, err
	}
	if err := linalg.CheckFinite(move); err != nil {
		return nil, err
	}
	for i := range start {
		start[i] += float32(move[i])
	}
	return start, nil
}

// preconditioner is diag(scale) ⊗ inputs.
type preconditioner struct {
	scale  []float64
	inputs linalg.Factored
}

// preconditioner computes the preconditioner from the second moments of the MLP's inputs. energy is E act(W_G·x̂)² of each kept
// channel.
func (u *upFit) preconditioner(ctx context.Context, down []float32, energy []float64) (*preconditioner, error) {
	in, err := u.m.NormedInputs(ctx, u.layer, subnet.MLP, u.fit.a.own)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	states := in
	if u.recipe.relative() {
		if states, err = in.Relative(ctx); err != nil {
			return nil, err
		}
		defer states.Close()
	}
	mo, err := states.Moments(ctx)
	if err != nil {
		return nil, err
	}
	p := &preconditioner{scale: make([]float64, len(energy))}
	mean := linalg.MeanDiagonal(mo.H, mo.N)
	if p.inputs, err = linalg.OrCPU(u.problem.Algebra).Factorize(mo.H, mo.N, upRidge*mean); err != nil {
		return nil, err
	}
	columns := linalg.ColumnEnergies(linalg.Widen(down), len(down)/len(energy), len(energy))
	var sum float64
	for i, e := range energy {
		p.scale[i] = e * columns[i]
		sum += p.scale[i]
	}
	for i := range p.scale { // keeps the steps of nearly silent channels bounded
		p.scale[i] = max(p.scale[i], 1e-6*sum/float64(len(p.scale)))
	}
	return p, nil
}

// solve divides a [kept, hidden] by the preconditioner.
func (p *preconditioner) solve(a []float64) ([]float64, error) {
	rows := len(p.scale)
	out := append([]float64(nil), a...)
	if err := p.inputs.Solve(out, rows); err != nil {
		return nil, err
	}
	n := len(a) / rows
	for i, s := range p.scale {
		for j := range out[i*n : (i+1)*n] {
			out[i*n+j] /= s
		}
	}
	return out, nil
}

// conjugateGradients approaches the solution x of A·x = b, from 0. precondition divides by the preconditioner; apply returns
// A·d for a direction d, and its second argument is the preconditioner times d.
func conjugateGradients(b []float64, precondition func([]float64) ([]float64, error), steps int, apply func(d, curved []float64) ([]float64, error)) ([]float64, error) {
	x := make([]float64, len(b))
	rest := append([]float64(nil), b...) // b − A·x
	z, err := precondition(rest)
	if err != nil {
		return nil, err
	}
	d, curved := append([]float64(nil), z...), append([]float64(nil), rest...)
	rz := linalg.Dot(rest, z)
	for range steps {
		if !(rz > 0) {
			break
		}
		ad, err := apply(d, curved)
		if err != nil {
			return nil, err
		}
		curvature := linalg.Dot(d, ad)
		if !(curvature > 0) {
			break
		}
		alpha := rz / curvature
		for i := range x {
			x[i] += alpha * d[i]
			rest[i] -= alpha * ad[i]
		}
		if z, err = precondition(rest); err != nil {
			return nil, err
		}
		next := linalg.Dot(rest, z)
		beta := next / rz
		for i := range d {
			d[i] = z[i] + beta*d[i]
			curved[i] = rest[i] + beta*curved[i]
		}
		rz = next
	}
	return x, nil
}

// spread returns evenly spaced indices below n, at most the given number.
func spread(n, most int) []int {
	most = min(n, most)
	out := make([]int, most)
	for i := range out {
		out[i] = i * n / most
	}
	return out
}
