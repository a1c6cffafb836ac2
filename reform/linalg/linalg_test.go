package linalg

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
)

func random(rng *rand.Rand, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = rng.NormFloat64()
	}
	return out
}

// secondMoment returns xᵀx/rows for x [rows, n].
func secondMoment(rows, n int, x []float64) []float64 {
	var h mat.Dense
	h.Mul(mat.NewDense(rows, n, x).T(), mat.NewDense(rows, n, x))
	h.Scale(1/float64(rows), &h)
	return h.RawMatrix().Data
}

// maxDiff returns the largest difference of two slices, relative to the largest value.
func maxDiff(t *testing.T, got, want []float64) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	var diff, size float64
	for i := range want {
		diff, size = max(diff, math.Abs(got[i]-want[i])), max(size, math.Abs(want[i]))
	}
	if size == 0 {
		return diff
	}
	return diff / size
}

func first(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// Sizes on both sides of every block and tile size.
var sizes = []int{1, 2, 7, 8, 9, 23, 24, 25, 48, 97, 130, 300, 517}

func TestProducts(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, m := range sizes {
		n, k := sizes[rng.IntN(len(sizes))], sizes[rng.IntN(len(sizes))]
		a, b := random(rng, m*k), random(rng, k*n)
		var want mat.Dense
		want.Mul(mat.NewDense(m, k, a), mat.NewDense(k, n, b))
		if d := maxDiff(t, Product(m, n, k, a, b), want.RawMatrix().Data); d > 1e-13 {
			t.Errorf("Product %dx%dx%d: differs by %.2g", m, n, k, d)
		}
		bt := random(rng, n*k)
		want.Reset()
		want.Mul(mat.NewDense(m, k, a), mat.NewDense(n, k, bt).T())
		if d := maxDiff(t, ProductT(m, n, k, a, bt), want.RawMatrix().Data); d > 1e-13 {
			t.Errorf("ProductT %dx%dx%d: differs by %.2g", m, n, k, d)
		}
	}
}

func TestFactor(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			a := secondMoment(2*n+3, n, random(rng, (2*n+3)*n))
			const ridge = 0.01
			f, err := Factorize(a, n, ridge)
			if err != nil {
				t.Fatal(err)
			}
			sym := mat.NewSymDense(n, append([]float64(nil), a...))
			for i := range n {
				sym.SetSym(i, i, sym.At(i, i)+ridge)
			}
			var chol mat.Cholesky
			if !chol.Factorize(sym) {
				t.Fatal("reference does not factor")
			}
			var inv mat.SymDense
			if err := chol.InverseTo(&inv); err != nil {
				t.Fatal(err)
			}
			if d := maxDiff(t, f.Inverse(), mat.DenseCopyOf(&inv).RawMatrix().Data); d > 1e-10 {
				t.Errorf("inverse differs by %.2g", d)
			}
			const rows = 5
			b := random(rng, rows*n)
			var x mat.Dense
			if err := chol.SolveTo(&x, mat.NewDense(rows, n, b).T()); err != nil {
				t.Fatal(err)
			}
			if k := n / 2; k > 0 {
				part, err := Factorize(Sub(a, n, first(k), first(k)), k, ridge)
				if err != nil {
					t.Fatal(err)
				}
				got, want := append([]float64(nil), b[:rows*k]...), append([]float64(nil), b[:rows*k]...)
				f.Leading(k).Solve(got, rows)
				part.Solve(want, rows)
				if d := maxDiff(t, got, want); d > 1e-10 {
					t.Errorf("leading part's solution differs by %.2g", d)
				}
				if d := maxDiff(t, f.Leading(k).Inverse(), part.Inverse()); d > 1e-10 {
					t.Errorf("leading part's inverse differs by %.2g", d)
				}
			}
			f.Solve(b, rows)
			if d := maxDiff(t, b, mat.DenseCopyOf(x.T()).RawMatrix().Data); d > 1e-10 {
				t.Errorf("solution differs by %.2g", d)
			}
		})
	}
}

func TestFactorizeRefuses(t *testing.T) {
	tests := []struct {
		name  string
		a     []float64
		ridge float64
		want  error
	}{
		{"singular", []float64{1, 1, 1, 1}, 0, ErrNotPositive},
		{"singular with a ridge", []float64{1, 1, 1, 1}, 0.1, nil},
		{"zero", make([]float64, 4), 0, ErrNotPositive},
		{"indefinite", []float64{1, 2, 2, 1}, 0, ErrNotPositive},
		{"NaN", []float64{1, 0, math.NaN(), 1}, 0, ErrNotFinite},
		{"infinite", []float64{math.Inf(1), 0, 0, 1}, 0, ErrNotFinite},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := Factorize(tt.a, 2, tt.ridge); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestKernelMatchesPlain(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, k := range []int{1, 2, 63, 256} {
		for _, ld := range []int{tileCols, 19} {
			a, b, want := random(rng, k*tileRows), random(rng, k*tileCols), random(rng, tileRows*ld)
			got := slices.Clone(want)
			kernel(k, a, b, got, ld)
			kernelPlain(k, a, b, want, ld)
			if d := maxDiff(t, got, want); d > 1e-13 {
				t.Errorf("depth %d, rows %d apart: differs by %.2g", k, ld, d)
			}
		}
	}
	for n := range 40 {
		x, y := random(rng, n), random(rng, n)
		if d := math.Abs(dot(x, y) - dotPlain(x, y)); d > 1e-13 {
			t.Errorf("dot of %d: differs by %.2g", n, d)
		}
	}
}

func BenchmarkProduct(b *testing.B) {
	const n = 1024
	x := random(rand.New(rand.NewPCG(7, 8)), n*n)
	for b.Loop() {
		Product(n, n, n, x, x)
	}
	b.ReportMetric(2*n*n*n*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}

func BenchmarkFactor(b *testing.B) {
	const n = 1536
	a := secondMoment(n, n, random(rand.New(rand.NewPCG(9, 10)), n*n))
	b.Run("factorize", func(b *testing.B) {
		for b.Loop() {
			if _, err := Factorize(a, n, 0.01); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(n*n*n/3*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	})
	f, err := Factorize(a, n, 0.01)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("inverse", func(b *testing.B) {
		for b.Loop() {
			f.Inverse()
		}
		b.ReportMetric(2*n*n*n/3*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	})
	b.Run("solve576", func(b *testing.B) {
		const rows = 576
		x := random(rand.New(rand.NewPCG(11, 12)), rows*n)
		for b.Loop() {
			f.Solve(x, rows)
		}
		b.ReportMetric(2*rows*n*n*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
	})
}
