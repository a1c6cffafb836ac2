package reform

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// walk passes calibration text through the layers of a subnet while they are re-fitted: the units of each module are chosen and
// its weights re-fitted on inputs that have passed through the modules re-fitted before it.
type walk struct {
	m         *decoder.Model // of the subnet
	ref       *decoder.Model // the dense model: m, or that which m has the rounded weights of
	recipe    Recipe
	chooser   Chooser         // may be nil
	round     Rounder         // may be nil
	fit, held *activations    // held is nil where no text is held out
	dense     *decoder.Subnet // of ref
	base      *decoder.Subnet // the dense subnet of m
	masks     subnet.Masks    // so far
	changed   bool            // a module so far differs from the dense model
	passed    int             // layers that the text has passed, where those behind the last one are dropped
	sub       *decoder.Subnet // has masks and re-fitted weights in the current layer alone, so that it holds the weights of one
	refit     []gguf.Refit
	rounded   gguf.Refit // of the current layer: refit as the file will hold it
	modules   []ModuleReport
	progress  func(done, total int, m ModuleReport)
}

func newWalk(ctx context.Context, m *decoder.Model, windows [][]int32, masks subnet.Masks, c Config) (*walk, error) {
	if !masks.Geometry().Equal(m.Geometry()) {
		return nil, decoder.ErrGeometry
	}
	w := &walk{
		m: m, recipe: c.Recipe, chooser: c.Chooser, progress: c.Progress, masks: masks,
		refit: make([]gguf.Refit, masks.Layers()), ref: m, round: c.Rounder,
	}
	if c.Rounded != nil {
		if !c.Rounded.Geometry().Equal(m.Geometry()) {
			return nil, decoder.ErrGeometry
		}
		w.m, w.changed = c.Rounded, true
	}
	w.dense, w.base, w.sub = w.ref.Dense(), w.m.Dense(), w.m.Dense()
	if m.Config().PostNorms && c.Recipe.Target == DenseResidual {
		w.recipe.Target = LocalOutput
	}
	choices := len(c.Recipe.Solve.Lambdas)
	if c.Recipe.RefitsByGradient() {
		if len(windows) < leastGradientWindows {
			return nil, fmt.Errorf("%w: a re-fit by gradient holds out a quarter of at least %d windows, not of %d", ErrText, leastGradientWindows, len(windows))
		}
		choices = max(2, choices)
	}
	fit, held := split(windows, c.HeldOut, choices)
	var err error
	if w.fit, err = newActivations(ctx, w.m, w.ref, fit, w.recipe.Target); err != nil {
		w.close()
		return nil, err
	}
	if held != nil {
		if w.held, err = newActivations(ctx, w.m, w.ref, held, w.recipe.Target); err != nil {
			w.close()
			return nil, err
		}
	}
	if w.recipe.byGradient() {
		if w.fit.factors, err = newTokenFactors(ctx, w.ref, fit); err == nil && held != nil {
			w.held.factors, err = newTokenFactors(ctx, w.ref, held)
		}
		if err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func (w *walk) close() {
	w.sub.Close()
	w.base.Close()
	w.dense.Close()
	for _, a := range []*activations{w.fit, w.held} {
		if a != nil {
			a.close()
		}
	}
}

// run passes through all layers.
func (w *walk) run(ctx context.Context) error {
	for layer := range w.refit {
		w.rounded = gguf.Refit{}
		if layer >= w.passed {
			if err := w.rebuild(ctx, layer); err != nil {
				return err
			}
		}
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			report, err := w.module(ctx, layer, module)
			if err != nil {
				return ModuleError(layer, module, err)
			}
			w.modules = append(w.modules, report)
			if w.progress != nil {
				w.progress(len(w.modules), subnet.Modules*len(w.refit), report)
			}
		}
	}
	return nil
}

// rebuild rebuilds sub with the masks of a layer and its weights re-fitted so far.
func (w *walk) rebuild(ctx context.Context, layer int) error {
	next, err := w.base.WithLayer(ctx, layer, w.masks.Layer(layer), w.rounded)
	if err != nil {
		return err
	}
	w.sub.Close()
	w.sub = next
	return nil
}

// module re-fits one module, where it has to be, and moves the text past it.
func (w *walk) module(ctx context.Context, layer int, module subnet.Module) (ModuleReport, error) {
	n := w.m.Geometry().OutputColumns(layer, module)
	report := ModuleReport{Layer: layer, Module: module.String(), Of: n}
	if n == 0 || layer < w.passed {
		return report, nil
	}
	f, err := w.enter(ctx, layer, module)
	if err != nil {
		return report, err
	}
	defer f.close()
	if gap := w.gap(f); gap > 0 {
		f.recipe.Blend, w.passed = 1, layer+1+gap
		for _, in := range []*moduleInput{f.fit, f.held} {
			if in != nil {
				in.gap = gap
			}
		}
	}
	if w.mayChange(f) {
		if err := w.reform(ctx, f, &report); err != nil {
			return report, err
		}
	}
	report.Kept = len(w.masks.OutputColumns(layer, module))
	return report, f.advance(ctx, w.sub)
}

// enter computes the inputs of a module. The caller must close the fit.
func (w *walk) enter(ctx context.Context, layer int, module subnet.Module) (_ *moduleFit, err error) {
	f := &moduleFit{m: w.m, ref: w.ref, dense: w.dense, layer: layer, module: module}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.fit, err = w.fit.enter(ctx, layer, module, w.sub); err != nil {
		return nil, err
	}
	tokens := w.fit.own.Tokens()
	if w.held != nil {
		if f.held, err = w.held.enter(ctx, layer, module, w.sub); err != nil {
			return nil, err
		}
		tokens += w.held.own.Tokens()
	}
	if f.bias, _, err = w.ref.Weights(layer, w.m.OutputMatrix(module)+"_bias"); err != nil {
		return nil, err
	}
	f.recipe = w.recipe.shrunk(tokens, w.m.Geometry().OutputColumns(layer, module))
	if f.bias != nil && f.recipe.Target == DenseResidual {
		f.recipe.Target = LocalOutput // the residual contains the bias, which stays in the model
	}
	return f, nil
}

// gap is how many dropped layers follow an MLP that is fitted to the hidden states behind them.
func (w *walk) gap(f *moduleFit) int {
	if !w.recipe.Bridge || f.recipe.Target != DenseResidual || f.module != subnet.MLP || w.masks.Layer(f.layer).Channels.IsEmpty() {
		return 0
	}
	n := 0
	for f.layer+n+1 < len(w.refit) && w.masks.Layer(f.layer+n+1).IsDropped() {
		n++
	}
	return n
}

// mayChange reports whether a module of the subnet could differ from the dense one.
func (w *walk) mayChange(f *moduleFit) bool {
	if f.recipe.RefitUncutAttention && f.recipe.Target == DenseResidual && w.changed && f.module == subnet.Attention {
		return true
	}
	if w.recipe.RefitAll && f.recipe.Target == DenseResidual && w.changed {
		return true
	}
	if w.recipe.Bridge && f.recipe.Target == DenseResidual && (w.changed || w.passed > f.layer) {
		return true
	}
	return w.chosen(f) || len(w.masks.OutputColumns(f.layer, f.module)) < w.m.Geometry().OutputColumns(f.layer, f.module)
}

// chosen reports whether the chooser chooses the units of a module.
func (w *walk) chosen(f *moduleFit) bool {
	return w.chooser != nil && w.chooser.Chooses(f.layer, f.module)
}

// reform chooses the units of one module, where there is a chooser, re-fits it and puts it into the subnet.
func (w *walk) reform(ctx context.Context, f *moduleFit, report *ModuleReport) error {
	if err := f.gather(ctx); err != nil {
		return err
	}
	if w.chosen(f) {
		if err := w.choose(ctx, f); err != nil {
			return err
		}
	}
	refit, r, err := f.solve(ctx, w.masks)
	if err != nil {
		return err
	}
	report.ErrBefore, report.ErrAfter, report.HeldOut = r.ErrBefore, r.ErrAfter, r.HeldOut
	report.Lambda, report.Raised, report.Curve, report.Warning = r.Lambda, r.Raised, r.Curve, r.Warning
	if g := (gradientFit{f, w.masks}); g.applies() {
		if refit, report.Gradient, err = g.run(ctx, refit, &r); err != nil {
			return fmt.Errorf("by gradient: %w", err)
		}
		report.ErrAfter, report.HeldOut = r.ErrAfter, r.HeldOut
	}
	rounded := refit
	if w.round != nil {
		if refit, rounded, err = w.roundOutput(f, refit); err != nil {
			return err
		}
	}
	take := func(to *gguf.Refit, from gguf.Refit) {
		if f.module == subnet.Attention {
			to.WO, to.BO, to.WQ, to.WK, to.WV = from.WO, from.BO, from.WQ, from.WK, from.WV
		} else {
			to.WD, to.BD, to.WU, to.WG = from.WD, from.BD, from.WU, from.WG
		}
	}
	take(&w.refit[f.layer], refit)
	take(&w.rounded, rounded)
	w.changed = true
	return w.rebuild(ctx, f.layer)
}

// roundOutput rounds the output matrix of a module that was re-fitted, or that keeps its original columns. It returns the weights to keep
// and what the file will hold.
func (w *walk) roundOutput(f *moduleFit, refit gguf.Refit) (keep, rounded gguf.Refit, err error) {
	kept, in := w.masks.OutputColumns(f.layer, f.module), f.problem.In
	o := Output{Layer: f.layer, Module: f.module, Columns: kept, Out: f.problem.Out, Weights: refit.WO, Algebra: f.problem.Algebra}
	if f.module == subnet.MLP {
		o.Weights = refit.WD
	}
	if len(kept) == 0 {
		return refit, refit, nil
	}
	if o.Weights == nil {
		o.Weights = linalg.Narrow(linalg.Columns(linalg.Widen(f.problem.W), f.problem.Out, in, kept))
	}
	moments := f.problem.inputMoments()
	o.Tokens = moments.Tokens
	o.Gram = func() []float64 { return linalg.Sub(moments.H, in, kept, kept) }
	to, stored, err := w.round(o)
	if err != nil {
		return refit, refit, err
	}
	keep, rounded = refit, refit
	if f.module == subnet.Attention {
		rounded.WO = stored
		if refit.WO != nil {
			keep.WO = to
		}
	} else {
		rounded.WD = stored
		if refit.WD != nil {
			keep.WD = to
		}
	}
	return keep, rounded, nil
}

// choose replaces the mask of a module by the one that the chooser returns.
func (w *walk) choose(ctx context.Context, f *moduleFit) error {
	chosen, err := w.chooser.Choose(ctx, f.block())
	if err != nil {
		return err
	}
	l := w.masks.Layer(f.layer)
	if f.module == subnet.Attention {
		l.Heads, l.QK, l.VO = chosen.Heads, chosen.QK, chosen.VO
	} else {
		l.Channels = chosen.Channels
	}
	w.masks = w.masks.With(f.layer, l)
	return nil
}
