package reform

import (
	"context"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

const (
	// probeWindows of at most probeTokens are held out to measure losses on; probing cuts are made from statistics of
	// probeStatistics others.
	probeWindows    = 2
	probeTokens     = 1024
	probeStatistics = 8
	// probeLambda is the ridge of probing cuts.
	probeLambda = 0.1
	// probeTopK of the dense model's likeliest tokens stand for its distribution.
	probeTopK = 512
	// leastRise keeps a cut that changes nothing from looking free.
	leastRise = 1e-4
)

// prober measures what a cut in one module, re-fitted, costs the model when all others are dense. It goes through the
// layers once, with the dense model's states.
//
// The cost is the divergence from the dense model. On average over text that is the rise of the loss, and on a few
// thousand tokens it is far less noisy than the difference of two losses: for many layers that is smaller than its own
// error, and widths shared out by it would cut a layer away because of noise.
type prober struct {
	m      *decoder.Model
	st     *stream // text that cuts are made from
	scorer *decoder.Scorer
	text   decoder.Text // what losses are measured on
	dense  *decoder.Subnet
	base   decoder.Scored
}

func newProber(ctx context.Context, m *decoder.Model, windows [][]int32) (_ *prober, err error) {
	texts, statistics := probeTexts(windows)
	p := &prober{m: m, dense: m.Dense()}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for i := range texts {
		p.text.Windows = append(p.text.Windows, i)
	}
	if p.scorer, err = m.NewScorer(texts, decoder.ScorerOptions{TopK: min(probeTopK, m.Config().Vocab/2), Words: decoder.EnoughWords(m.Geometry())}); err != nil {
		return nil, err
	}
	if p.base, err = p.scorer.Score(ctx, p.dense, p.text); err != nil {
		return nil, err
	}
	if math.IsNaN(p.base.NLL) || math.IsInf(p.base.NLL, 0) {
		return nil, notFinite(ctx, m, texts)
	}
	if p.st, err = newStream(ctx, m, statistics, Own); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *prober) close() {
	if p.st != nil {
		p.st.close()
	}
	if p.scorer != nil {
		p.scorer.Close()
	}
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
func (p *prober) module(ctx context.Context, layer int, module subnet.Module, inner bool, f func(b *importance.Block, t Target) error) error {
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

// rise is what the model loses, in nats per token, when one module of a layer is cut to l and re-fitted.
func (p *prober) rise(ctx context.Context, layer int, module subnet.Module, l subnet.Layer, b *importance.Block, t Target) (float64, error) {
	masks := p.dense.Masks().With(layer, l)
	kept := l.Channels.Indices()
	if module == subnet.Attention {
		kept = masks.OColumns(layer)
	}
	problem := Problem{Name: b.Name, W: b.Output.Data, Out: b.Output.Out, In: b.Output.In, Fit: t}
	weights, _, err := solve(problem, kept, Options{Lambdas: []float64{probeLambda}, Pull: true})
	if err != nil {
		return 0, err
	}
	refit := gguf.Refit{WD: weights}
	if module == subnet.Attention {
		refit = gguf.Refit{WO: weights}
	}
	cut, err := p.dense.WithLayer(ctx, layer, l, refit)
	if err != nil {
		return 0, err
	}
	defer cut.Close()
	score, err := p.scorer.Score(ctx, cut, p.text)
	if err != nil {
		return 0, err
	}
	rise := score.KL / float64(score.Tokens)
	if math.IsNaN(rise) || math.IsInf(rise, 0) {
		return 0, fmt.Errorf("divergence of the cut is %v", rise)
	}
	return max(rise, leastRise), nil
}
