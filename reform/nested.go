package reform

import (
	"fmt"

	"github.com/lathe-llm/lathe/reform/linalg"
)

// SolveNested re-fits one matrix for several widths at once: for each k of keep, the kept columns are the first k of order,
// which lists all columns. It is exact least squares without a bias and with one ridge, a share of the mean diagonal of the
// whole Gram matrix. It returns, for each width, weights [Out, k] with columns in the given order, and the share of the
// outputs' energy that is lost.
//
// All widths share one factorization, since the factor of the first k columns is the leading part of the factor, and one
// forward substitution: with H + λI = L·Lᵀ and B = C + λW⁰, the first k columns of B·L⁻ᵀ depend only on the first k columns of
// B. The lost energy needs no product with H, since W·H = B − λW.
func SolveNested(p Problem, order, keep []int, lambda float64, pull bool) ([][]float32, []float64, error) {
	weights, lost, err := solveNested(p, order, keep, lambda, pull)
	if err != nil {
		return nil, nil, p.named(err)
	}
	return weights, lost, nil
}

func solveNested(p Problem, order, keep []int, lambda float64, pull bool) ([][]float32, []float64, error) {
	if err := p.check(order, Options{}); err != nil {
		return nil, nil, err
	}
	if len(order) != p.In {
		return nil, nil, fmt.Errorf("order of %d columns of a matrix with %d", len(order), p.In)
	}
	w0 := linalg.Widen(p.W)
	if err := p.Fit.complete(p, w0, false); err != nil {
		return nil, nil, err
	}
	all := newNormal(p, p.Fit, order, false)
	f, used, err := linalg.Ridged(all.by, all.h, p.In, lambda)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	ridge := used * linalg.MeanDiagonal(all.h, p.In)
	target := append([]float64(nil), all.c...) // B
	if pull {
		for i, v := range linalg.Columns(w0, p.Out, p.In, order) {
			target[i] += ridge * v
		}
	}
	forward := append([]float64(nil), target...)
	if err := f.SolveLower(forward, p.Out); err != nil {
		return nil, nil, err
	}
	weights, lost := make([][]float32, len(keep)), make([]float64, len(keep))
	for i, k := range keep {
		if k < 0 || k > p.In {
			return nil, nil, fmt.Errorf("%d columns to keep of %d", k, p.In)
		}
		w := leading(forward, p.Out, p.In, k)
		if err := solveLeading(f, k, w, p.Out); err != nil {
			return nil, nil, err
		}
		weights[i] = linalg.Narrow(w)
		if all.total > 0 {
			// E‖y − ŷ‖² is E‖y‖² + ⟨W·H, W⟩ − 2⟨C, W⟩.
			b, c := leading(target, p.Out, p.In, k), leading(all.c, p.Out, p.In, k)
			lost[i] = max(0, (all.energy+linalg.Dot(b, w)-ridge*linalg.Dot(w, w)-2*linalg.Dot(c, w))/all.total)
		}
	}
	return weights, lost, nil
}

// solveLeading replaces b [rows, k] by b·L⁻¹ for the first k rows and columns of a factor.
func solveLeading(f linalg.Factored, k int, b []float64, rows int) error {
	if k == 0 {
		return nil
	}
	part, err := f.Leading(k)
	if err != nil {
		return err
	}
	defer part.Close()
	return part.SolveUpper(b, rows)
}

// leading returns the first k columns of a [rows, n].
func leading(a []float64, rows, n, k int) []float64 {
	out := make([]float64, 0, rows*k)
	for i := range rows {
		out = append(out, a[i*n:i*n+k]...)
	}
	return out
}
