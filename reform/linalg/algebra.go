package linalg

import "errors"

// Algebra computes what grows with the cube of a matrix's width: on the processor with the kernels of this package ([CPU]), or on
// a device (package algebra). Both pass the suite of linalgtest. Arguments are not changed unless a comment says so.
type Algebra interface {
	// Name returns what computes: "go" for the kernels of this package, "xla" for a device.
	Name() string
	// Factorize factors a + ridge·I, of which it reads the lower half of a [n, n]. The errors are those of the function of that
	// name, and those of the device.
	Factorize(a []float64, n int, ridge float64) (Factored, error)
	// Product returns a·b for a [m, k] and b [k, n].
	Product(m, n, k int, a, b []float64) ([]float64, error)
	// ADMM runs the iteration and returns the last Z, [Rows, N], and after each step ⟨Z·H, Z⟩ − 2⟨Z, Cross⟩.
	ADMM(p ADMM) (z, excess []float64, err error)
}

// Factored is a Cholesky factor L [n, n] with L·Lᵀ = A.
type Factored interface {
	// Solve replaces b [rows, n] by b·A⁻¹, SolveLower by b·L⁻ᵀ and SolveUpper by b·L⁻¹.
	Solve(b []float64, rows int) error
	SolveLower(b []float64, rows int) error
	SolveUpper(b []float64, rows int) error
	// Inverse returns A⁻¹, [n, n].
	Inverse() ([]float64, error)
	// Leading returns the factor of the first k rows and columns of A. It is closed by itself.
	Leading(k int) (Factored, error)
	// Close frees the factor's memory on a device.
	Close()
}

// ADMM is the alternating direction method for weights of which some columns are dropped:
//
//	W ← (C + ρ(Z − U))·(H + λI + ρI)⁻¹   the weights, free
//	Z ← mask∘(W + U)                     the weights, without the dropped columns
//	U ← U + W − Z                        the running difference
//
// from Z = Start and U = 0.
type ADMM struct {
	Rows, N     int
	H           []float64 // [N, N], symmetric
	C           []float64 // [Rows, N]
	Cross       []float64 // [Rows, N], for the excess; it is C unless C contains a pull
	Start       []float64 // [Rows, N]
	Dropped     []bool    // [N]
	Lambda, Rho float64
	Steps       int
}

// Check panics unless the slices have the lengths of their shapes.
func (p ADMM) Check() {
	checkLen("h", p.H, p.N*p.N)
	checkLen("c", p.C, p.Rows*p.N)
	checkLen("cross", p.Cross, p.Rows*p.N)
	checkLen("start", p.Start, p.Rows*p.N)
	if len(p.Dropped) != p.N {
		panic("linalg: dropped has another length than the matrix is wide")
	}
}

// Ridged factors a + share·m·I by an algebra, where m is the mean of a's diagonal, or 1 for a matrix of zeros. Where that is not
// positive definite, share is raised tenfold, to at least leastShare, until it is. Ridged returns the share used.
func Ridged(by Algebra, a []float64, n int, share float64) (f Factored, used float64, err error) {
	scale := MeanDiagonal(a, n)
	if scale == 0 {
		scale = 1
	}
	f, err = by.Factorize(a, n, share*scale)
	for raises := 0; errors.Is(err, ErrNotPositive) && raises < maxRaises; raises++ {
		share = max(10*share, leastShare)
		f, err = by.Factorize(a, n, share*scale)
	}
	return f, share, err
}

// Inverse returns (a + share·m·I)⁻¹ for a [n, n], with share and m as [Ridged] has them.
func Inverse(by Algebra, a []float64, n int, share float64) ([]float64, error) {
	f, _, err := Ridged(by, a, n, share)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Inverse()
}

// OrCPU returns an algebra, [CPU] for nil.
func OrCPU(a Algebra) Algebra {
	if a == nil {
		return CPU{}
	}
	return a
}

// CPU is the algebra of this package's kernels.
type CPU struct{}

var _ Algebra = CPU{}

// Name returns "go".
func (CPU) Name() string { return "go" }

// Factorize implements [Algebra].
func (CPU) Factorize(a []float64, n int, ridge float64) (Factored, error) {
	f, err := Factorize(a, n, ridge)
	if err != nil {
		return nil, err
	}
	return cpuFactor{f}, nil
}

// Product implements [Algebra].
func (CPU) Product(m, n, k int, a, b []float64) ([]float64, error) {
	return Product(m, n, k, a, b), nil
}

// ADMM implements [Algebra]. The matrix is the same in every step and is inverted once.
func (CPU) ADMM(p ADMM) (z, excess []float64, err error) {
	p.Check()
	f, err := Factorize(p.H, p.N, p.Lambda+p.Rho)
	if err != nil {
		return nil, nil, err
	}
	inverse := f.Inverse()
	kept := make([]int, 0, p.N)
	for j, dropped := range p.Dropped {
		if !dropped {
			kept = append(kept, j)
		}
	}
	h, cross := Sub(p.H, p.N, kept, kept), Columns(p.Cross, p.Rows, p.N, kept)
	z = append([]float64(nil), p.Start...)
	u, right := make([]float64, len(z)), make([]float64, len(z))
	for range p.Steps {
		for i := range right {
			right[i] = p.C[i] + p.Rho*(z[i]-u[i])
		}
		w := Product(p.Rows, p.N, p.N, right, inverse)
		for i, v := range w {
			z[i] = v + u[i]
			if p.Dropped[i%p.N] {
				z[i] = 0
			}
			u[i] += v - z[i]
		}
		zk := Columns(z, p.Rows, p.N, kept)
		excess = append(excess, Dot(Product(p.Rows, len(kept), len(kept), zk, h), zk)-2*Dot(zk, cross))
	}
	return z, excess, nil
}

// cpuFactor is a Factor as a Factored.
type cpuFactor struct{ f *Factor }

func (f cpuFactor) Solve(b []float64, rows int) error      { f.f.Solve(b, rows); return nil }
func (f cpuFactor) SolveLower(b []float64, rows int) error { f.f.SolveLower(b, rows); return nil }
func (f cpuFactor) SolveUpper(b []float64, rows int) error { f.f.SolveUpper(b, rows); return nil }
func (f cpuFactor) Inverse() ([]float64, error)            { return f.f.Inverse(), nil }
func (f cpuFactor) Leading(k int) (Factored, error)        { return cpuFactor{f.f.Leading(k)}, nil }
func (f cpuFactor) Close()                                 {}
