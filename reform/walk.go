package reform

import (
	"context"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

// chooser picks units to keep on the way.
type chooser struct {
	// of says whose units it picks. It is asked with the masks that the subnet has so far.
	of func(masks subnet.Masks, layer int, m subnet.Module) bool
	// pick returns the mask of one module, given its statistics on the subnet's own inputs; the other module's is ignored.
	pick func(layer int, m subnet.Module, b *importance.Block) (subnet.Layer, error)
}

// walk takes calibration text through the layers of a subnet that comes into being on the way: each module is chosen and
// re-fitted on inputs that have passed what was cut before it.
type walk struct {
	m         *decoder.Model
	recipe    Recipe
	choose    *chooser // nil where sub already has the masks
	fit, held *stream  // held is nil where no text is held out
	dense     *decoder.Subnet
	masks     subnet.Masks    // so far
	changed   bool            // something so far is not as in the dense model
	sub       *decoder.Subnet // has them in the layer that the text stands before, and is dense otherwise: one layer's weights
	refit     []gguf.Refit
	modules   []ModuleReport
	progress  func(Event)
	steps     int
}

// newWalk starts at the first layer with masks that are final where choose is nil, and otherwise those to start from.
func newWalk(ctx context.Context, m *decoder.Model, windows [][]int32, masks subnet.Masks, recipe Recipe, choose *chooser, c Config) (*walk, error) {
	if !masks.Geometry().Equal(m.Geometry()) {
		return nil, decoder.ErrGeometry
	}
	w := &walk{
		m: m, recipe: recipe, choose: choose, progress: c.Progress, refit: make([]gguf.Refit, masks.Layers()),
		steps: subnet.Modules * masks.Layers(), dense: m.Dense(), masks: masks, sub: m.Dense(),
	}
	if m.Config().PostNorms && recipe.Goal == DenseState {
		w.recipe.Goal = Own
	}
	fit, held := split(windows, c.HeldOut, len(recipe.Solve.Lambdas))
	var err error
	if w.fit, err = newStream(ctx, m, fit, w.recipe.Goal); err != nil {
		w.close()
		return nil, err
	}
	if held != nil {
		if w.held, err = newStream(ctx, m, held, w.recipe.Goal); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

func (w *walk) close() {
	w.sub.Close()
	w.dense.Close()
	for _, s := range []*stream{w.fit, w.held} {
		if s != nil {
			s.close()
		}
	}
}

// run goes through all layers.
func (w *walk) run(ctx context.Context) error {
	for layer := range w.refit {
		if err := w.cut(ctx, layer); err != nil {
			return err
		}
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			if err := w.module(ctx, layer, module); err != nil {
				return named(layer, module, err)
			}
		}
	}
	return nil
}

// cut makes sub anew, with the masks of a layer and what was re-fitted of it.
func (w *walk) cut(ctx context.Context, layer int) error {
	next, err := w.dense.WithLayer(ctx, layer, w.masks.Layer(layer), w.refit[layer])
	if err != nil {
		return err
	}
	w.sub.Close()
	w.sub = next
	return nil
}

func (w *walk) module(ctx context.Context, layer int, module subnet.Module) error {
	n := columns(w.m.Geometry(), layer, module)
	report := ModuleReport{Layer: layer, Module: module.String(), Of: n}
	if n > 0 {
		t, err := w.fit.tap(ctx, layer, module, w.sub)
		if err != nil {
			return err
		}
		defer t.close()
		var held *tap
		if w.held != nil {
			if held, err = w.held.tap(ctx, layer, module, w.sub); err != nil {
				return err
			}
			defer held.close()
		}
		own, _, err := w.m.Weights(layer, outputName(module)+"_bias")
		if err != nil {
			return err
		}
		if recipe := w.recipeOf(own != nil, n); w.mayChange(recipe, layer, module) {
			if err := w.reform(ctx, recipe, own, t, held, &report); err != nil {
				return err
			}
		}
		report.Kept = len(w.kept(layer, module))
		for _, t := range []*tap{t, held} {
			if t == nil {
				continue
			}
			if err := t.advance(ctx, w.sub, w.dense); err != nil {
				return err
			}
		}
	}
	w.modules = append(w.modules, report)
	if w.progress != nil {
		w.progress(Event{Phase: Reforming, Done: len(w.modules), Total: w.steps, Module: &report})
	}
	return nil
}

// recipeOf is the recipe as it holds for an output matrix of so many columns, which may have a bias.
func (w *walk) recipeOf(bias bool, columns int) Recipe {
	r := w.recipe
	if bias && r.Goal == DenseState {
		r.Goal = Own // what the states lack then holds the bias, which stays in the model
	}
	tokens := w.fit.own.Tokens()
	if w.held != nil {
		tokens += w.held.own.Tokens()
	}
	return r.damped(tokens, columns)
}

// mayChange says whether a module could be other than dense, by the recipe that holds for it.
func (w *walk) mayChange(r Recipe, layer int, module subnet.Module) bool {
	if r.Whole && r.Goal == DenseState && w.changed && module == subnet.Attention {
		return true
	}
	return w.chosen(layer, module) || len(w.kept(layer, module)) < columns(w.m.Geometry(), layer, module)
}

// chosen says whether the units of a module are picked here.
func (w *walk) chosen(layer int, module subnet.Module) bool {
	return w.choose != nil && w.choose.of(w.masks, layer, module)
}

// kept lists the columns of a module's output matrix that the subnet keeps.
func (w *walk) kept(layer int, module subnet.Module) []int {
	if module == subnet.Attention {
		return w.masks.OColumns(layer)
	}
	return w.masks.Layer(layer).Channels.Indices()
}

// reform chooses and re-fits one module by the recipe that holds for it, and puts it in the subnet. own is its bias, if any.
func (w *walk) reform(ctx context.Context, recipe Recipe, own []float32, t, held *tap, report *ModuleReport) error {
	layer, module := t.layer, t.module
	chosen := w.chosen(layer, module)
	inner := chosen && importance.NeedsOf(recipe.Method).Weights
	b, err := newBlock(w.m, layer, module, inner)
	if err != nil {
		return err
	}
	p := Problem{Name: b.Name, W: b.Output.Data, Out: b.Output.Out, In: b.Output.In}
	if p.Fit, err = t.target(ctx, recipe, p.W, p.Out, w.dense); err != nil {
		return err
	}
	if held != nil {
		target, err := held.target(ctx, recipe, p.W, p.Out, w.dense)
		if err != nil {
			return err
		}
		p.HeldOut = &target
	}
	masks := w.masks
	if chosen {
		b.Mid = pooledInputs(p)
		if importance.NeedsOf(recipe.Method).Inputs {
			if b.In, err = t.s.innerInputs(ctx, layer, module); err != nil {
				return err
			}
		}
		l, err := w.choose.pick(layer, module, b)
		if err != nil {
			return err
		}
		old := masks.Layer(layer)
		if module == subnet.Attention {
			l.Channels = old.Channels
		} else {
			l.Heads, l.QK, l.VO = old.Heads, old.QK, old.VO
		}
		masks = masks.With(layer, l)
	}
	kept := masks.Layer(layer).Channels.Indices()
	if module == subnet.Attention {
		kept = masks.OColumns(layer)
	}
	weights, r, err := solve(p, kept, recipe.Solve)
	if err != nil {
		return err
	}
	var up []float32
	if recipe.refitsUp(module) && len(kept) > 0 && len(kept) < p.In && w.m.Geometry().LinearInUp() {
		u := upFit{w: w, recipe: recipe, fit: t, held: held, problem: p, kept: masks.Layer(layer).Channels}
		if up, weights, err = u.run(ctx, weights, &r); err != nil {
			return err
		}
	}
	report.ErrBefore, report.ErrAfter, report.HeldOut = r.ErrBefore, r.ErrAfter, r.HeldOut
	report.Lambda, report.Raised, report.Curve, report.Warning = r.Lambda, r.Raised, r.Curve, r.Warning
	if recipe.Solve.Method == None {
		weights = nil
	}
	for i, v := range own {
		if r.Bias != nil { // it takes the place of the model's own
			r.Bias[i] += v
		}
	}
	f := &w.refit[layer]
	if module == subnet.Attention {
		f.WO, f.BO = weights, r.Bias
	} else {
		f.WD, f.BD, f.WU = weights, r.Bias, up
	}
	w.masks, w.changed = masks, true
	return w.cut(ctx, layer)
}

// pooledInputs is the moments of the fitted and the held-out text together, for choosing units.
func pooledInputs(p Problem) importance.Inputs {
	in := importance.Inputs{N: p.In, Gram: p.Fit.Gram, Mean: p.Fit.Mean}
	if h := p.HeldOut; h != nil {
		share := float64(p.Fit.Tokens) / float64(p.Fit.Tokens+h.Tokens)
		in.Gram, in.Mean = mix(p.Fit.Gram, h.Gram, share), mix(p.Fit.Mean, h.Mean, share)
	}
	in.Var = make([]float64, in.N)
	for j, mean := range in.Mean {
		in.Var[j] = max(0, in.Gram[j*in.N+j]-mean*mean)
	}
	return in
}

// mix returns share·a + (1 − share)·b.
func mix(a, b []float64, share float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = share*a[i] + (1-share)*b[i]
	}
	return out
}
