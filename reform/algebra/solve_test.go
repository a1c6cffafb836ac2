package algebra_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/reform/algebra"
	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/reform/linalg/linalgtest"
)

// fitTolerance is by how much 32-bit weights of re-fits may differ, as a share of the largest: their own rounding.
const fitTolerance = 1e-6

// TestSolveOnDevice re-fits one matrix in all ways on the processor and on a device.
func TestSolveOnDevice(t *testing.T) {
	dev, err := decoder.OpenDevice("xla")
	if errors.Is(err, decoder.ErrNoDevice) {
		t.Skipf("without XLA: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	const out, in, tokens = 40, 70, 300
	rng := rand.New(rand.NewPCG(1, 2))
	moments := func() reform.Moments {
		x := make([]float64, tokens*in)
		for i := range x {
			x[i] = rng.NormFloat64() + 0.2
		}
		mean := make([]float64, in)
		for i, v := range x {
			mean[i%in] += v / tokens
		}
		return reform.Moments{Gram: linalgtest.SecondMoment(tokens, in, x), Mean: mean, Tokens: tokens}
	}
	held := moments()
	p := reform.Problem{W: make([]float32, out*in), Out: out, In: in, Fit: moments(), HeldOut: &held}
	for i := range p.W {
		p.W[i] = float32(rng.NormFloat64())
	}
	kept := rng.Perm(in)[:50]
	near := func(what string, got, want []float32) {
		t.Helper()
		var diff, size float64
		for i := range want {
			diff, size = max(diff, math.Abs(float64(got[i]-want[i]))), max(size, math.Abs(float64(want[i])))
		}
		if len(got) != len(want) || !(diff <= fitTolerance*size) {
			t.Errorf("%s: weights differ by %.2g of the largest", what, diff/size)
		}
	}
	on := func(by linalg.Algebra) reform.Problem { p := p; p.Algebra = by; return p }
	device := algebra.Whole(dev)
	for name, o := range map[string]reform.Options{
		"exact": {}, "exact, a ridge of several, pulled": {Lambdas: []float64{0.001, 0.01, 0.1}, Pull: true}, "with a bias": {Bias: true},
		"ADMM": {Method: reform.ADMM, Steps: 12}, "ADMM, pulled": {Method: reform.ADMM, Lambdas: []float64{0.1}, Pull: true, Steps: 5}, "none": {Method: reform.None},
	} {
		want, wantResult, err := reform.Solve(on(nil), kept, o)
		if err != nil {
			t.Fatal(err)
		}
		got, result, err := reform.Solve(on(device), kept, o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		near(name, got, want)
		near(name+": bias", result.Bias, wantResult.Bias)
		if math.Abs(result.ErrAfter-wantResult.ErrAfter) > fitTolerance || result.Lambda != wantResult.Lambda || len(result.Curve) != len(wantResult.Curve) {
			t.Errorf("%s: %+v, want %+v", name, result, wantResult)
		}
	}
	order := rng.Perm(in)
	want, wantLost, err := reform.SolveNested(on(nil), order, []int{in, 64, 31, 1, 0}, 0.01, true)
	if err != nil {
		t.Fatal(err)
	}
	got, lost, err := reform.SolveNested(on(device), order, []int{in, 64, 31, 1, 0}, 0.01, true)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		near("nested", got[i], want[i])
		if math.Abs(lost[i]-wantLost[i]) > fitTolerance {
			t.Errorf("nested: %g of the energy is lost, want %g", lost[i], wantLost[i])
		}
	}
}
