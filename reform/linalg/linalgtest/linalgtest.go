// Package linalgtest computes statistics for tests of what uses package linalg.
package linalgtest

import "github.com/lathe-llm/lathe/reform/linalg"

// SecondMoment returns xᵀx/rows, [n, n], for x [rows, n].
func SecondMoment(rows, n int, x []float64) []float64 {
	t := make([]float64, n*rows)
	for i := range rows {
		for j := range n {
			t[j*rows+i] = x[i*n+j]
		}
	}
	h := linalg.ProductT(n, n, rows, t, t)
	for i := range h {
		h[i] /= float64(rows)
	}
	return h
}
