package reform

import (
	"fmt"

	"github.com/lathe-llm/lathe/reform/gram"
)

// SolveNested re-fits one matrix for several widths at once: for each count the columns kept are the first so many of
// order, which names the columns that stay longest first. It is exact least squares at one ridge, a share of the mean
// diagonal of the whole Gram matrix. One factorization serves all widths, since a prefix of the order has a leading part of
// the factor. The columns of each result are in the order given; the bias options are not supported.
func SolveNested(p Problem, order, keep []int, lambda float64, pull bool) ([][]float32, []Result, error) {
	weights, results, err := solveNested(p, order, keep, lambda, pull)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	return weights, results, nil
}

func solveNested(p Problem, order, keep []int, lambda float64, pull bool) ([][]float32, []Result, error) {
	if err := p.check(order, Options{}); err != nil {
		return nil, nil, err
	}
	if len(order) != p.In {
		return nil, nil, fmt.Errorf("order of %d columns, the matrix has %d", len(order), p.In)
	}
	w0 := gram.Widen(p.W)
	p.Fit.complete(p, w0, false)
	all := newNormal(p, p.Fit, order, false)
	start := gram.Columns(w0, p.Out, p.In, order)
	f, taken, err := gram.Ridged(all.h, p.In, lambda)
	if err != nil {
		return nil, nil, err
	}
	ridge := taken * gram.MeanDiagonal(all.h, p.In)
	weights, results := make([][]float32, len(keep)), make([]Result, len(keep))
	for i, k := range keep {
		if k < 0 || k > p.In {
			return nil, nil, fmt.Errorf("%d columns kept of %d", k, p.In)
		}
		cols := order[:k]
		n := newNormal(p, p.Fit, cols, false)
		original := leading(start, p.Out, p.In, k)
		w := append([]float64(nil), n.c...)
		if pull {
			for j, v := range original {
				w[j] += ridge * v
			}
		}
		f.Leading(k).Solve(w, p.Out)
		weights[i] = gram.Narrow(w)
		results[i] = Result{ErrBefore: n.error(original), ErrAfter: n.error(w), Lambda: taken, Raised: taken > lambda}
	}
	return weights, results, nil
}

// leading returns the first k columns of a [rows, n].
func leading(a []float64, rows, n, k int) []float64 {
	out := make([]float64, 0, rows*k)
	for i := range rows {
		out = append(out, a[i*n:i*n+k]...)
	}
	return out
}
