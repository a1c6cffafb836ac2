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
	// probeWindows of at most probeTokens are held out to measure losses on; probing cuts are made from statistics of
	// probeStatistics others.
	probeWindows    = 2
	probeTokens     = 1024
	probeStatistics = 8
	// probeLambda is the ridge of probing cuts.
	probeLambda = 0.1
	// leastRise keeps a cut that measured as a gain, which is noise, from looking free.
	leastRise = 1e-4
)

// prober measures what a cut in one module, re-fitted, costs the model when all others are dense. It goes through the
// layers once, with the dense model's states.
type prober struct {
	m     *decoder.Model
	st    *stream // text that cuts are made from
	at    *stream // text that losses are measured on, at the same place
	texts [][]int32
	dense *decoder.Subnet
	base  decoder.Score
}

func newProber(ctx context.Context, m *decoder.Model, windows [][]int32) (*prober, error) {
	texts, statistics := probeTexts(windows)
	p := &prober{m: m, texts: texts, dense: m.Dense()}
	var err error
	if p.base, err = m.Score(ctx, p.dense, texts); err != nil {
		p.dense.Close()
		return nil, err
	}
	if p.at, err = newStream(ctx, m, texts, Own); err != nil {
		p.dense.Close()
		return nil, err
	}
	if p.st, err = newStream(ctx, m, statistics, Own); err != nil {
		p.at.close()
		p.dense.Close()
		return nil, err
	}
	return p, nil
}

func (p *prober) close() {
	p.st.close()
	p.at.close()
	p.dense.Close()
}

// probeTexts divides the calibration text; a single window serves for both.
func probeTexts(windows [][]int32) (texts, statistics [][]int32) {
	n := len(windows)
	count := min(probeWindows, max(1, n/2))
	for _, w := range windows[n-count:] {
		texts = append(texts, w[:min(len(w), probeTokens)])
	}
	if n == 1 {
		return texts, windows
	}
	rest := windows[:n-count]
	if len(rest) <= probeStatistics {
		return texts, rest
	}
	for i := range probeStatistics {
		statistics = append(statistics, rest[i*len(rest)/probeStatistics])
	}
	return texts, statistics
}

// module calls f with the statistics of one module and moves on past it.
func (p *prober) module(ctx context.Context, layer int, module mask.Module, inner bool, f func(b *importance.Block, t Target) error) error {
	t, err := p.st.tap(ctx, layer, module, p.dense)
	if err != nil {
		return err
	}
	defer t.close()
	if f != nil {
		b, err := newBlock(p.m, layer, module, inner)
		if err != nil {
			return err
		}
		mo, err := t.own.Moments(ctx)
		if err != nil {
			return err
		}
		b.Mid = asInputs(mo)
		if err := f(b, Target{Gram: mo.H, Mean: mo.Mean, Tokens: mo.Tokens}); err != nil {
			return err
		}
	}
	if err := t.advance(ctx, p.dense, nil); err != nil {
		return err
	}
	at, err := p.at.tap(ctx, layer, module, p.dense)
	if err != nil {
		return err
	}
	defer at.close()
	return at.advance(ctx, p.dense, nil)
}

// rise is what the model's loss rises by, in nats per token, when one module of a layer is cut to l and re-fitted.
func (p *prober) rise(ctx context.Context, layer int, module mask.Module, l mask.Layer, b *importance.Block, t Target) (float64, error) {
	masks := p.dense.Masks().With(layer, l)
	kept := l.Channels.Indices()
	if module == mask.Attention {
		kept = masks.OColumns(layer)
	}
	problem := Problem{Name: b.Name, W: b.Output.Data, Out: b.Output.Out, In: b.Output.In, Fit: t}
	weights, _, err := solve(problem, kept, Options{Lambdas: []float64{probeLambda}, Pull: true})
	if err != nil {
		return 0, err
	}
	refit := gguf.Refit{WD: weights}
	if module == mask.Attention {
		refit = gguf.Refit{WO: weights}
	}
	cut, err := p.dense.WithLayer(ctx, layer, l, refit)
	if err != nil {
		return 0, err
	}
	defer cut.Close()
	score, err := p.scoreFrom(ctx, cut, layer, module)
	if err != nil {
		return 0, err
	}
	rise := score.NLL/float64(score.Tokens) - p.base.NLL/float64(p.base.Tokens)
	if math.IsNaN(rise) || math.IsInf(rise, 0) {
		return 0, fmt.Errorf("loss of the cut is %v", rise)
	}
	return max(rise, leastRise), nil
}

// scoreFrom is the likelihood under a subnet that is dense before a module, from where the texts are.
func (p *prober) scoreFrom(ctx context.Context, s *decoder.Subnet, layer int, module mask.Module) (decoder.Score, error) {
	st, err := p.at.own.Clone(ctx)
	if err != nil {
		return decoder.Score{}, err
	}
	defer st.Close()
	branch := &stream{m: p.m, own: st}
	for ; module < mask.Modules; module++ {
		if columns(p.m.Geometry(), layer, module) == 0 {
			continue
		}
		t, err := branch.tap(ctx, layer, module, s)
		if err == nil {
			err = t.advance(ctx, s, nil)
			t.close()
		}
		if err != nil {
			return decoder.Score{}, err
		}
	}
	for i := layer + 1; i < len(p.m.Geometry().Layers); i++ {
		if err := p.m.Advance(ctx, i, s, st); err != nil {
			return decoder.Score{}, err
		}
	}
	return p.m.ScoreStates(ctx, st, p.texts)
}
