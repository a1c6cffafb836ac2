// Package algebra is the linear algebra of package linalg on a device: Cholesky factors, triangular solutions, products and ADMM as
// XLA programs in 64-bit floats.
//
// [Of] returns what the re-fits of a model use: the device where it is set to compute it, the processor's kernels otherwise. Both pass
// the suite of package linalgtest. GoMLX's graphs have no such operations, so the programs are StableHLO text (programs.go).
//
// A matrix is copied to the device with a border of zeros, with ones on the diagonal where it is factored, up to a multiple of a
// sixteenth to a thirty-second of its width, so that models of uneven widths need few programs: each is compiled once per device. Small
// matrices stay on the processor.
package algebra

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// Of returns the algebra that a device is set to: see decoder.Device.Algebra.
func Of(dev *decoder.Device) linalg.Algebra {
	if !dev.Algebra() {
		return linalg.CPU{}
	}
	return device{dev: dev, small: smallWork}
}

// smallWork is up to how many multiplications the processor computes: copying takes longer than they do.
const smallWork = 1 << 24

// least is the least width of a matrix on the device.
const least = 64

// device is the algebra on a device.
type device struct {
	dev   *decoder.Device
	small int // multiplications
}

var _ linalg.Algebra = device{}

// Name implements [linalg.Algebra].
func (device) Name() string { return "xla" }

// padded returns the width on the device of a matrix of width n.
func padded(n int) int {
	grain := max(least, 1<<max(bits.Len(uint(n))-5, 0))
	return max((n+grain-1)/grain*grain, least)
}

// border returns a [rows, columns] in the corner of a matrix [r, c], with zeros elsewhere.
func border(a []float64, rows, columns, r, c int) []float64 {
	if rows == r && columns == c {
		return a
	}
	out := make([]float64, r*c)
	for i := range rows {
		copy(out[i*c:], a[i*columns:(i+1)*columns])
	}
	return out
}

// corner copies the corner [rows, columns] of a matrix with c columns to out.
func corner(out, a []float64, rows, columns, c int) {
	for i := range rows {
		copy(out[i*columns:(i+1)*columns], a[i*c:])
	}
}

// run runs a program on matrices and numbers, and frees them.
func (d device) run(name string, text func() string, args ...*decoder.Array) ([]*decoder.Array, error) {
	defer closeAll(args)
	for _, a := range args {
		if a == nil {
			return nil, fmt.Errorf("%s: an argument is missing", name)
		}
	}
	return d.dev.Program(name, text, args...)
}

func closeAll(all []*decoder.Array) {
	for _, a := range all {
		a.Close()
	}
}

// batch copies arguments to the device until one fails.
type batch struct {
	d    device
	args []*decoder.Array
	err  error
}

func (b *batch) put(data []float64, dims ...int) {
	if b.err != nil {
		return
	}
	a, err := b.d.dev.Put(data, dims...)
	if err != nil {
		b.err = err
		return
	}
	b.args = append(b.args, a)
}

// run runs a program on the arguments, and frees them.
func (b *batch) run(name string, text func() string) ([]*decoder.Array, error) {
	if b.err != nil {
		closeAll(b.args)
		return nil, b.err
	}
	return b.d.run(name, text, b.args...)
}

// fetch copies the corner [rows, columns] of an array with r rows and c columns to the host and frees it.
func fetch(a *decoder.Array, rows, columns, r, c int) ([]float64, error) {
	defer a.Close()
	all := make([]float64, r*c)
	if err := a.Get(all); err != nil {
		return nil, err
	}
	if rows == r && columns == c {
		return all, nil
	}
	out := make([]float64, rows*columns)
	corner(out, all, rows, columns, c)
	return out, nil
}

// Product implements [linalg.Algebra].
func (d device) Product(m, n, k int, a, b []float64) ([]float64, error) {
	if m*n*k <= d.small {
		return linalg.CPU{}.Product(m, n, k, a, b)
	}
	pm, pn, pk := padded(m), padded(n), padded(k)
	p := batch{d: d}
	p.put(border(a, m, k, pm, pk), pm, pk)
	p.put(border(b, k, n, pk, pn), pk, pn)
	out, err := p.run(fmt.Sprintf("product %d %d %d", pm, pn, pk), func() string { return productText(pm, pn, pk) })
	if err != nil {
		return nil, err
	}
	return fetch(out[0], m, n, pm, pn)
}

// positive returns linalg.ErrNotPositive unless the least pivot of a factor, which it frees, is a positive number.
func positive(pivot *decoder.Array) error {
	defer pivot.Close()
	var v [1]float64
	if err := pivot.Get(v[:]); err != nil {
		return err
	}
	if !(v[0] > 0) || math.IsInf(v[0], 0) {
		return fmt.Errorf("the least pivot is %.3g: %w", v[0], linalg.ErrNotPositive)
	}
	return nil
}

// square returns a symmetric matrix with a border of zeros, and of ones on the diagonal. Its entries must be finite.
func square(a []float64, n, p int) ([]float64, error) {
	if len(a) != n*n {
		panic(fmt.Sprintf("algebra: %d values, want %d×%d", len(a), n, n))
	}
	for i := range n {
		if err := linalg.CheckFinite(a[i*n : i*n+i+1]); err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
	}
	out := border(a, n, n, p, p)
	for i := n; i < p; i++ {
		out[i*p+i] = 1
	}
	return out, nil
}

// Factorize implements [linalg.Algebra].
func (d device) Factorize(a []float64, n int, ridge float64) (linalg.Factored, error) {
	if n*n*n/3 <= d.small {
		return linalg.CPU{}.Factorize(a, n, ridge)
	}
	p := padded(n)
	s, err := square(a, n, p)
	if err != nil {
		return nil, err
	}
	if err := linalg.CheckFinite([]float64{ridge}); err != nil {
		return nil, err
	}
	b := batch{d: d}
	b.put(s, p, p)
	b.put([]float64{ridge})
	out, err := b.run(fmt.Sprintf("factor %d", p), func() string { return factorText(p) })
	if err != nil {
		return nil, err
	}
	if err := positive(out[1]); err != nil {
		out[0].Close()
		return nil, err
	}
	return &factor{d: d, l: out[0], n: n, p: p}, nil
}

// factor is a Cholesky factor on a device, with a border.
type factor struct {
	d    device
	l    *decoder.Array // [p, p]
	n, p int
}

func (f *factor) Close() { f.l.Close() }

// Solve implements [linalg.Factored].
func (f *factor) Solve(b []float64, rows int) error { return f.solve("solve", b, rows) }

// SolveLower implements [linalg.Factored].
func (f *factor) SolveLower(b []float64, rows int) error { return f.solve("lower", b, rows) }

// SolveUpper implements [linalg.Factored].
func (f *factor) SolveUpper(b []float64, rows int) error { return f.solve("upper", b, rows) }

func (f *factor) solve(kind string, b []float64, rows int) error {
	if len(b) != rows*f.n {
		panic(fmt.Sprintf("algebra: %d values, want %d×%d", len(b), rows, f.n))
	}
	if rows == 0 {
		return nil
	}
	r, p := padded(rows), f.p
	right, err := f.d.dev.Put(border(b, rows, f.n, r, p), r, p)
	if err != nil {
		return err
	}
	defer right.Close()
	out, err := f.d.dev.Program(fmt.Sprintf("%s %d %d", kind, r, p), func() string { return solveText(kind, r, p) }, f.l, right)
	if err != nil {
		return err
	}
	x, err := fetch(out[0], rows, f.n, r, p)
	if err != nil {
		return err
	}
	copy(b, x)
	return nil
}

// Inverse implements [linalg.Factored].
func (f *factor) Inverse() ([]float64, error) {
	out, err := f.d.dev.Program(fmt.Sprintf("inverse %d", f.p), func() string { return inverseText(f.p) }, f.l)
	if err != nil {
		return nil, err
	}
	return fetch(out[0], f.n, f.n, f.p, f.p)
}

// Leading implements [linalg.Factored].
func (f *factor) Leading(k int) (linalg.Factored, error) {
	p := padded(k)
	width, err := f.d.dev.Put([]float64{float64(k)})
	if err != nil {
		return nil, err
	}
	defer width.Close()
	out, err := f.d.dev.Program(fmt.Sprintf("leading %d %d", f.p, p), func() string { return leadingText(f.p, p) }, f.l, width)
	if err != nil {
		return nil, err
	}
	return &factor{d: f.d, l: out[0], n: k, p: p}, nil
}

// ADMM implements [linalg.Algebra].
func (d device) ADMM(a linalg.ADMM) (z, excess []float64, err error) {
	a.Check()
	if a.Rows == 0 || a.Steps == 0 || a.N*a.N*(a.N+a.Rows*a.Steps) <= d.small {
		return linalg.CPU{}.ADMM(a)
	}
	if err := linalg.CheckFinite([]float64{a.Lambda + a.Rho}); err != nil {
		return nil, nil, err
	}
	r, p := padded(a.Rows), padded(a.N)
	h, err := square(a.H, a.N, p)
	if err != nil {
		return nil, nil, err
	}
	keep := make([]float64, p)
	for j, dropped := range a.Dropped {
		if !dropped {
			keep[j] = 1
		}
	}
	b := batch{d: d}
	b.put(h, p, p)
	for _, m := range [][]float64{a.C, a.Cross, a.Start} {
		b.put(border(m, a.Rows, a.N, r, p), r, p)
	}
	b.put(keep, p)
	b.put([]float64{a.Lambda + a.Rho})
	b.put([]float64{a.Rho})
	out, err := b.run(fmt.Sprintf("admm %d %d %d", r, p, a.Steps), func() string { return admmText(r, p, a.Steps) })
	if err != nil {
		return nil, nil, err
	}
	if err := positive(out[2]); err != nil {
		closeAll(out[:2])
		return nil, nil, err
	}
	if excess, err = fetch(out[1], 1, a.Steps, 1, a.Steps); err != nil {
		out[0].Close()
		return nil, nil, err
	}
	z, err = fetch(out[0], a.Rows, a.N, r, p)
	return z, excess, err
}
