package linalg

import (
	"errors"
	"fmt"
	"math"
)

// ErrNotPositive means that a matrix is not positive definite: it has no Cholesky factor.
var ErrNotPositive = errors.New("matrix is not positive definite")

// ErrNotFinite means that a matrix contains NaN or an infinite value.
var ErrNotFinite = errors.New("matrix is not finite")

// base is the largest size for which the recursions work element by element.
const base = 24

// Factor is the lower triangular L with L·Lᵀ = A + ridge·I.
type Factor struct {
	n, ld int
	l     []float64 // row i at i·ld; values above the diagonal are not used
}

// Factorize factors a + ridge·I. It reads the lower half of a [n, n] and does not change it.
func Factorize(a []float64, n int, ridge float64) (*Factor, error) {
	checkLen("a", a, n*n)
	f := &Factor{n: n, ld: n, l: make([]float64, n*n)}
	for i := range n {
		copy(f.l[i*n:i*n+i+1], a[i*n:i*n+i+1])
		f.l[i*n+i] += ridge
	}
	if err := CheckFinite(f.l); err != nil {
		return nil, err
	}
	if err := cholesky(n, view{data: f.l, ld: n}, 0); err != nil {
		return nil, err
	}
	return f, nil
}

const (
	leastShare = 1e-8
	maxRaises  = 12
)

// Lower returns L, [n, n], with zeros above its diagonal.
func (f *Factor) Lower() []float64 {
	out := make([]float64, f.n*f.n)
	for i := range f.n {
		copy(out[i*f.n:i*f.n+i+1], f.l[i*f.ld:])
	}
	return out
}

// Leading returns the factor of the first k rows and columns of the matrix, which shares the memory of f.
func (f *Factor) Leading(k int) *Factor { return &Factor{n: k, ld: f.ld, l: f.l} }

// Solve replaces b [rows, n] by b·A⁻¹: since A is symmetric, each row is the solution for one right-hand side.
func (f *Factor) Solve(b []float64, rows int) {
	checkLen("b", b, rows*f.n)
	bv, l := view{data: b, ld: f.n}, view{data: f.l, ld: f.ld}
	solveTransposed(rows, f.n, l, bv)
	solvePlain(rows, f.n, l, bv)
}

// SolveLower replaces b [rows, n] by b·L⁻ᵀ.
func (f *Factor) SolveLower(b []float64, rows int) {
	checkLen("b", b, rows*f.n)
	solveTransposed(rows, f.n, view{data: f.l, ld: f.ld}, view{data: b, ld: f.n})
}

// SolveUpper replaces b [rows, n] by b·L⁻¹. SolveLower and SolveUpper together are Solve.
func (f *Factor) SolveUpper(b []float64, rows int) {
	checkLen("b", b, rows*f.n)
	solvePlain(rows, f.n, view{data: f.l, ld: f.ld}, view{data: b, ld: f.n})
}

// Whiten returns L⁻¹·b for b [n, cols].
func (f *Factor) Whiten(b []float64, cols int) []float64 {
	checkLen("b", b, f.n*cols)
	t := transpose(f.n, cols, view{data: b, ld: cols}, 1)
	f.SolveLower(t, cols)
	return transpose(cols, f.n, view{data: t, ld: f.n}, 1)
}

// Inverse returns A⁻¹, [n, n].
func (f *Factor) Inverse() []float64 {
	n := f.n
	inv := make([]float64, n*n)
	for i := range n {
		copy(inv[i*n:i*n+i+1], f.l[i*f.ld:])
	}
	invert(n, view{data: inv, ld: n})
	out := make([]float64, n*n)
	iv := view{data: inv, ld: n}
	// A⁻¹ = L⁻ᵀ·L⁻¹ by block columns of L⁻¹ᵀ: rows above a block are zero and skipped.
	const block = 128
	for i := 0; i < n; i += block {
		m := min(block, n-i)
		product{m: m, n: i + m, k: n - i, sign: 1}.add(iv.at(i, i).t(), iv.at(i, 0), view{data: out, ld: n}.at(i, 0))
	}
	mirror(out, n)
	return out
}

// cholesky factors the lower half of a [n, n] in place. first is the row of a in the whole matrix.
func cholesky(n int, a view, first int) error {
	if n <= base {
		for i := range n {
			ri := a.data[i*a.ld:]
			for j := range i {
				rj := a.data[j*a.ld:]
				ri[j] = (ri[j] - dot(ri[:j], rj[:j])) / rj[j]
			}
			d := ri[i] - dot(ri[:i], ri[:i])
			if !(d > 0) {
				return fmt.Errorf("pivot %d is %.3g: %w", first+i, d, ErrNotPositive)
			}
			ri[i] = math.Sqrt(d)
		}
		return nil
	}
	h := half(n)
	if err := cholesky(h, a, first); err != nil {
		return err
	}
	below, right := a.at(h, 0), a.at(h, h)
	solveTransposed(n-h, h, a, below)
	product{m: n - h, n: n - h, k: h, sign: -1, part: lower}.add(below, below.t(), right)
	return cholesky(n-h, right, first+h)
}

// solveTransposed replaces b [m, n] by b·L⁻ᵀ.
func solveTransposed(m, n int, l, b view) {
	if n <= base {
		for i := range m {
			row := b.data[i*b.ld : i*b.ld+n]
			for j := range row {
				lj := l.data[j*l.ld:]
				row[j] = (row[j] - dot(row[:j], lj[:j])) / lj[j]
			}
		}
		return
	}
	h := half(n)
	solveTransposed(m, h, l, b)
	product{m: m, n: n - h, k: h, sign: -1}.add(b, l.at(h, 0).t(), b.at(0, h))
	solveTransposed(m, n-h, l.at(h, h), b.at(0, h))
}

// solvePlain replaces b [m, n] by b·L⁻¹.
func solvePlain(m, n int, l, b view) {
	if n <= base {
		for i := range m {
			row := b.data[i*b.ld : i*b.ld+n]
			for j := n - 1; j >= 0; j-- {
				lj := l.data[j*l.ld : j*l.ld+j+1]
				row[j] /= lj[j]
				for q := range j {
					row[q] -= row[j] * lj[q]
				}
			}
		}
		return
	}
	h := half(n)
	solvePlain(m, n-h, l.at(h, h), b.at(0, h))
	product{m: m, n: h, k: n - h, sign: -1}.add(b.at(0, h), l.at(h, 0), b)
	solvePlain(m, h, l, b)
}

// invert replaces the lower triangular a [n, n] by its inverse.
func invert(n int, a view) {
	if n <= base {
		for j := range n {
			a.data[j*a.ld+j] = 1 / a.data[j*a.ld+j]
			for i := j + 1; i < n; i++ {
				var s float64
				for q := j; q < i; q++ {
					s += a.data[i*a.ld+q] * a.data[q*a.ld+j]
				}
				a.data[i*a.ld+j] = -s / a.data[i*a.ld+i]
			}
		}
		return
	}
	// [L1 0; L2 L3]⁻¹ = [L1⁻¹ 0; −L3⁻¹·L2·L1⁻¹ L3⁻¹]
	h := half(n)
	below := a.at(h, 0)
	solvePlain(n-h, h, a, below)
	invert(h, a)
	// L3⁻¹·X is Xᵀ·L3⁻ᵀ transposed.
	flipped := transpose(n-h, h, below, -1)
	solveTransposed(h, n-h, a.at(h, h), view{data: flipped, ld: n - h})
	for i := range n - h {
		for j := range h {
			below.data[i*below.ld+j] = flipped[j*(n-h)+i]
		}
	}
	invert(n-h, a.at(h, h))
}

// transpose returns sign·aᵀ, [n, m], for a [m, n].
func transpose(m, n int, a view, sign float64) []float64 {
	t := make([]float64, n*m)
	for i := range m {
		for j, v := range a.data[i*a.ld : i*a.ld+n] {
			t[j*m+i] = sign * v
		}
	}
	return t
}

// half returns where a matrix of order n is split, a multiple of the tile size.
func half(n int) int { return roundUp(n/2, tileCols) }
