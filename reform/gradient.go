package reform

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/adam"
	"github.com/lathe-llm/lathe/reform/linalg"
)

const (
	// gradientRate is Adam's step at first, as a share of the root mean square of a matrix in white coordinates.
	gradientRate = 5e-3
	// gradientRidge keeps the second moments of inputs from being singular, as a share of their mean diagonal.
	gradientRidge = 0.01
	// gradientChecks is how many times the held-out error is computed.
	gradientChecks       = 8
	gradientEpsilon      = 1e-12 // Adam's
	leastGradientWindows = 4
	gradientOrder        = 1 // seed of the order of windows
)

// GradientReport reports the re-fit of all matrices of a module by gradient.
type GradientReport struct {
	// Steps is the number of steps after which the held-out error was least, 0 where it was least before the first: then the module stays as
	// it was re-fitted in closed form.
	Steps int `json:"steps"`
	// Before and After are the held-out errors, as shares of the target's energy, of matrices that are fitted to the other windows alone.
	Before float64 `json:"held_out_before"`
	After  float64 `json:"held_out_after"`
}

// RefitsByGradient reports whether GradientSteps have an effect.
func (r Recipe) RefitsByGradient() bool {
	return r.GradientSteps > 0 && r.UpSteps == 0 && !r.byGradient() && r.Target != DenseOutput && (r.Solve.Method == "" || r.Solve.Method == Exact) && !r.Solve.Bias
}

// gradientFit re-fits all matrices of a module together after its output matrix was re-fitted in closed form: Adam on the error that the output
// matrix is fitted to, one window in a step, in coordinates in which the inputs of each matrix are uncorrelated and have the same variances. That
// is W = W₀ + V·L⁻¹ with L·Lᵀ the second moments of the inputs, and Adam moves V.
//
// How many steps pay is found on the held-out windows, from a start that is fitted to the others alone; then as many are made on all windows.
type gradientFit struct {
	*moduleFit
	masks subnet.Masks
}

// applies reports whether a module of a subnet is re-fitted by gradient: one that has lost units and keeps the channels inside its heads.
func (g gradientFit) applies() bool {
	l, kept := g.masks.Layer(g.layer), len(g.masks.OutputColumns(g.layer, g.module))
	whole := g.module == subnet.MLP || l.QK == nil && l.VO == nil
	return g.recipe.RefitsByGradient() && kept > 0 && kept < g.problem.In && whole
}

// run returns the re-fitted weights of the module, given those of the closed form, and updates the result.
func (g gradientFit) run(ctx context.Context, closed gguf.Refit, r *Result) (gguf.Refit, *GradientReport, error) {
	report, err := g.steps(ctx, *r)
	if err != nil || report.Steps == 0 {
		return closed, report, err
	}
	d, err := g.descent(ctx, closed, g.fit, g.held)
	if err != nil {
		return closed, nil, err
	}
	defer d.close()
	values, err := d.run(ctx, report.Steps, nil)
	if err != nil {
		return closed, nil, err
	}
	if r.ErrAfter, err = d.problems[0].Error(ctx, values, all(g.fit.a.own.Windows())); err != nil {
		return closed, nil, err
	}
	if r.HeldOut, err = d.problems[1].Error(ctx, values, all(g.held.a.own.Windows())); err != nil {
		return closed, nil, err
	}
	out, err := d.problems[0].Refit(ctx, values)
	return out, report, err
}

// steps finds out on the held-out windows how many steps pay.
func (g gradientFit) steps(ctx context.Context, closed Result) (*GradientReport, error) {
	p, o := g.problem, g.recipe.Solve
	p.HeldOut, o.Lambdas = nil, []float64{closed.Lambda}
	weights, _, err := solve(p, g.masks.OutputColumns(g.layer, g.module), o)
	if err != nil {
		return nil, err
	}
	start := gguf.Refit{WD: weights}
	if g.module == subnet.Attention {
		start = gguf.Refit{WO: weights}
	}
	d, err := g.descent(ctx, start, g.fit)
	if err != nil {
		return nil, err
	}
	defer d.close()
	held, err := g.moduleProblem(ctx, start, g.held)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	if err := d.precondition(held); err != nil {
		return nil, err
	}
	windows := all(g.held.a.own.Windows())
	var report GradientReport
	if report.Before, err = held.Error(ctx, make([]float32, held.Len()), windows); err != nil {
		return nil, err
	}
	report.After = report.Before
	_, err = d.run(ctx, g.recipe.GradientSteps, func(step int, values []float32) error {
		e, err := held.Error(ctx, values, windows)
		if err == nil && e < report.After { // not where it is NaN
			report.Steps, report.After = step, e
		}
		return err
	})
	return &report, err
}

// moduleProblem returns the problem on the windows of in, from a start.
func (g gradientFit) moduleProblem(ctx context.Context, start gguf.Refit, in *moduleInput) (*decoder.ModuleProblem, error) {
	t := decoder.ModuleTarget{Reference: g.ref, Relative: g.recipe.relative()}
	if g.recipe.Target == DenseResidual {
		t.States, t.Blend = in.a.dense, g.recipe.blend()
	}
	return g.m.NewModuleProblem(ctx, g.layer, g.module, g.masks, start, in.a.own, t)
}

// descent is Adam on a problem whose windows are those of several.
type descent struct {
	problems []*decoder.ModuleProblem
	windows  [][2]int // the problem and its window
	white    map[string][]float32
	names    []string
	bounds   [][2]int
	rates    []float64 // by matrix
	of       int       // steps that the rate falls over
	seed     uint64
}

func (d *descent) close() {
	for _, p := range d.problems {
		p.Close()
	}
}

func (g gradientFit) descent(ctx context.Context, start gguf.Refit, on ...*moduleInput) (_ *descent, err error) {
	d := &descent{of: g.recipe.GradientSteps, seed: uint64(subnet.Modules*g.layer + int(g.module))}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	for i, in := range on {
		p, err := g.moduleProblem(ctx, start, in)
		if err != nil {
			return nil, err
		}
		d.problems = append(d.problems, p)
		for w := range in.a.own.Windows() {
			d.windows = append(d.windows, [2]int{i, w})
		}
	}
	if err := g.whiten(ctx, d); err != nil {
		return nil, err
	}
	for _, p := range d.problems {
		if err := d.precondition(p); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *descent) precondition(p *decoder.ModuleProblem) error {
	for _, name := range d.names {
		if err := p.Precondition(name, d.white[name]); err != nil {
			return err
		}
	}
	return nil
}

// whiten computes the preconditioners and rates of all matrices.
func (g gradientFit) whiten(ctx context.Context, d *descent) error {
	p := d.problems[0]
	start, err := p.Start()
	if err != nil {
		return err
	}
	inner, err := g.innerMoments(ctx)
	if err != nil {
		return err
	}
	output := g.problem.inputMoments()
	kept, columns := g.masks.OutputColumns(g.layer, g.module), p.Columns()
	d.white = make(map[string][]float32)
	d.names, d.bounds = p.Parts()
	byMoments := make(map[bool]whitening)
	for i, name := range d.names {
		last := name == g.m.OutputMatrix(g.module)
		w, ok := byMoments[last]
		if !ok {
			h, n := inner.H, inner.N
			if last {
				n = len(columns)
				h = make([]float64, n*n)
				for r, a := range columns {
					for c, b := range columns {
						if a >= 0 && b >= 0 {
							h[r*n+c] = output.H[kept[a]*output.N+kept[b]]
						}
					}
				}
			}
			if w, err = newWhitening(h, n); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			byMoments[last] = w
		}
		d.white[name] = w.inverse
		d.rates = append(d.rates, gradientRate*w.size(start[d.bounds[i][0]:d.bounds[i][1]]))
	}
	return nil
}

// innerMoments are those of the inputs of the matrices before the output matrix.
func (g gradientFit) innerMoments(ctx context.Context) (*decoder.Moments, error) {
	in, err := g.m.NormedInputs(ctx, g.layer, g.module, g.fit.a.own)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	weighed, done, err := g.fit.weigh(ctx, g.recipe, in)
	if err != nil {
		return nil, err
	}
	defer done()
	return weighed.Moments(ctx)
}

// whitening is the coordinates in which inputs with second moments h are white.
type whitening struct {
	n       int
	h       []float64 // with the ridge
	inverse []float32 // L⁻¹ [n, n]
}

func newWhitening(h []float64, n int) (whitening, error) {
	w := whitening{n: n, h: append([]float64(nil), h...)}
	mean := linalg.MeanDiagonal(h, n)
	if mean == 0 {
		mean = 1 // inputs that are always zero
	}
	for i := range n {
		w.h[i*n+i] += gradientRidge * mean
	}
	f, err := linalg.Factorize(w.h, n, 0)
	if err != nil {
		return w, err
	}
	inverse := make([]float64, n*n)
	for i := range n {
		inverse[i*n+i] = 1
	}
	f.SolveUpper(inverse, n)
	w.inverse = linalg.Narrow(inverse)
	return w, nil
}

// size returns the root mean square of the numbers of a matrix [rows, n] in white coordinates, W·L.
func (w whitening) size(matrix []float32) float64 {
	m := linalg.Widen(matrix)
	return math.Sqrt(max(0, linalg.Dot(linalg.Product(len(m)/w.n, w.n, w.n, m, w.h), m)) / float64(len(m)))
}

// run makes steps from the start and returns the numbers after them. check, unless nil, is called eight times over all steps.
func (d *descent) run(ctx context.Context, steps int, check func(step int, values []float32) error) ([]float32, error) {
	n := d.problems[0].Len()
	values, first, second := make([]float32, n), make([]float64, n), make([]float64, n)
	rng := rand.New(rand.NewPCG(gradientOrder, d.seed))
	var order []int
	for step := range steps {
		if len(order) == 0 {
			order = rng.Perm(len(d.windows))
		}
		at := d.windows[order[0]]
		order = order[1:]
		_, gradient, err := d.problems[at[0]].Gradient(ctx, values, at[1:])
		if err != nil {
			return nil, err
		}
		for i, b := range d.bounds {
			rate := adam.Rate(d.rates[i], float64(step)/float64(d.of), step)
			adam.Step(values[b[0]:b[1]], first[b[0]:b[1]], second[b[0]:b[1]], gradient[b[0]:b[1]], step, rate, gradientEpsilon)
		}
		if check != nil && ((step+1)*gradientChecks/d.of > step*gradientChecks/d.of || step+1 == steps) {
			if err := check(step+1, values); err != nil {
				return nil, err
			}
		}
	}
	return values, nil
}

// all returns the numbers below n.
func all(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}
