package reform

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// ErrText means that there is too little calibration text.
var ErrText = errors.New("too little calibration text")

// Config configures Refit. The zero value re-fits the given masks by exact least squares.
type Config struct {
	Recipe Recipe
	// Chooser, unless nil, chooses the units of modules on the way.
	Chooser Chooser
	// HeldOut is the share of the windows that ridges are chosen on, 0 is a quarter. With fewer than four windows, or
	// one ridge to choose from, none are held out.
	HeldOut float64
	// Rounded, unless nil, is the model with the weights that the file of the subnet will hold: the calibration text passes through it, and
	// targets and original weights are those of the model itself. It must be on the same device.
	Rounded *decoder.Model
	// Rounder, unless nil, rounds re-fitted output matrices before the text passes through them.
	Rounder Rounder
	// Progress, unless nil, is called from one goroutine after each module: done of total are finished.
	Progress func(done, total int, m ModuleReport)
}

// Rounder rounds an output matrix to the type that its file will have. It returns the weights to keep in the subnet, which the writer of the
// file rounds to the stored ones.
type Rounder func(o Output) (keep, stored []float32, err error)

// Output is an output matrix as a Rounder sees it.
type Output struct {
	Layer   int
	Module  subnet.Module
	Columns []int // that are kept, in dense order
	Out     int
	Weights []float32 // [Out, len(Columns)]
	// Gram returns the second moments [len(Columns), len(Columns)] of the inputs, over Tokens tokens.
	Gram   func() []float64
	Tokens int
	// Algebra is what the device is set to.
	Algebra linalg.Algebra
}

// Chooser chooses the units of modules that a subnet keeps. Refit calls it module by module, in the order in which the
// model runs them.
type Chooser interface {
	// Chooses reports whether the units of a module are chosen; otherwise the module keeps its mask.
	Chooses(layer int, module subnet.Module) bool
	// Choose returns the mask of one module. The other module's in the returned layer is ignored.
	Choose(ctx context.Context, b Block) (subnet.Layer, error)
}

// Block is one module as a Chooser sees it.
type Block struct {
	Layer   int
	Module  subnet.Module
	Output  []float32 // [Out, In] original weights of the output matrix
	Out, In int
	// Moments are those of the output matrix's inputs in the subnet so far, over all text.
	Moments *decoder.Moments
	// InnerMoments computes the moments of what enters the matrices before the output matrix.
	InnerMoments func(context.Context) (*decoder.Moments, error)
}

// ModuleReport reports the re-fit of one module of one layer.
type ModuleReport struct {
	Layer     int     `json:"layer"`
	Module    string  `json:"module"`
	Kept      int     `json:"kept"` // columns of the output matrix
	Of        int     `json:"of"`
	ErrBefore float64 `json:"error_before"` // shares of the target outputs' energy, see Result
	ErrAfter  float64 `json:"error_after"`
	HeldOut   float64 `json:"error_held_out,omitempty"`
	Lambda    float64 `json:"ridge,omitempty"`
	Raised    bool    `json:"ridge_raised,omitempty"`
	// Curve is ADMM's error after each step.
	Curve []float64 `json:"curve,omitempty"`
	// Gradient reports the re-fit by gradient, nil without one.
	Gradient *GradientReport `json:"gradient,omitempty"`
	Warning  string          `json:"warning,omitempty"`
}

// Report reports a re-fit.
type Report struct {
	Ratio    float64        `json:"ratio"`  // inheriting ratio over the block matrices
	Tokens   int            `json:"tokens"` // of calibration text
	Seconds  float64        `json:"seconds"`
	Modules  []ModuleReport `json:"modules"`
	Warnings []string       `json:"warnings,omitempty"`
}

// Refit re-fits the weights of a subnet layer by layer on windows of calibration text: the inputs of each layer have passed
// through the layers re-fitted before it. Without a chooser, masks are final. A recipe that changes no weights and has no
// chooser returns the masks alone.
func Refit(ctx context.Context, m *decoder.Model, windows [][]int32, masks subnet.Masks, c Config) (gguf.Subnet, Report, error) {
	started := time.Now()
	if err := masks.Validate(); err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	tokens, err := CheckText(windows)
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	s, modules := gguf.Subnet{Masks: masks}, []ModuleReport(nil)
	if c.Chooser != nil || c.Recipe.changes() || c.Rounder != nil {
		w, err := newWalk(ctx, m, windows, masks, c)
		if err != nil {
			return gguf.Subnet{}, Report{}, err
		}
		defer w.close()
		if err := w.run(ctx); err != nil {
			return gguf.Subnet{}, Report{}, err
		}
		s, modules = gguf.Subnet{Masks: w.masks, Refit: w.refit}, w.modules
	}
	r := Report{Ratio: s.Masks.Size().Ratio, Tokens: tokens, Modules: modules, Seconds: time.Since(started).Seconds()}
	for _, m := range modules {
		if m.Warning != "" {
			r.Warnings = append(r.Warnings, fmt.Sprintf("layer %d %s: %s", m.Layer, m.Module, m.Warning))
		}
	}
	return s, r, nil
}

// CheckText returns how many tokens windows have. Windows of fewer than two tokens, and no windows, are ErrText.
func CheckText(windows [][]int32) (tokens int, err error) {
	for i, w := range windows {
		if len(w) < 2 {
			return 0, fmt.Errorf("window %d has %d tokens: %w", i, len(w), ErrText)
		}
		tokens += len(w)
	}
	if tokens == 0 {
		return 0, ErrText
	}
	return tokens, nil
}

// ModuleName names a module in errors and reports, such as "layer 3 mlp".
func ModuleName(layer int, m subnet.Module) string { return fmt.Sprintf("layer %d %s", layer, m) }

// ModuleError adds the name of a module to an error, except to that of an ended context.
func ModuleError(layer int, m subnet.Module, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%s: %w", ModuleName(layer, m), err)
}

// split divides windows into those to fit on and those to choose ridges on: every n-th window is held out, so that both
// cover all of the text.
func split(windows [][]int32, share float64, lambdas int) (fit, held [][]int32) {
	if share == 0 {
		share = 0.25
	}
	count := int(share * float64(len(windows)))
	if lambdas < 2 || count < 1 || len(windows) < 4 {
		return windows, nil
	}
	every := len(windows) / count
	for i, w := range windows {
		if i%every == every-1 && len(held) < count {
			held = append(held, w)
		} else {
			fit = append(fit, w)
		}
	}
	return fit, held
}
