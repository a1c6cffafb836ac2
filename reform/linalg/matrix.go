package linalg

import (
	"fmt"
	"math"
)

// checkLen panics unless a slice has the length of its shape.
func checkLen(name string, s []float64, want int) {
	if len(s) != want {
		panic(fmt.Sprintf("linalg: %s has %d values, want %d", name, len(s), want))
	}
}

// CheckFinite returns ErrNotFinite, with the index, if a contains NaN or an infinite value.
func CheckFinite(a []float64) error {
	for i, v := range a {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("value %d is %v: %w", i, v, ErrNotFinite)
		}
	}
	return nil
}

// MeanDiagonal returns the mean of the diagonal of a [n, n]. Ridges are given as shares of it.
func MeanDiagonal(a []float64, n int) float64 {
	checkLen("a", a, n*n)
	var s float64
	for i := range n {
		s += a[i*n+i]
	}
	return s / float64(max(n, 1))
}

// Sub gathers rows and columns of a [n, n]: the result is [len(rows), len(cols)].
func Sub(a []float64, n int, rows, cols []int) []float64 {
	checkLen("a", a, n*n)
	out := make([]float64, len(rows)*len(cols))
	for i, r := range rows {
		gather(out[i*len(cols):(i+1)*len(cols)], a[r*n:(r+1)*n], cols)
	}
	return out
}

// Columns gathers columns of a [rows, n]: the result is [rows, len(cols)].
func Columns(a []float64, rows, n int, cols []int) []float64 {
	checkLen("a", a, rows*n)
	out := make([]float64, rows*len(cols))
	for i := range rows {
		gather(out[i*len(cols):(i+1)*len(cols)], a[i*n:(i+1)*n], cols)
	}
	return out
}

func gather(dst, src []float64, idx []int) {
	for i, j := range idx {
		dst[i] = src[j]
	}
}

// Widen converts to double precision.
func Widen(a []float32) []float64 {
	out := make([]float64, len(a))
	for i, v := range a {
		out[i] = float64(v)
	}
	return out
}

// Narrow converts to single precision.
func Narrow(a []float64) []float32 {
	out := make([]float32, len(a))
	for i, v := range a {
		out[i] = float32(v)
	}
	return out
}

// Dot returns the inner product of two slices of the same length.
func Dot(x, y []float64) float64 {
	checkLen("y", y, len(x))
	return dot(x, y)
}

// ColumnEnergies returns the squared norm of each column of a [rows, n].
func ColumnEnergies(a []float64, rows, n int) []float64 {
	checkLen("a", a, rows*n)
	out := make([]float64, n)
	for i := range rows {
		for j, v := range a[i*n : (i+1)*n] {
			out[j] += v * v
		}
	}
	return out
}
