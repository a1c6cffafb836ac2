package reform

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// ErrTarget means that a target does not exist.
var ErrTarget = errors.New("unknown target of re-fitting")

// Target is what a re-fitted output matrix should reproduce.
type Target int

// The targets.
const (
	// LocalOutput is the output of the original matrix on the subnet's own inputs.
	LocalOutput Target = iota
	// DenseOutput is the output of the same matrix in the dense model.
	DenseOutput
	// DenseResidual is the hidden state of the dense model after the module: the re-fit then also compensates for upstream
	// error, that of the layers before. Models that normalise the outputs of modules are re-fitted to LocalOutput instead.
	DenseResidual
)

// TargetNames lists the names of the targets, in their order.
func TargetNames() []string { return []string{"local", "dense", "residual"} }

// String returns the name of a target: local, dense or residual.
func (t Target) String() string { return TargetNames()[t] }

// ParseTarget returns the target of a name.
func ParseTarget(name string) (Target, error) {
	i := slices.Index(TargetNames(), name)
	if i < 0 {
		return 0, fmt.Errorf("%w %q: not one of %s", ErrTarget, name, strings.Join(TargetNames(), ", "))
	}
	return Target(i), nil
}

// Paper returns the re-fit of arXiv 2409.17372: ADMM toward the outputs of the original matrix on the subnet's own inputs, with
// the paper's ρ and steps, without a ridge and without a pull toward the original weights.
func Paper() Recipe {
	return Recipe{Solve: Options{Method: ADMM, Lambdas: []float64{0}, Rho: DefaultRho, Steps: DefaultSteps}}
}

// Recipe is how the weights of a subnet are re-fitted. The zero value is exact least squares with the default ridge.
type Recipe struct {
	Solve  Options
	Target Target
	// Blend is how far the fit goes from LocalOutput to Target, in (0, 1]; 0 is 1. With 1 the fit follows the errors of the
	// layers before too closely on the calibration text.
	Blend float64
	// ShrinkBlend multiplies Blend by T/(T + 10·n), for T tokens and n columns.
	ShrinkBlend bool
	// RefitUncutAttention also re-fits W_O of attention blocks that are not cut, where the target is DenseResidual and
	// something before them is cut. Otherwise they stay as they are.
	RefitUncutAttention bool
	// RefitAll re-fits the output matrices of all modules, also of those that are not cut, where the target is DenseResidual and the weights of
	// the subnet are rounded.
	RefitAll bool
	// Bridge fits W_D of the last MLP before dropped layers to the dense model's hidden states behind them, and as RefitAll the output
	// matrices of all modules behind. It has an effect with the target DenseResidual.
	Bridge bool
	// UpSteps is how many steps of conjugate gradients re-fit W_U of an MLP's kept channels, between two re-fits of its W_D; 0
	// leaves W_U as it is. It has an effect with exact re-fits without a bias and with targets other than DenseOutput; W_U
	// itself is always fitted to LocalOutput.
	UpSteps int
	// GradientSteps is how many steps at most re-fit all matrices of every module that has lost units by gradient, after its output matrix; 0 leaves
	// the others as they are. It has an effect where [Recipe.RefitsByGradient] reports so, and needs at least four windows.
	GradientSteps int
	// Relative weighs each token by the inverse size of its hidden state, as the next norm does. Otherwise the few tokens
	// with very large states decide. It has no effect with DenseOutput, nor where a bias is fitted, which is the same for
	// all tokens.
	Relative bool
	// ByGradient weighs each token by the gradient of the dense model's loss by its hidden state after the module instead: an error counts as
	// much as it moves the loss, to first order. It has an effect where Relative does.
	ByGradient bool
}

// RefitsUp reports whether UpSteps have an effect.
func (r Recipe) RefitsUp() bool { return r.refitsUp(subnet.MLP) }

// refitsUp reports whether W_U of a module is re-fitted.
func (r Recipe) refitsUp(m subnet.Module) bool {
	return m == subnet.MLP && r.UpSteps > 0 && !r.byGradient() && r.Target != DenseOutput && (r.Solve.Method == "" || r.Solve.Method == Exact) && !r.Solve.Bias
}

func (r Recipe) relative() bool { return r.Relative && !r.ByGradient && r.weighs() }

func (r Recipe) byGradient() bool { return r.ByGradient && r.weighs() }

// weighs reports whether tokens may count differently.
func (r Recipe) weighs() bool { return r.Target != DenseOutput && !r.Solve.Bias }

func (r Recipe) blend() float64 {
	if r.Blend == 0 {
		return 1
	}
	return r.Blend
}

// shrinkTokens is how many tokens per column halve Blend with ShrinkBlend.
const shrinkTokens = 10

// shrunk returns the recipe with the Blend for a number of tokens and columns.
func (r Recipe) shrunk(tokens, columns int) Recipe {
	if r.ShrinkBlend && tokens > 0 {
		r.Blend = r.blend() * float64(tokens) / float64(tokens+shrinkTokens*columns)
	}
	return r
}

// changes reports whether the recipe changes weights at all.
func (r Recipe) changes() bool { return r.Solve.Method != None || r.Solve.Bias }
