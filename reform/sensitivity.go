package reform

import (
	"context"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/search/importance"
	"github.com/lathe-llm/lathe/search/mask"
)

const (
	// probeExponent is how the loss of a cut grows with the share that is cut.
	probeExponent = 2.5
	// probeWindows are held out to measure losses on, probeStatistics are what the probing cuts are made from.
	probeWindows    = 2
	probeStatistics = 8
)

// losses predict the rise of the model's loss, in nats per token, when units of one module are dropped and the rest
// re-fitted: probe·(dropped/probed)^probeExponent, from one measured cut of each module. Those of several modules add up.
type losses struct {
	g      *mask.Geometry
	probe  [][mask.Modules]float64 // measured rise
	probed [][mask.Modules]int     // units dropped for it
}

func (l losses) at(layer int, m mask.Module, keep int) float64 {
	all := denseCounts(l.g).of(layer, m)
	if l.probed[layer][m] == 0 || keep >= all {
		return 0
	}
	return l.probe[layer][m] * math.Pow(float64(all-keep)/float64(l.probed[layer][m]), probeExponent)
}

func (l losses) total(c counts) float64 {
	var sum float64
	for i := range l.g.Layers {
		sum += l.at(i, mask.MLP, c.channels[i]) + l.at(i, mask.Attention, c.groups[i])
	}
	return sum
}

// sensitivity measures, for each module that may be cut, what the model loses when half of its units are dropped and the
// rest re-fitted, all others being dense. The cuts are made from statistics of some windows, and the loss is taken on others
// where there are enough.
func (p *plan) sensitivity(ctx context.Context) (losses, error) {
	g := p.m.Geometry()
	l := losses{g: g, probe: make([][mask.Modules]float64, len(g.Layers)), probed: make([][mask.Modules]int, len(g.Layers))}
	probes, statistics := p.probeTexts()
	st, err := newStream(ctx, p.m, statistics, Own)
	if err != nil {
		return l, err
	}
	defer st.close()
	at, err := newStream(ctx, p.m, probes, Own)
	if err != nil {
		return l, err
	}
	defer at.close()
	dense := p.m.Dense()
	defer dense.Close()
	base, err := p.m.Score(ctx, dense, probes)
	if err != nil {
		return l, err
	}
	for layer := range g.Layers {
		for _, module := range []mask.Module{mask.Attention, mask.MLP} {
			if columns(g, layer, module) == 0 {
				continue
			}
			if err := p.probe(ctx, &l, st, at, dense, base, layer, module); err != nil {
				return l, named(layer, module, err)
			}
		}
		if p.config.Progress != nil {
			p.config.Progress(Event{Phase: Measuring, Done: layer + 1, Total: len(g.Layers)})
		}
	}
	return l, nil
}

// probeTexts divides the calibration text; a single window serves for both.
func (p *plan) probeTexts() (probes, statistics [][]int32) {
	n := len(p.windows)
	if n == 1 {
		return p.windows, p.windows
	}
	count := min(probeWindows, n/2)
	statistics = p.windows[:n-count]
	if len(statistics) > probeStatistics {
		some := make([][]int32, probeStatistics)
		for i := range some {
			some[i] = statistics[i*len(statistics)/probeStatistics]
		}
		statistics = some
	}
	return p.windows[n-count:], statistics
}

// probe cuts one module, where its recipe lets it be cut, and moves both streams past the module as the dense model has it.
func (p *plan) probe(ctx context.Context, l *losses, st, at *stream, dense *decoder.Subnet, base decoder.Score, layer int, module mask.Module) error {
	t, err := st.tap(ctx, layer, module, dense)
	if err != nil {
		return err
	}
	defer t.close()
	if module == mask.MLP || p.recipe.Attention {
		cut, dropped, err := p.half(ctx, t)
		if err != nil {
			return err
		}
		l.probed[layer][module] = dropped
		if dropped > 0 {
			probe, err := dense.WithLayer(ctx, layer, cut.Masks.Layer(layer), cut.Refit[layer])
			if err != nil {
				return err
			}
			defer probe.Close()
			score, err := p.lossFrom(ctx, at, probe, layer, module)
			if err != nil {
				return err
			}
			rise := score.NLL/float64(score.Tokens) - base.NLL/float64(base.Tokens)
			if math.IsNaN(rise) || math.IsInf(rise, 0) {
				return fmt.Errorf("loss of half the units is %v", rise)
			}
			l.probe[layer][module] = max(rise, leastRise)
		}
	}
	if err := t.advance(ctx, dense, nil); err != nil {
		return err
	}
	next, err := at.tap(ctx, layer, module, dense)
	if err != nil {
		return err
	}
	defer next.close()
	return next.advance(ctx, dense, nil)
}

// leastRise keeps a module whose cut measured as a gain, which is noise, from looking free.
const leastRise = 1e-4

// half is the cut of half a module's units, and how many units that is.
func (p *plan) half(ctx context.Context, t *tap) (gguf.Subnet, int, error) {
	g := p.m.Geometry()
	b, err := newBlock(p.m, t.layer, t.module, importance.NeedsOf(p.recipe.Method).Weights)
	if err != nil {
		return gguf.Subnet{}, 0, err
	}
	all := b.Count(units(t.module))
	dropped := all / 2
	if dropped == 0 {
		return gguf.Subnet{}, 0, nil
	}
	mo, err := t.own.Moments(ctx)
	if err != nil {
		return gguf.Subnet{}, 0, err
	}
	b.Mid = asInputs(mo)
	r, err := importance.Rank(p.recipe.Method, b, units(t.module), importance.Options{})
	if err != nil {
		return gguf.Subnet{}, 0, err
	}
	masks := mask.Dense(g)
	masks = masks.With(t.layer, withUnits(g, t.layer, masks.Layer(t.layer), t.module, r.Keep(all-dropped)))
	kept := masks.Layer(t.layer).Channels.Indices()
	if t.module == mask.Attention {
		kept = masks.OColumns(t.layer)
	}
	problem := Problem{Name: b.Name, W: b.Output.Data, Out: b.Output.Out, In: b.Output.In}
	problem.Fit = Target{Gram: mo.H, Mean: mo.Mean, Tokens: mo.Tokens}
	o := p.recipe.Solve
	if len(o.Lambdas) > 1 {
		o.Lambdas = []float64{probeLambda}
	}
	weights, result, err := solve(problem, kept, o)
	if err != nil {
		return gguf.Subnet{}, 0, err
	}
	s := gguf.Subnet{Masks: masks, Refit: make([]gguf.Refit, len(g.Layers))}
	if t.module == mask.Attention {
		s.Refit[t.layer] = gguf.Refit{WO: weights, BO: result.Bias}
	} else {
		s.Refit[t.layer] = gguf.Refit{WD: weights, BD: result.Bias}
	}
	return s, dropped, nil
}

// probeLambda is the ridge of probing cuts where the recipe has several to choose from.
const probeLambda = 0.1

// lossFrom is the loss of the probe on text that stands before the module.
func (p *plan) lossFrom(ctx context.Context, at *stream, probe *decoder.Subnet, layer int, module mask.Module) (decoder.Score, error) {
	probes, _ := p.probeTexts()
	return p.m.Score(ctx, probe, probes)
}
