package reform

import (
	"errors"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// ErrMethod means that a method of re-fitting does not exist.
var ErrMethod = errors.New("unknown method of re-fitting")

// Method names a way to compute the re-fitted weights.
type Method string

// The methods.
const (
	Exact Method = "exact" // least squares by one Cholesky factorization
	ADMM  Method = "admm"  // the iteration of arXiv 2409.17372
	None  Method = "none"  // the original weights of the kept channels
)

// Options are those of Solve. The zero value is exact least squares with the default ridge, toward zero, without a bias.
type Options struct {
	Method Method // "" is Exact
	// Lambdas are the ridges to choose from, each a share of the mean diagonal of the Gram matrix. Among several, the one
	// with the least error on the problem's held-out moments is used or, without those, the largest. Empty is
	// DefaultLambda.
	Lambdas []float64
	Pull    bool    // pull toward the original weights and not toward zero
	Bias    bool    // also fit a bias, which compensates for the mean output of the dropped columns
	Rho     float64 // ADMM's penalty, as a share of the mean diagonal of the Gram matrix; 0 is DefaultRho
	Steps   int     // ADMM's iterations, 0 is DefaultSteps
}

// DefaultLambda is the ridge used where none is given, as a share of the mean diagonal of the Gram matrix.
const DefaultLambda = 0.01

// Moments are the statistics of one body of text that a matrix is fitted to: of its inputs x, of length In, and of the
// target outputs y, of length Out, all divided by the number of tokens.
type Moments struct {
	Gram   []float64 // [In, In] xxᵀ
	Mean   []float64 // [In] x; needed for a bias only
	Tokens int       // how many tokens the averages are of
	// Cross [Out, In] is yxᵀ, Energy yᵀy and OutMean [Out] y. Where Cross is nil the target outputs are those of the
	// original weights on these inputs, and Energy and OutMean follow from Gram and Mean.
	Cross   []float64
	Energy  float64
	OutMean []float64
}

// Problem is one matrix to re-fit.
type Problem struct {
	Name    string    // for errors, such as "layer 3 mlp", or ""
	W       []float32 // [Out, In] original weights
	Out, In int
	Fit     Moments
	HeldOut *Moments       // of other text, which the ridge is chosen on; may be nil
	Algebra linalg.Algebra // what computes; nil is linalg.CPU
}

// Result is what a fit returns beside the weights.
type Result struct {
	Bias []float32 // [Out], nil without Options.Bias
	// ErrBefore and ErrAfter are E‖y − ŷ‖²/E‖y‖² on the fitted text: with the original weights of the kept channels, and
	// with the re-fitted ones. HeldOut is the same as ErrAfter on the held-out text, or 0 where there is none.
	ErrBefore, ErrAfter, HeldOut float64
	Lambda                       float64   // the ridge used, as a share of the mean diagonal
	Raised                       bool      // the ridge had to be raised to make the system positive definite
	Curve                        []float64 // ADMM: the relative error after each step
	Warning                      string    // for the user, or ""
}

// complete computes what follows from the original weights where the target is their outputs.
func (t *Moments) complete(p Problem, w0 []float64, bias bool) error {
	if t.Cross != nil {
		return nil
	}
	cross, err := linalg.OrCPU(p.Algebra).Product(p.Out, p.In, p.In, w0, t.Gram)
	if err != nil {
		return err
	}
	t.Cross, t.Energy = cross, linalg.Dot(cross, w0)
	if bias {
		t.OutMean = linalg.ProductT(p.Out, 1, p.In, w0, t.Mean)
	}
	return nil
}

// blend returns the moments for target outputs (1 − share)·y + share·y', where y are the outputs of the original weights
// w0 [Out, In] and y' those of other.
func (t Moments) blend(share float64, other Moments, w0 []float64) Moments {
	both := linalg.Dot(other.Cross, w0)
	t.Energy = (1-share)*(1-share)*t.Energy + share*share*other.Energy + 2*share*(1-share)*both
	t.Cross, t.OutMean = mix(other.Cross, t.Cross, share), mix(other.OutMean, t.OutMean, share)
	return t
}

// inputMoments returns the moments of the matrix's inputs over the fitted and the held-out text together.
func (p Problem) inputMoments() *decoder.Moments {
	mo := &decoder.Moments{N: p.In, Tokens: p.Fit.Tokens, H: p.Fit.Gram, Mean: p.Fit.Mean}
	if h := p.HeldOut; h != nil {
		mo.Tokens += h.Tokens
		share := float64(p.Fit.Tokens) / float64(mo.Tokens)
		mo.H, mo.Mean = mix(p.Fit.Gram, h.Gram, share), mix(p.Fit.Mean, h.Mean, share)
	}
	mo.Var = make([]float64, mo.N)
	for j, mean := range mo.Mean {
		mo.Var[j] = max(0, mo.H[j*mo.N+j]-mean*mean)
	}
	return mo
}

// mix returns share·a + (1 − share)·b.
func mix(a, b []float64, share float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = share*a[i] + (1-share)*b[i]
	}
	return out
}
