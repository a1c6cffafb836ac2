package reform

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/reform/linalg"
)

// The paper's penalty and number of steps of ADMM.
const (
	DefaultRho   = 1
	DefaultSteps = 30
)

const (
	// With fewer than safeTokens tokens a kept column, and no text to choose by, the ridge is at least safeLambda.
	safeTokens = 2
	safeLambda = 0.1
)

// Solve computes the weights [Out, len(kept)] of the kept columns, in the order of kept, that best reproduce the problem's
// target outputs. Toward zero they are W_K = C_K·(H_KK + λI)⁻¹, with C the cross moment of the target outputs (W·H for the
// original ones) and H the Gram matrix; pulled toward the original weights W_K = (C_K + λW⁰_K)·(H_KK + λI)⁻¹. With a bias, C
// and H are centred first: this is the same as a constant-one input without a ridge of its own.
//
// Where λ is chosen on the held-out moments, the fit itself is then on both texts together. The ridge of a system that is not
// positive definite is raised tenfold until it is, which Result.Raised and Result.Lambda report. Where no column is
// dropped and the target is the original outputs, the result is the original weights, whatever the ridge.
func Solve(p Problem, kept []int, o Options) ([]float32, Result, error) {
	w, r, err := solve(p, kept, o)
	if err != nil {
		return nil, Result{}, p.named(err)
	}
	return w, r, nil
}

func solve(p Problem, kept []int, o Options) ([]float32, Result, error) {
	if err := p.check(kept, o); err != nil {
		return nil, Result{}, err
	}
	w0 := linalg.Widen(p.W)
	start := linalg.Columns(w0, p.Out, p.In, kept)
	original := p.Fit.Cross == nil && (p.HeldOut == nil || p.HeldOut.Cross == nil)
	if err := p.Fit.complete(p, w0, o.Bias); err != nil {
		return nil, Result{}, err
	}
	fit := newNormal(p, p.Fit, kept, o.Bias)
	var held *normal
	if p.HeldOut != nil {
		t := *p.HeldOut
		if err := t.complete(p, w0, o.Bias); err != nil {
			return nil, Result{}, err
		}
		p.HeldOut, held = &t, newNormal(p, t, kept, o.Bias)
	}
	lambda, warning, err := chooseLambda(fit, held, start, o)
	if err != nil {
		return nil, Result{}, err
	}
	r := Result{Lambda: lambda}
	weights := start
	switch {
	case o.Method == None, len(kept) == p.In && original:
	case o.Method == ADMM:
		weights, r, err = solveADMM(p, w0, kept, fit.pooled(held), lambda, o)
	default:
		weights, r, err = fit.pooled(held).ridge(start, lambda, o.Pull)
	}
	if err != nil {
		return nil, Result{}, err
	}
	r.Warning = warning
	before := fit
	if o.Bias {
		before = newNormal(p, p.Fit, kept, false)
	}
	if r.ErrBefore, err = before.error(start); err != nil {
		return nil, Result{}, err
	}
	if r.ErrAfter, err = fit.error(weights); err != nil {
		return nil, Result{}, err
	}
	if held != nil {
		if r.HeldOut, err = held.error(weights); err != nil {
			return nil, Result{}, err
		}
	}
	if o.Bias {
		r.Bias = fit.pooled(held).bias(weights)
	}
	return linalg.Narrow(weights), r, nil
}

// named adds the name of the problem, if any, to an error.
func (p Problem) named(err error) error {
	if p.Name == "" {
		return err
	}
	return fmt.Errorf("%s: %w", p.Name, err)
}

func (p Problem) check(kept []int, o Options) error {
	switch o.Method {
	case "", Exact, ADMM, None:
	default:
		return fmt.Errorf("%q: %w", o.Method, ErrMethod)
	}
	if len(p.W) != p.Out*p.In {
		return fmt.Errorf("%d weights, want %d×%d", len(p.W), p.Out, p.In)
	}
	seen := make([]bool, p.In)
	for _, k := range kept {
		if k < 0 || k >= p.In || seen[k] {
			return fmt.Errorf("kept column %d is out of range or a duplicate", k)
		}
		seen[k] = true
	}
	for _, t := range []*Moments{&p.Fit, p.HeldOut} {
		if t == nil {
			continue
		}
		if len(t.Gram) != p.In*p.In {
			return fmt.Errorf("second moments have %d values, want %d²", len(t.Gram), p.In)
		}
		if t.Cross != nil && len(t.Cross) != p.Out*p.In {
			return fmt.Errorf("cross moment has %d values, want %d×%d", len(t.Cross), p.Out, p.In)
		}
		if o.Bias && (len(t.Mean) != p.In || t.Cross != nil && len(t.OutMean) != p.Out) {
			return errors.New("a bias needs the means of inputs and outputs")
		}
		for _, a := range [][]float64{t.Gram, t.Cross, t.Mean, t.OutMean} {
			if err := linalg.CheckFinite(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// normal is the normal equations of the least-squares fit of the kept columns.
type normal struct {
	by      linalg.Algebra
	out, k  int
	tokens  int
	h       []float64 // [k, k], centred with a bias
	c       []float64 // [out, k], likewise
	energy  float64   // E‖y‖², centred likewise
	total   float64   // E‖y‖², never centred: errors are relative to it
	mean    []float64 // [k], with a bias only
	outMean []float64 // [out], with a bias only
}

// newNormal restricts complete moments to the kept columns.
func newNormal(p Problem, t Moments, kept []int, bias bool) *normal {
	n := &normal{
		by: linalg.OrCPU(p.Algebra), out: p.Out, k: len(kept), tokens: t.Tokens, energy: t.Energy, total: t.Energy,
		h: linalg.Sub(t.Gram, p.In, kept, kept), c: linalg.Columns(t.Cross, p.Out, p.In, kept),
	}
	if bias {
		n.outMean, n.mean = t.OutMean, linalg.Columns(t.Mean, 1, p.In, kept)
		addOuter(n.h, n.mean, n.mean, -1)
		addOuter(n.c, n.outMean, n.mean, -1)
		n.energy -= linalg.Dot(n.outMean, n.outMean)
	}
	return n
}

// addOuter adds sign·xyᵀ to a [len(x), len(y)].
func addOuter(a, x, y []float64, sign float64) {
	for i, xi := range x {
		row := a[i*len(y) : (i+1)*len(y)]
		for j, yj := range y {
			row[j] += sign * xi * yj
		}
	}
}

// pooled returns the normal equations of both texts together, with the same weight for each token.
func (n *normal) pooled(other *normal) *normal {
	if other == nil {
		return n
	}
	tokens := n.tokens + other.tokens
	share := 0.5
	if tokens > 0 {
		share = float64(n.tokens) / float64(tokens)
	}
	both := &normal{
		by: n.by, out: n.out, k: n.k, tokens: tokens, h: mix(n.h, other.h, share), c: mix(n.c, other.c, share),
		energy: share*n.energy + (1-share)*other.energy, total: share*n.total + (1-share)*other.total,
	}
	if n.mean == nil {
		return both
	}
	both.mean, both.outMean = mix(n.mean, other.mean, share), mix(n.outMean, other.outMean, share)
	// The variance between the means of the two texts is in neither.
	dx, dy := difference(n.mean, other.mean), difference(n.outMean, other.outMean)
	between := share * (1 - share)
	addOuter(both.h, dx, dx, between)
	addOuter(both.c, dy, dx, between)
	both.energy += between * linalg.Dot(dy, dy)
	return both
}

func difference(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}

// ridge solves for the kept weights with one ridge, raised where necessary.
func (n *normal) ridge(start []float64, lambda float64, pull bool) ([]float64, Result, error) {
	r := Result{Lambda: lambda}
	scale := linalg.MeanDiagonal(n.h, n.k)
	if n.k == 0 || scale == 0 {
		return start, r, nil // weights of inputs that are always zero are arbitrary
	}
	f, used, err := linalg.Ridged(n.by, n.h, n.k, lambda)
	if err != nil {
		return nil, Result{}, err
	}
	defer f.Close()
	r.Lambda, r.Raised = used, used > lambda
	w := append([]float64(nil), n.c...)
	if pull {
		for i, v := range start {
			w[i] += r.Lambda * scale * v
		}
	}
	if err := f.Solve(w, n.out); err != nil {
		return nil, Result{}, err
	}
	return w, r, nil
}

// error returns E‖y − ŷ‖²/E‖y‖² of weights w [out, k], with the best bias where n is centred. Rounding errors do not make it
// negative.
func (n *normal) error(w []float64) (float64, error) {
	if n.total <= 0 {
		return 0, nil
	}
	excess, err := n.excess(w)
	return n.share(excess), err
}

// share returns E‖y − ŷ‖²/E‖y‖² for an excess.
func (n *normal) share(excess float64) float64 { return max((n.energy+excess)/n.total, 0) }

// excess returns E‖y − ŷ‖² − E‖y‖².
func (n *normal) excess(w []float64) (float64, error) {
	if n.k == 0 {
		return 0, nil
	}
	wh, err := n.by.Product(n.out, n.k, n.k, w, n.h)
	if err != nil {
		return 0, err
	}
	return linalg.Dot(wh, w) - 2*linalg.Dot(w, n.c), nil
}

// bias returns the bias [out] with which the mean output of weights w is that of the target.
func (n *normal) bias(w []float64) []float32 {
	b := append([]float64(nil), n.outMean...)
	if n.k > 0 {
		got := linalg.ProductT(n.out, 1, n.k, w, n.mean)
		b = difference(b, got)
	}
	return linalg.Narrow(b)
}

// chooseLambda returns the ridge whose fit on one text has the least error on the other. Without another text it returns the
// largest, or safeLambda with a warning where that is larger and the text has too few tokens for the columns kept.
func chooseLambda(fit, held *normal, start []float64, o Options) (lambda float64, warning string, err error) {
	if o.Method == None {
		return 0, "", nil
	}
	lambdas := o.Lambdas
	if len(lambdas) == 0 {
		lambdas = []float64{DefaultLambda}
	}
	if least := slices.Min(lambdas); least < 0 {
		return 0, "", fmt.Errorf("ridge %g is negative", least)
	}
	if held == nil {
		lambda = slices.Max(lambdas)
		if few := fit.tokens > 0 && fit.tokens < safeTokens*fit.k; few && lambda < safeLambda {
			return safeLambda, fmt.Sprintf("%d tokens are few for %d columns: ridge %g instead of %g", fit.tokens, fit.k, safeLambda, lambda), nil
		}
		return lambda, "", nil
	}
	if len(lambdas) == 1 {
		return lambdas[0], "", nil
	}
	if fit.out >= sketchFrom*sketchRows {
		s := sketch(fit.out)
		if start, err = fit.by.Product(sketchRows, fit.k, fit.out, s, start); err != nil {
			return 0, "", err
		}
		if fit, err = fit.sketched(s); err != nil {
			return 0, "", err
		}
		if held, err = held.sketched(s); err != nil {
			return 0, "", err
		}
	}
	least := math.Inf(1)
	for _, l := range lambdas {
		w, _, err := fit.ridge(start, l, o.Pull)
		if err != nil {
			return 0, "", err
		}
		e, err := held.excess(w)
		if err != nil {
			return 0, "", err
		}
		if e < least {
			lambda, least = l, e
		}
	}
	return lambda, "", nil
}

// Where there are at least sketchFrom·sketchRows outputs, the ridge is chosen on sketchRows random mixtures of them. These
// preserve squared distances within a few tenths, by nearly the same factor for every ridge (Johnson and Lindenstrauss), and
// cost proportionally less.
const (
	sketchRows = 64
	sketchFrom = 4
)

// sketch returns a random ±1 (Rademacher) matrix [sketchRows, out], the same for the same number of outputs.
func sketch(out int) []float64 {
	rng := rand.New(rand.NewPCG(uint64(out), sketchRows))
	s := make([]float64, sketchRows*out)
	for i := range s {
		s[i] = float64(1 - 2*rng.IntN(2))
	}
	return s
}

// sketched returns the normal equations of mixtures s [sketchRows, out] of the outputs, without their energy.
func (n *normal) sketched(s []float64) (*normal, error) {
	c, err := n.by.Product(sketchRows, n.k, n.out, s, n.c)
	return &normal{by: n.by, out: sketchRows, k: n.k, tokens: n.tokens, h: n.h, c: c}, err
}
