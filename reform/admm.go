package reform

import "github.com/lathe-llm/lathe/reform/linalg"

// solveADMM computes the kept weights by the alternating direction method of arXiv 2409.17372:
//
//	W ← (C + λW⁰ + ρ(Z − U))·(H + λI + ρI)⁻¹   the weights, free
//	Z ← mask∘(W + U)                            the weights, without the dropped columns
//	U ← U + W − Z                               the running difference
//
// starting from W = Z = W⁰ and U = 0; the term λW⁰ applies with Options.Pull only. The matrix is the same in every
// step and is inverted once. Result.Curve is the relative error of Z after each step; its limit is the error of the exact
// solution. n is the problem's normal equations on the kept columns, with which errors are computed.
func solveADMM(p Problem, w0 []float64, kept []int, n *normal, lambda float64, o Options) ([]float64, Result, error) {
	rho, steps := o.Rho, o.Steps
	if rho == 0 {
		rho = DefaultRho
	}
	if steps == 0 {
		steps = DefaultSteps
	}
	all := make([]int, p.In)
	for i := range all {
		all[i] = i
	}
	full := newNormal(p, p.Fit, all, o.Bias)
	if p.HeldOut != nil {
		full = full.pooled(newNormal(p, *p.HeldOut, all, o.Bias))
	}
	scale := linalg.MeanDiagonal(n.h, n.k) // the exact solution's, so that both have the same limit
	if scale == 0 || n.k == 0 {
		return linalg.Columns(w0, p.Out, p.In, kept), Result{Lambda: lambda}, nil
	}
	f, err := linalg.Factorize(full.h, p.In, (lambda+rho)*scale)
	if err != nil {
		return nil, Result{}, err
	}
	inverse := f.Inverse()
	constant := append([]float64(nil), full.c...)
	if o.Pull {
		for i, v := range w0 {
			constant[i] += lambda * scale * v
		}
	}
	dropped := make([]bool, p.In)
	for i := range dropped {
		dropped[i] = true
	}
	for _, k := range kept {
		dropped[k] = false
	}

	r := Result{Lambda: lambda, Curve: make([]float64, 0, steps)}
	z := append([]float64(nil), w0...)
	u := make([]float64, len(w0))
	right := make([]float64, len(w0))
	for range steps {
		for i := range right {
			right[i] = constant[i] + rho*scale*(z[i]-u[i])
		}
		w := linalg.Product(p.Out, p.In, p.In, right, inverse)
		for i, v := range w {
			z[i] = v + u[i]
			if dropped[i%p.In] {
				z[i] = 0
			}
			u[i] += v - z[i]
		}
		r.Curve = append(r.Curve, n.error(linalg.Columns(z, p.Out, p.In, kept)))
	}
	return linalg.Columns(z, p.Out, p.In, kept), r, nil
}
