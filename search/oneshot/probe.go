package oneshot

import (
	"context"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/importance"
)

const (
	// probeWindows of at most probeTokens are held out to measure losses on; probing cuts are re-fitted on probeStatistics
	// others.
	probeWindows    = 2
	probeTokens     = 1024
	probeStatistics = 8
	// probeLambda is the ridge of probing cuts.
	probeLambda = 0.1
	// probeTopK is how many of the dense model's likeliest tokens its distribution is approximated by.
	probeTopK = 512
	// leastRise keeps a cut that changes nothing from looking free.
	leastRise = 1e-4
)

// prober measures what a re-fitted cut in one module costs the model when all others are dense, during one pass through the
// layers.
//
// The cost is the divergence from the dense model. On average over text that is the rise of the loss, and on a few
// thousand tokens it is far less noisy than the difference of two losses: for many layers that is smaller than its own
// error, and widths allocated by it would cut a layer away because of noise.
type prober struct {
	*pass  // of the text that cuts are re-fitted on
	scorer *decoder.Scorer
	text   decoder.Text // what losses are measured on
	probes [][]int32    // its windows
	base   decoder.Scored
	gate   func(context.Context) error // called before each measurement, if set
}

func newProber(ctx context.Context, m *decoder.Model, windows [][]int32) (_ *prober, err error) {
	texts, statistics := probeTexts(windows)
	p := &prober{probes: texts}
	if p.pass, err = newPass(ctx, m, statistics); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for i := range texts {
		p.text.Windows = append(p.text.Windows, i)
	}
	if p.scorer, err = m.NewScorer(texts, decoder.ScorerOptions{TopK: min(probeTopK, m.Config().Vocab/2), Vocab: decoder.SampledVocab(m.Geometry())}); err != nil {
		return nil, err
	}
	if p.base, err = p.scorer.Score(ctx, p.dense, p.text); err != nil {
		return nil, err
	}
	if math.IsNaN(p.base.NLL) || math.IsInf(p.base.NLL, 0) {
		return nil, notFinite(ctx, m, texts)
	}
	return p, nil
}

func (p *prober) close() {
	if p.scorer != nil {
		p.scorer.Close()
	}
	p.pass.close()
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

// rise measures how much the model loses, in nats per token, when the module of b is cut as in l and re-fitted.
func (p *prober) rise(ctx context.Context, layer int, l subnet.Layer, b *importance.Block) (float64, error) {
	kept := p.dense.Masks().With(layer, l).OutputColumns(layer, b.Module)
	problem := reform.Problem{W: b.Output.Data, Out: b.Output.Out, In: b.Output.In, Algebra: b.Algebra}
	problem.Fit = reform.Moments{Gram: b.Mid.Gram, Mean: b.Mid.Mean, Tokens: p.st.Tokens()}
	weights, _, err := reform.Solve(problem, kept, reform.Options{Lambdas: []float64{probeLambda}, Pull: true})
	if err != nil {
		return 0, err
	}
	refit := gguf.Refit{WD: weights}
	if b.Module == subnet.Attention {
		refit = gguf.Refit{WO: weights}
	}
	cut, err := p.dense.WithLayer(ctx, layer, l, refit)
	if err != nil {
		return 0, err
	}
	defer cut.Close()
	return p.divergence(ctx, cut)
}

// without measures how much the model loses, in nats per token, without a module.
func (p *prober) without(ctx context.Context, layer int, module subnet.Module) (float64, error) {
	cut, err := p.dense.WithLayer(ctx, layer, droppedModule(p.dense.Masks().Layer(layer), module), gguf.Refit{})
	if err != nil {
		return 0, err
	}
	defer cut.Close()
	return p.divergence(ctx, cut)
}

// droppedModule returns a layer without a module.
func droppedModule(l subnet.Layer, module subnet.Module) subnet.Layer {
	if module == subnet.Attention {
		l.Heads, l.QK, l.VO = subnet.Empty(l.Heads.N()), nil, nil
	} else {
		l.Channels = subnet.Empty(l.Channels.N())
	}
	return l
}

// divergence measures the divergence of a subnet from the dense model, in nats per token.
func (p *prober) divergence(ctx context.Context, cut *decoder.Subnet) (float64, error) {
	if p.gate != nil {
		if err := p.gate(ctx); err != nil {
			return 0, err
		}
	}
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
