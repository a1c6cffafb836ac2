package explorer

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// A Range is the values that a number may have, from Lo to Hi.
type Range struct {
	Lo, Hi float64
	Above  bool // Lo itself is excluded
}

// RatioRange is the range of inheriting ratios.
func RatioRange() Range { return Range{0, 1, true} }

// LambdaRange is the range of ridges, as shares of the mean diagonal.
func LambdaRange() Range { return Range{0, 100, false} }

// RhoRange is the range of ADMM's penalty, a share likewise.
func RhoRange() Range { return Range{0, 1e6, true} }

// StepsRange is the range of ADMM's steps.
func StepsRange() Range { return Range{1, 10000, false} }

// UpRange is the range of steps by which W_U is re-fitted.
func UpRange() Range { return Range{0, 1000, false} }

// GradientRange is the range of steps by which all matrices of a module are re-fitted.
func GradientRange() Range { return Range{0, 10000, false} }

// RankRange is the range of ranks of what tuning adds to matrices.
func RankRange() Range { return Range{0, 512, false} }

// WindowsRange is the range of calibration windows.
func WindowsRange() Range { return Range{1, 100000, false} }

// SeqRange is the range of tokens per calibration window.
func SeqRange() Range { return Range{2, 1 << 20, false} }

// MeasuredRange is the range of windows of a text that are measured on.
func MeasuredRange() Range { return Range{1, 1e7, false} }

// AtOnceRange is the range of windows that a graph computes at once.
func AtOnceRange() Range { return Range{1, 1024, false} }

// Has reports whether a number is in the range.
func (r Range) Has(v float64) bool {
	return !math.IsNaN(v) && v <= r.Hi && (v > r.Lo || v == r.Lo && !r.Above)
}

// String writes the range as an interval.
func (r Range) String() string {
	open := "["
	if r.Above {
		open = "("
	}
	return fmt.Sprintf("%s%.7g, %.7g]", open, r.Lo, r.Hi)
}

// check returns an error that names a setting outside its range.
func (r Range) check(name string, v float64) error {
	if r.Has(v) {
		return nil
	}
	return fmt.Errorf("%w: %s %.7g is not in %v", ErrInvalid, name, v, r)
}

// optional is check for a setting whose zero is its default.
func (r Range) optional(name string, v float64) error {
	if v == 0 {
		return nil
	}
	return r.check(name, v)
}

// FitTargets lists what re-fitted matrices may reproduce: the outputs of the original matrix on the subnet's own inputs, its
// outputs in the dense model, or the dense model's hidden states after the module.
func FitTargets() []string { return []string{"local", "dense", "residual"} }

// Weighings lists what tokens count by in a re-fit: all the same, by the inverse size of their hidden states, or by the gradient of the dense
// model's loss.
func Weighings() []string { return []string{"none", "state", "gradient"} }

// FitMethods lists the ways to re-fit.
func FitMethods() []string { return []string{"exact", "admm", "none"} }

// check returns the first setting that is out of range.
func (o ReformOptions) check() error {
	var errs []error
	oneOf := func(name, v string, all []string) {
		if v != "" && !slices.Contains(all, v) {
			errs = append(errs, fmt.Errorf("%w: %s %q is not one of %s", ErrInvalid, name, v, strings.Join(all, ", ")))
		}
	}
	oneOf("re-fit", o.Method, FitMethods())
	oneOf("target of the re-fit", o.Target, FitTargets())
	oneOf("weight of tokens", o.Weigh, Weighings())
	if o.Lambda != nil {
		errs = append(errs, LambdaRange().check("lambda", *o.Lambda))
	}
	if o.Up != nil {
		errs = append(errs, UpRange().check("up", float64(*o.Up)))
	}
	if o.Gradient != nil {
		errs = append(errs, GradientRange().check("gradient re-fit", float64(*o.Gradient)))
	}
	errs = append(errs, RhoRange().optional("rho", o.Rho), StepsRange().optional("steps", float64(o.Steps)))
	return errors.Join(errs...)
}

// checkBias refuses a bias that the files of a family do not hold.
func (o ReformOptions) checkBias(arch string) error {
	if o.Bias == nil || !*o.Bias || HoldsBias(arch) {
		return nil
	}
	return fmt.Errorf("%w: %s files hold no output biases", ErrUnsupported, arch)
}

// checkTarget refuses a target that models of a shape are not re-fitted to.
func (o ReformOptions) checkTarget(g *subnet.Geometry) error {
	bridge := o.Bridge != nil && *o.Bridge
	if o.Target != FitTargets()[2] && !bridge || g == nil || FitsResidual(g) {
		return nil
	}
	if bridge {
		return fmt.Errorf("%w: the outputs of modules of %s models are normalised or have biases: they are not fitted to hidden states, which bridge does", ErrUnsupported, g.Arch)
	}
	return fmt.Errorf("%w: the outputs of modules of %s models are normalised or have biases: their re-fit reproduces local or dense outputs, not the %s", ErrUnsupported, g.Arch, o.Target)
}

// FitsResidual reports whether re-fits of models of a shape can reproduce the dense model's hidden states: the outputs of modules
// must reach them as they are.
func FitsResidual(g *subnet.Geometry) bool {
	family, _ := subnet.FamilyOf(g.Arch)
	return !family.PostNorms && !g.OutBias
}

// HoldsBias reports whether files of subnets of an architecture hold the biases that re-fits may add.
func HoldsBias(arch string) bool {
	family, _ := subnet.FamilyOf(arch)
	ragged, _ := subnet.FamilyOf(family.Ragged)
	return family.OutBias || ragged.OutBias
}

// checkWidths checks what is specific to a cut.
func (c Cut) checkWidths(g *subnet.Geometry) error {
	if preset.DropsLayers(c.Preset) && (c.Attention != nil || c.Granularity != 0) {
		return fmt.Errorf("%w: the method %s drops whole layers: KV groups and a granularity do not apply", ErrInvalid, c.Preset)
	}
	return checkGranularity(g, c.Granularity)
}

func checkGranularity(g *subnet.Geometry, n int) error {
	if g == nil {
		return nil
	}
	if err := g.CheckGranularity(n); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}
