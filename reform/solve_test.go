package reform

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/reform/linalg/linalgtest"
)

// sample is text as one matrix sees it: inputs [tokens, in] that are correlated and not centred.
type sample struct {
	tokens, in int
	x          *mat.Dense
}

func newSample(rng *rand.Rand, tokens, in int) sample {
	mix := mat.NewDense(in, in, nil)
	mixRNG := rand.New(rand.NewPCG(11, uint64(in))) // the same mixture for every sample of a width
	for i := range in {
		for j := range in {
			mix.Set(i, j, mixRNG.NormFloat64()/math.Sqrt(1+float64(j)))
		}
	}
	z := mat.NewDense(tokens, in, nil)
	z.Apply(func(_, j int, _ float64) float64 { return rng.NormFloat64() + 0.3*float64(j%3) }, z)
	var x mat.Dense
	x.Mul(z, mix)
	return sample{tokens, in, &x}
}

func (s sample) moments() Moments {
	t := Moments{Tokens: s.tokens, Mean: make([]float64, s.in)}
	t.Gram = linalgtest.SecondMoment(s.tokens, s.in, s.x.RawMatrix().Data)
	for i := range s.tokens {
		for j := range s.in {
			t.Mean[j] += s.x.At(i, j) / float64(s.tokens)
		}
	}
	return t
}

func weights(rng *rand.Rand, n int) []float32 {
	w := make([]float32, n)
	for i := range w {
		w[i] = float32(rng.NormFloat64())
	}
	return w
}

// leastSquares is the reference: min over V of ‖Y − X_K·Vᵀ‖²/tokens + ridge·‖V − prior‖² by QR of the stacked system. With
// bias a constant-one column without a ridge is added, whose weights come last.
func leastSquares(t *testing.T, x *mat.Dense, y mat.Matrix, kept []int, ridge float64, prior *mat.Dense, bias bool) *mat.Dense {
	t.Helper()
	tokens, _ := x.Dims()
	_, out := y.Dims()
	k := len(kept)
	cols := k
	if bias {
		cols++
	}
	a, b := mat.NewDense(tokens+k, cols, nil), mat.NewDense(tokens+k, out, nil)
	scale := 1 / math.Sqrt(float64(tokens))
	for i := range tokens {
		for j, c := range kept {
			a.Set(i, j, scale*x.At(i, c))
		}
		if bias {
			a.Set(i, k, scale)
		}
		for o := range out {
			b.Set(i, o, scale*y.At(i, o))
		}
	}
	for j := range k {
		a.Set(tokens+j, j, math.Sqrt(ridge))
		for o := range out {
			if prior != nil {
				b.Set(tokens+j, o, math.Sqrt(ridge)*prior.At(o, j))
			}
		}
	}
	var qr mat.QR
	qr.Factorize(a)
	var v mat.Dense
	if err := qr.SolveTo(&v, false, b); err != nil {
		t.Fatal(err)
	}
	return mat.DenseCopyOf(v.T())
}

func relativeError(s sample, y mat.Matrix, kept []int, w []float32, bias []float32) float64 {
	_, out := y.Dims()
	var num, den float64
	for i := range s.tokens {
		for o := range out {
			var got float64
			if bias != nil {
				got = float64(bias[o])
			}
			for j, c := range kept {
				got += float64(w[o*len(kept)+j]) * s.x.At(i, c)
			}
			num += (y.At(i, o) - got) * (y.At(i, o) - got)
			den += y.At(i, o) * y.At(i, o)
		}
	}
	return num / den
}

func near(t *testing.T, name string, got, want, tolerance float64) {
	t.Helper()
	if math.Abs(got-want) > tolerance*(1+math.Abs(want)) {
		t.Errorf("%s is %.9g, want %.9g within %g", name, got, want, tolerance)
	}
}

func TestExactAgainstQR(t *testing.T) {
	const tokens, in, out = 200, 40, 12
	rng := rand.New(rand.NewPCG(1, 1))
	s := newSample(rng, tokens, in)
	w := weights(rng, out*in)
	w0 := mat.NewDense(out, in, linalg.Widen(w))
	var original mat.Dense
	original.Mul(s.x, w0.T())
	other := mat.NewDense(tokens, out, nil) // outputs other than those of the original weights
	other.Apply(func(_, _ int, v float64) float64 { return v + 0.5 + rng.NormFloat64() }, &original)
	kept := []int{3, 0, 7, 8, 9, 20, 21, 22, 30, 39, 17}
	prior := mat.NewDense(out, len(kept), linalg.Columns(linalg.Widen(w), out, in, kept))

	for _, pull := range []bool{false, true} {
		for _, bias := range []bool{false, true} {
			for _, cross := range []bool{false, true} {
				target, y := s.moments(), mat.Matrix(&original)
				if cross {
					y = other
					var c mat.Dense
					c.Mul(other.T(), s.x)
					c.Scale(1.0/tokens, &c)
					target.Cross, target.OutMean = c.RawMatrix().Data, make([]float64, out)
					for i := range tokens {
						for o := range out {
							target.Energy += other.At(i, o) * other.At(i, o) / tokens
							target.OutMean[o] += other.At(i, o) / tokens
						}
					}
				}
				got, r, err := Solve(Problem{Name: "test", W: w, Out: out, In: in, Fit: target}, kept,
					Options{Lambdas: []float64{0.05}, Pull: pull, Bias: bias})
				if err != nil {
					t.Fatal(err)
				}
				// The ridge is a share of the mean diagonal of what is solved: the kept, centred Gram matrix.
				n := newNormal(Problem{In: in, Out: out}, complete(target, w, in, out), kept, bias)
				ridge := 0.05 * linalg.MeanDiagonal(n.h, len(kept))
				reference := prior
				if !pull {
					reference = nil
				}
				want := leastSquares(t, s.x, y, kept, ridge, reference, bias)
				for o := range out {
					for j := range kept {
						near(t, "weight", float64(got[o*len(kept)+j]), want.At(o, j), 2e-6)
					}
					if bias {
						near(t, "bias", float64(r.Bias[o]), want.At(o, len(kept)), 1e-5)
					}
				}
				near(t, "error after", r.ErrAfter, relativeError(s, y, kept, got, r.Bias), 1e-6)
				before := linalg.Narrow(prior.RawMatrix().Data)
				near(t, "error before", r.ErrBefore, relativeError(s, y, kept, before, nil), 1e-6)
				if r.ErrAfter >= r.ErrBefore {
					t.Errorf("pull %v bias %v cross %v: error %g after is not under %g before", pull, bias, cross, r.ErrAfter, r.ErrBefore)
				}
			}
		}
	}
}

func complete(t Moments, w []float32, in, out int) Moments {
	t.complete(Problem{In: in, Out: out}, linalg.Widen(w), true)
	return t
}

func TestADMMApproachesExact(t *testing.T) {
	const tokens, in, out = 300, 32, 8
	rng := rand.New(rand.NewPCG(2, 2))
	s := newSample(rng, tokens, in)
	p := Problem{Name: "test", W: weights(rng, out*in), Out: out, In: in, Fit: s.moments()}
	kept := []int{0, 1, 2, 5, 8, 9, 10, 13, 16, 17, 18, 19, 24, 25, 30}
	for _, o := range []Options{{}, {Pull: true}, {Bias: true}} {
		exactWeights, exact, err := Solve(p, kept, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Method, o.Steps = ADMM, 30
		_, short, err := Solve(p, kept, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Steps = 3000
		w, long, err := Solve(p, kept, o)
		if err != nil {
			t.Fatal(err)
		}
		o.Method = None
		_, none, err := Solve(p, kept, o)
		if err != nil {
			t.Fatal(err)
		}
		if len(short.Curve) != 30 || len(long.Curve) != 3000 {
			t.Fatalf("curves of %d and %d steps", len(short.Curve), len(long.Curve))
		}
		if !(exact.ErrAfter < none.ErrAfter && short.ErrAfter < none.ErrAfter) {
			t.Errorf("errors: exact %g, ADMM %g, none %g", exact.ErrAfter, short.ErrAfter, none.ErrAfter)
		}
		near(t, "error after 3000 steps", long.ErrAfter, exact.ErrAfter, 1e-6)
		if long.Curve[9] < long.Curve[99] || long.Curve[99] < long.Curve[2999]-1e-9 {
			t.Errorf("the curve does not fall: %g %g %g", long.Curve[9], long.Curve[99], long.Curve[2999])
		}
		for i := range w {
			near(t, "weight after 3000 steps", float64(w[i]), float64(exactWeights[i]), 1e-4)
		}
	}
}

func TestBiasOfUnrepairedWeights(t *testing.T) {
	const tokens, in, out = 100, 10, 4
	rng := rand.New(rand.NewPCG(3, 3))
	s := newSample(rng, tokens, in)
	w := weights(rng, out*in)
	target := s.moments()
	kept := []int{0, 2, 4, 6}
	_, r, err := Solve(Problem{Name: "test", W: w, Out: out, In: in, Fit: target}, kept, Options{Method: None, Bias: true})
	if err != nil {
		t.Fatal(err)
	}
	for o := range out {
		var want float64
		for _, d := range []int{1, 3, 5, 7, 8, 9} {
			want += target.Mean[d] * float64(w[o*in+d])
		}
		near(t, "bias", float64(r.Bias[o]), want, 1e-6)
	}
}

func TestLambdaByHeldOut(t *testing.T) {
	const in, out = 30, 6
	rng := rand.New(rand.NewPCG(4, 4))
	w := weights(rng, out*in)
	// Thirty-five tokens are too few for twenty-four columns: a larger ridge is better on other text.
	few, held := newSample(rng, 35, in), newSample(rng, 2000, in)
	target, heldTarget := few.moments(), held.moments()
	kept := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23}
	lambdas := []float64{1e-6, 1e-4, 1e-2, 1e-1, 1}
	p := Problem{Name: "test", W: w, Out: out, In: in, Fit: target, HeldOut: &heldTarget}
	_, r, err := Solve(p, kept, Options{Lambdas: lambdas})
	if err != nil {
		t.Fatal(err)
	}
	best, least := 0.0, math.Inf(1)
	for _, l := range lambdas {
		p.HeldOut = nil
		p.Fit.Tokens = 0 // no count, no safety
		wk, _, err := Solve(p, kept, Options{Lambdas: []float64{l}})
		if err != nil {
			t.Fatal(err)
		}
		var y mat.Dense
		y.Mul(held.x, mat.NewDense(out, in, linalg.Widen(w)).T())
		if e := relativeError(held, &y, kept, wk, nil); e < least {
			best, least = l, e
		}
	}
	if r.Lambda != best {
		t.Errorf("ridge %g, want %g, the best on held-out text", r.Lambda, best)
	}
	if r.HeldOut <= 0 {
		t.Error("no held-out error")
	}
}

// With many outputs the ridge is chosen by mixtures of them. It is one whose held-out error is next to the least, where one of
// them holds most of the energy too.
func TestLambdaOfManyOutputs(t *testing.T) {
	const out, in = sketchFrom * sketchRows, 80
	rng := rand.New(rand.NewPCG(21, 22))
	lambdas := []float64{1e-4, 0.01, 0.1, 1}
	for _, tokens := range []int{90, 200, 2000} {
		fit, held := newSample(rng, tokens, in), newSample(rng, 500, in)
		fitted, other := fit.moments(), held.moments()
		p := Problem{W: weights(rng, out*in), Out: out, In: in, Fit: fitted, HeldOut: &other}
		for j := range in {
			p.W[7*in+j] *= 20
		}
		kept := make([]int, in/2)
		for i := range kept {
			kept[i] = 2 * i
		}
		held0 := func(lambda float64) float64 {
			w0 := linalg.Widen(p.W)
			start := linalg.Columns(w0, out, in, kept)
			a, b := fitted, other
			if err := errors.Join(a.complete(p, w0, false), b.complete(p, w0, false)); err != nil {
				t.Fatal(err)
			}
			w, _, err := newNormal(p, a, kept, false).ridge(start, lambda, true)
			if err != nil {
				t.Fatal(err)
			}
			e, err := newNormal(p, b, kept, false).error(w)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		_, r, err := Solve(p, kept, Options{Lambdas: lambdas, Pull: true})
		if err != nil {
			t.Fatal(err)
		}
		least, most := math.Inf(1), 0.0
		for _, l := range lambdas {
			least, most = min(least, held0(l)), max(most, held0(l))
		}
		if got := held0(r.Lambda); got > least+0.1*(most-least) {
			t.Errorf("%d tokens: ridge %g with an error of %g, others have from %g to %g", tokens, r.Lambda, got, least, most)
		}
	}
}

// Fitting on the pool of two texts must be fitting on their concatenation.
func TestPoolIsConcatenation(t *testing.T) {
	const in, out = 12, 3
	rng := rand.New(rand.NewPCG(5, 5))
	a, b := newSample(rng, 50, in), newSample(rng, 150, in)
	var x mat.Dense
	x.Stack(a.x, b.x)
	both := sample{200, in, &x}
	w := weights(rng, out*in)
	kept := []int{0, 1, 2, 3, 4, 5}
	for _, bias := range []bool{false, true} {
		o := Options{Lambdas: []float64{0.02}, Bias: bias}
		bt := b.moments()
		got, r, err := Solve(Problem{Name: "test", W: w, Out: out, In: in, Fit: a.moments(), HeldOut: &bt}, kept, o)
		if err != nil {
			t.Fatal(err)
		}
		want, wr, err := Solve(Problem{Name: "test", W: w, Out: out, In: in, Fit: both.moments()}, kept, o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			near(t, "weight", float64(got[i]), float64(want[i]), 1e-6)
		}
		for i := range wr.Bias {
			near(t, "bias", float64(r.Bias[i]), float64(wr.Bias[i]), 1e-6)
		}
	}
}

func TestSolveEdges(t *testing.T) {
	const in, out = 4, 2
	w := []float32{1, 2, 3, 4, 5, 6, 7, 8}
	identity := func() Moments {
		g := make([]float64, in*in)
		for i := range in {
			g[i*in+i] = 1
		}
		return Moments{Gram: g, Mean: make([]float64, in)}
	}
	singular := Moments{Gram: make([]float64, in*in)}
	for i := range singular.Gram {
		singular.Gram[i] = 1
	}
	broken := identity()
	broken.Gram[5] = math.NaN()
	indefinite := identity()
	indefinite.Gram[1], indefinite.Gram[4] = 5, 5
	tests := []struct {
		name   string
		fit    Moments
		kept   []int
		o      Options
		want   []float32 // nil: not compared
		raised bool
		err    error
	}{
		{"all kept", identity(), []int{0, 1, 2, 3}, Options{}, w, false, nil},
		{"nothing kept", identity(), nil, Options{}, []float32{}, false, nil},
		{"nothing kept, bias", identity(), nil, Options{Bias: true}, []float32{}, false, nil},
		{"dead inputs", Moments{Gram: make([]float64, in*in)}, []int{1, 2}, Options{}, []float32{2, 3, 6, 7}, false, nil},
		{"singular without a ridge", singular, []int{0, 1}, Options{Lambdas: []float64{0}}, nil, true, nil},
		{"indefinite", indefinite, []int{0, 1}, Options{Lambdas: []float64{0}}, nil, true, nil},
		{"NaN", broken, []int{0}, Options{}, nil, false, linalg.ErrNotFinite},
		{"method", identity(), []int{0}, Options{Method: "magic"}, nil, false, ErrMethod},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, r, err := Solve(Problem{Name: "layer 3 mlp", W: w, Out: out, In: in, Fit: tt.fit}, tt.kept, tt.o)
			if tt.err != nil {
				if !errors.Is(err, tt.err) || !strings.HasPrefix(err.Error(), "layer 3 mlp: ") {
					t.Fatalf("error %v, want layer 3 mlp: … %v", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != out*len(tt.kept) {
				t.Fatalf("%d weights", len(got))
			}
			for i := range tt.want {
				near(t, "weight", float64(got[i]), float64(tt.want[i]), 1e-6)
			}
			for i, v := range got {
				if math.IsNaN(float64(v)) {
					t.Errorf("weight %d is NaN", i)
				}
			}
			if r.Raised != tt.raised {
				t.Errorf("ridge raised: %v, to %g", r.Raised, r.Lambda)
			}
		})
	}
	for _, kept := range [][]int{{-1}, {4}, {1, 1}} {
		if _, _, err := Solve(Problem{Name: "x", W: w, Out: out, In: in, Fit: identity()}, kept, Options{}); err == nil {
			t.Errorf("kept %v: no error", kept)
		}
	}
}

func TestFewTokensRaiseTheRidge(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	s := newSample(rng, 20, 16)
	p := Problem{Name: "test", W: weights(rng, 4*16), Out: 4, In: 16, Fit: s.moments()}
	_, r, err := Solve(p, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, Options{Lambdas: []float64{1e-4}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Lambda != safeLambda || r.Warning == "" {
		t.Errorf("ridge %g, warning %q", r.Lambda, r.Warning)
	}
}
