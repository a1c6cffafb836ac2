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
	if p.st, err = newStream(ctx, m, statistics, Own); err != nil {
		p.dense.Close()
		return nil, err
	}
	return p, nil
}

func (p *prober) close() {
	p.st.close()
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
	return t.advance(ctx, p.dense, nil)
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
	score, err := p.m.Score(ctx, cut, p.texts)
	if err != nil {
		return 0, err
	}
	rise := score.NLL/float64(score.Tokens) - p.base.NLL/float64(p.base.Tokens)
	if math.IsNaN(rise) || math.IsInf(rise, 0) {
		return 0, fmt.Errorf("loss of the cut is %v", rise)
	}
	return max(rise, leastRise), nil
}
