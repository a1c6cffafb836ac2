package quality

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/infer"
)

// DefaultTop is how many tokens of each position a Reference keeps.
const DefaultTop = 256

// Reference holds what one model, usually the dense one, expects at every position of some windows. It is made once and
// compared with any number of models; the model it was made from need not stay loaded.
type Reference struct {
	windows [][]int32
	vocab   int
	at      [][]infer.Position
}

// NewReference has the model look at the windows and keeps the top most likely tokens of each position: DefaultTop for 0.
// It takes 8 bytes for each of them.
func NewReference(ctx context.Context, m infer.Model, windows [][]int32, top int, progress func(infer.Progress)) (*Reference, error) {
	if top == 0 {
		top = DefaultTop
	}
	if top < 1 || top > infer.MaxTop {
		return nil, fmt.Errorf("quality: %d tokens for each position: 1 to %d", top, infer.MaxTop)
	}
	at, err := m.Distributions(ctx, windows, infer.DistributionOptions{Top: top, Progress: progress})
	if err != nil {
		return nil, fmt.Errorf("quality: reference: %w", err)
	}
	return &Reference{windows: windows, vocab: m.Info().Vocab, at: at}, nil
}

// Comparison says how far a model is from a reference.
type Comparison struct {
	Tokens int `json:"tokens"`

	// KL is the mean divergence D(reference ‖ model) in nats for each token, over the reference's most likely tokens
	// apart and all others together. It is never above that over the whole vocabulary, and close to it.
	KL    float64 `json:"kl"`
	KLErr float64 `json:"kl_standard_error"`

	// Agreement is the share of positions where both find the same token most likely.
	Agreement    float64 `json:"top1_agreement"`
	AgreementErr float64 `json:"top1_agreement_standard_error"`

	Perplexity          float64 `json:"perplexity"`
	ReferencePerplexity float64 `json:"reference_perplexity"`
}

// Compare measures m against the reference. The models must share a vocabulary.
func (r *Reference) Compare(ctx context.Context, m infer.Model, progress func(infer.Progress)) (Comparison, error) {
	if v := m.Info().Vocab; v != r.vocab {
		return Comparison{}, fmt.Errorf("quality: a vocabulary of %d tokens, the reference has %d", v, r.vocab)
	}
	ids := make([][][]int32, len(r.at))
	for w, window := range r.at {
		ids[w] = make([][]int32, len(window))
		for i, p := range window {
			ids[w][i] = p.Top
		}
	}
	got, err := m.Distributions(ctx, r.windows, infer.DistributionOptions{Top: 1, At: ids, Progress: progress})
	if err != nil {
		return Comparison{}, fmt.Errorf("quality: comparison: %w", err)
	}
	var kl, same, nll, reference mean
	for w, window := range r.at {
		if len(got[w]) != len(window) {
			return Comparison{}, errors.New("quality: the model answers for another number of positions")
		}
		for i, p := range window {
			q := got[w][i]
			kl.add(divergence(p.TopProbs, q.At))
			agree := 0.0
			if len(p.Top) > 0 && len(q.Top) > 0 && p.Top[0] == q.Top[0] {
				agree = 1
			}
			same.add(agree)
			nll.add(float64(q.NLL))
			reference.add(float64(p.NLL))
		}
	}
	return Comparison{
		Tokens: kl.n, KL: kl.mean(), KLErr: kl.err(), Agreement: same.mean(), AgreementErr: same.err(),
		Perplexity: math.Exp(nll.mean()), ReferencePerplexity: math.Exp(reference.mean()),
	}, nil
}

// divergence is D(p ‖ q) in nats over the given tokens, whose natural log-probabilities p and q hold, and one event more:
// any other token.
func divergence(p, q []float32) float64 {
	const least = 1e-12 // what rounding leaves of a rest is no evidence
	sum, restP, restQ := 0.0, 1.0, 1.0
	for i := range min(len(p), len(q)) {
		lp, lq := float64(p[i]), float64(q[i])
		prob := math.Exp(lp)
		restP -= prob
		restQ -= math.Exp(lq)
		if prob > 0 {
			sum += prob * (lp - lq)
		}
	}
	if restP > least {
		sum += restP * (math.Log(restP) - math.Log(max(restQ, least)))
	}
	return max(sum, 0)
}
