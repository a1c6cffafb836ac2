package linalgtest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/lathe-llm/lathe/reform/linalg"
)

// Sizes are widths on both sides of every block and tile of the kernels and of every border on a device.
var sizes = []int{1, 2, 25, 64, 65, 130, 300}

// The largest differences from gonum, relative to the largest number: 64-bit floats, and condition numbers of some hundreds.
const (
	productTolerance = 1e-12
	solveTolerance   = 1e-10
	// ADMM solves in every step, and its excess is a difference.
	admmTolerance = 1e-9
)

// Run checks an algebra against gonum, and its errors.
func Run(t *testing.T, by linalg.Algebra) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			checkProduct(t, by, rng, n)
			checkFactor(t, by, rng, n)
			checkADMM(t, by, rng, n)
		})
	}
	t.Run("refusals", func(t *testing.T) { checkRefusals(t, by) })
	t.Run("raised ridge", func(t *testing.T) {
		const n = 70
		ones := make([]float64, n*n)
		for i := range ones {
			ones[i] = 1
		}
		f, used, err := linalg.Ridged(by, ones, n, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if !(used > 0 && used < 1e-3) {
			t.Errorf("a matrix of rank 1 got the ridge %g", used)
		}
	})
}

func random(rng *rand.Rand, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = rng.NormFloat64()
	}
	return out
}

// compare fails where the largest difference of two slices, relative to the largest value, is more than a tolerance.
func compare(t *testing.T, what string, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	var diff, size float64
	for i := range want {
		if math.IsNaN(got[i]) {
			t.Fatalf("%s: value %d is NaN", what, i)
		}
		diff, size = max(diff, math.Abs(got[i]-want[i])), max(size, math.Abs(want[i]))
	}
	if diff > tolerance*max(size, 1e-300) {
		t.Errorf("%s differs by %.2g of the largest value", what, diff/size)
	}
}

func checkProduct(t *testing.T, by linalg.Algebra, rng *rand.Rand, m int) {
	t.Helper()
	n, k := sizes[rng.IntN(len(sizes))], sizes[rng.IntN(len(sizes))]
	a, b := random(rng, m*k), random(rng, k*n)
	var want mat.Dense
	want.Mul(mat.NewDense(m, k, a), mat.NewDense(k, n, b))
	got, err := by.Product(m, n, k, a, b)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, fmt.Sprintf("product %d×%d×%d", m, n, k), got, want.RawMatrix().Data, productTolerance)
}

// reference factors a + ridge·I by gonum.
func reference(t *testing.T, a []float64, n int, ridge float64) *mat.Cholesky {
	t.Helper()
	sym := mat.NewSymDense(n, append([]float64(nil), a...))
	for i := range n {
		sym.SetSym(i, i, sym.At(i, i)+ridge)
	}
	var chol mat.Cholesky
	if !chol.Factorize(sym) {
		t.Fatal("the reference does not factor")
	}
	return &chol
}

func checkFactor(t *testing.T, by linalg.Algebra, rng *rand.Rand, n int) {
	t.Helper()
	a := SecondMoment(2*n+3, n, random(rng, (2*n+3)*n))
	before := append([]float64(nil), a...)
	const ridge, rows = 0.01, 5
	f, err := by.Factorize(a, n, ridge)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	compare(t, "the factored matrix itself", a, before, 0)
	checkSolutions(t, "", f, reference(t, a, n, ridge), rng, n, rows)
	if k := n / 2; k > 0 {
		first := make([]int, k)
		for i := range first {
			first[i] = i
		}
		part, err := f.Leading(k)
		if err != nil {
			t.Fatal(err)
		}
		checkSolutions(t, "leading part's ", part, reference(t, linalg.Sub(a, n, first, first), k, ridge), rng, k, rows)
		part.Close()
	}
	checkSolutions(t, "after its leading part's, ", f, reference(t, a, n, ridge), rng, n, 1)
}

func checkSolutions(t *testing.T, what string, f linalg.Factored, chol *mat.Cholesky, rng *rand.Rand, n, rows int) {
	t.Helper()
	var inv mat.SymDense
	if err := chol.InverseTo(&inv); err != nil {
		t.Fatal(err)
	}
	inverse, err := f.Inverse()
	if err != nil {
		t.Fatal(err)
	}
	compare(t, what+"inverse", inverse, mat.DenseCopyOf(&inv).RawMatrix().Data, solveTolerance)
	b := random(rng, rows*n)
	var x mat.Dense
	if err := chol.SolveTo(&x, mat.NewDense(rows, n, b).T()); err != nil {
		t.Fatal(err)
	}
	want := mat.DenseCopyOf(x.T()).RawMatrix().Data
	whole, steps := append([]float64(nil), b...), append([]float64(nil), b...)
	if err := f.Solve(whole, rows); err != nil {
		t.Fatal(err)
	}
	compare(t, what+"solution", whole, want, solveTolerance)
	if err := f.SolveLower(steps, rows); err != nil {
		t.Fatal(err)
	}
	var l mat.TriDense
	chol.LTo(&l)
	var half mat.Dense
	if err := half.Solve(&l, mat.NewDense(rows, n, b).T()); err != nil {
		t.Fatal(err)
	}
	compare(t, what+"forward substitution", steps, mat.DenseCopyOf(half.T()).RawMatrix().Data, solveTolerance)
	if err := f.SolveUpper(steps, rows); err != nil {
		t.Fatal(err)
	}
	compare(t, what+"solution in two steps", steps, want, solveTolerance)
	if err := f.Solve(nil, 0); err != nil {
		t.Errorf("%sno rows: %v", what, err)
	}
}

// checkADMM compares with the iteration written out with gonum.
func checkADMM(t *testing.T, by linalg.Algebra, rng *rand.Rand, n int) {
	t.Helper()
	const rows, steps = 7, 5
	p := linalg.ADMM{
		Rows: rows, N: n, H: SecondMoment(2*n+3, n, random(rng, (2*n+3)*n)), C: random(rng, rows*n), Cross: random(rng, rows*n),
		Start: random(rng, rows*n), Dropped: make([]bool, n), Lambda: 0.02, Rho: 0.7, Steps: steps,
	}
	for j := range p.Dropped {
		p.Dropped[j] = rng.IntN(3) == 0
	}
	got, excess, err := by.ADMM(p)
	if err != nil {
		t.Fatal(err)
	}
	var inv mat.SymDense
	if err := reference(t, p.H, n, p.Lambda+p.Rho).InverseTo(&inv); err != nil {
		t.Fatal(err)
	}
	h, c, cross := mat.NewDense(n, n, p.H), mat.NewDense(rows, n, p.C), mat.NewDense(rows, n, p.Cross)
	z, u := mat.DenseCopyOf(mat.NewDense(rows, n, p.Start)), mat.NewDense(rows, n, nil)
	var want []float64
	for range steps {
		var right, w, zh mat.Dense
		right.Sub(z, u)
		right.Scale(p.Rho, &right)
		right.Add(c, &right)
		w.Mul(&right, &inv)
		w.Add(&w, u)
		z.Apply(func(_, j int, v float64) float64 {
			if p.Dropped[j] {
				return 0
			}
			return v
		}, &w)
		u.Sub(&w, z)
		zh.Mul(z, h)
		zh.MulElem(&zh, z)
		var zc mat.Dense
		zc.MulElem(z, cross)
		want = append(want, mat.Sum(&zh)-2*mat.Sum(&zc))
	}
	compare(t, "ADMM's weights", got, z.RawMatrix().Data, admmTolerance)
	compare(t, "ADMM's excess", excess, want, admmTolerance)
}

func checkRefusals(t *testing.T, by linalg.Algebra) {
	const n = 70
	eye := func(change func(a []float64)) []float64 {
		a := make([]float64, n*n)
		for i := range n {
			a[i*n+i] = 1
		}
		change(a)
		return a
	}
	tests := []struct {
		name  string
		a     []float64
		ridge float64
		want  error
	}{
		{"zero", make([]float64, n*n), 0, linalg.ErrNotPositive},
		{"zero with a ridge", make([]float64, n*n), 0.1, nil},
		{"indefinite", eye(func(a []float64) { a[1], a[n] = 2, 2 }), 0, linalg.ErrNotPositive},
		{"negative in the last row", eye(func(a []float64) { a[n*n-1] = -1 }), 0, linalg.ErrNotPositive},
		{"NaN", eye(func(a []float64) { a[n] = math.NaN() }), 0, linalg.ErrNotFinite},
		{"infinite", eye(func(a []float64) { a[0] = math.Inf(1) }), 0, linalg.ErrNotFinite},
		{"NaN as a ridge", eye(func([]float64) {}), math.NaN(), linalg.ErrNotFinite},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := by.Factorize(tt.a, n, tt.ridge)
			if err == nil {
				f.Close()
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			p := linalg.ADMM{
				Rows: 1, N: n, H: tt.a, C: make([]float64, n), Cross: make([]float64, n), Start: make([]float64, n), Dropped: make([]bool, n),
				Lambda: tt.ridge, Steps: 1,
			}
			if _, _, err := by.ADMM(p); !errors.Is(err, tt.want) {
				t.Errorf("ADMM: error %v, want %v", err, tt.want)
			}
		})
	}
}
