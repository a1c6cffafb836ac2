package reform

import "errors"

// ErrMethod means that a method of reformation does not exist.
var ErrMethod = errors.New("unknown method of reformation")

// Method names a way to find the re-fitted weights.
type Method string

// The methods of reformation.
const (
	Exact Method = "exact" // least squares by one Cholesky factorization
	ADMM  Method = "admm"  // the iteration of arXiv 2409.17372
	None  Method = "none"  // the original weights of the kept channels
)

// Options says how Solve re-fits. The zero value means exact least squares with the default ridge, toward zero,
// without a bias.
type Options struct {
	Method Method // "" is Exact
	// Lambdas are the ridges to choose from, each a share of the mean diagonal of the Gram matrix. With one entry there
	// is no choice; with several, the one with the least error on the problem's held-out target is taken, or, where
	// there is none, the largest. Empty is DefaultLambda.
	Lambdas []float64
	Pull    bool    // pull toward the original weights and not toward zero
	Bias    bool    // also find a bias that makes up for the mean of what was dropped
	Rho     float64 // ADMM's penalty, 0 is 1
	Steps   int     // ADMM's iterations, 0 is 30
}

// DefaultLambda is the ridge used where none is given, as a share of the mean diagonal of the Gram matrix.
const DefaultLambda = 0.01

// Target is what one matrix should reproduce on one body of text: statistics of its inputs x, of length In, and of the
// wanted outputs y, of length Out, all divided by the number of tokens.
type Target struct {
	Gram   []float64 // [In, In] xxᵀ
	Mean   []float64 // [In] x; needed for a bias only
	Tokens int       // how many tokens the averages are of
	// Cross [Out, In] is yxᵀ, Energy yᵀy and OutMean [Out] y. Where Cross is nil the wanted outputs are those of the
	// original weights on these inputs, and Energy and OutMean follow from Gram and Mean.
	Cross   []float64
	Energy  float64
	OutMean []float64
}

// Problem is one matrix to re-fit.
type Problem struct {
	Name    string    // for errors, such as "layer 3 mlp"
	W       []float32 // [Out, In] original weights
	Out, In int
	Fit     Target
	HeldOut *Target // text that Fit does not have, to choose the ridge by; may be nil
}

// Result is what a fit gives beside the weights.
type Result struct {
	Bias []float32 // [Out], nil without Options.Bias
	// ErrBefore and ErrAfter are E‖y − ŷ‖²/E‖y‖² on the fitted text: with the original weights of the kept channels, and
	// with the re-fitted ones. HeldOut is the same as ErrAfter on the held-out text, or 0 where there is none.
	ErrBefore, ErrAfter, HeldOut float64
	Lambda                       float64   // the ridge taken, as a share of the mean diagonal
	Raised                       bool      // the ridge had to be raised to make the system positive definite
	Curve                        []float64 // ADMM: the relative error after each step
	Warning                      string    // what the caller should tell the user, or ""
}
