package reform

import "github.com/lathe-llm/lathe/reform/linalg"

// solveADMM computes the kept weights by the alternating direction method of arXiv 2409.17372, which is [linalg.ADMM] from the original
// weights W⁰ with C + λW⁰ for C where Options.Pull is set. Result.Curve is the relative error of Z after each step; its limit is
// the error of the exact solution. n is the problem's normal equations on the kept columns, with which errors are computed.
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
	constant := full.c
	if o.Pull {
		constant = append([]float64(nil), full.c...)
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
	z, excess, err := n.by.ADMM(linalg.ADMM{
		Rows: p.Out, N: p.In, H: full.h, C: constant, Cross: full.c, Start: w0, Dropped: dropped, Lambda: lambda * scale, Rho: rho * scale, Steps: steps,
	})
	if err != nil {
		return nil, Result{}, err
	}
	r := Result{Lambda: lambda, Curve: make([]float64, len(excess))}
	if n.total > 0 {
		for i, e := range excess {
			r.Curve[i] = n.share(e)
		}
	}
	return linalg.Columns(z, p.Out, p.In, kept), r, nil
}
