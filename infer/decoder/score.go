package decoder

import (
	"context"
	"fmt"
	"math"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Score is the likelihood of text.
type Score struct {
	NLL    float64 `json:"nll"`    // negative log-likelihood, the sum over all tokens scored, in nats
	Tokens int     `json:"tokens"` // tokens scored
}

// Perplexity is exp(NLL / Tokens), NaN without tokens.
func (s Score) Perplexity() float64 { return math.Exp(s.NLL / float64(s.Tokens)) }

// Score takes the likelihood of windows under a subnet, each by itself; the first token of a window is not scored.
func (m *Model) Score(ctx context.Context, s *Subnet, windows [][]int32) (Score, error) {
	var total Score
	for i, w := range windows {
		lp, err := m.LogProbs(ctx, s, w)
		if err != nil {
			return Score{}, fmt.Errorf("window %d: %w", i, err)
		}
		for _, v := range lp {
			total.NLL -= float64(v)
		}
		total.Tokens += len(lp)
	}
	return total, nil
}

// LogProbs returns the log-probability of every token of a window but the first.
func (m *Model) LogProbs(ctx context.Context, s *Subnet, window []int32) ([]float32, error) {
	if len(window) < 2 {
		return nil, fmt.Errorf("decoder: a window of %d tokens has nothing to score", len(window))
	}
	x, err := m.forward(ctx, s, window)
	if err != nil {
		return nil, err
	}
	defer free(x)
	targets := append(append(make([]int32, 0, len(window)), window[1:]...), 0)
	ids, err := m.be.uploadInts(targets, len(targets))
	if err != nil {
		return nil, err
	}
	defer free(ids)
	eps := m.config.NormEps
	nll, err := m.be.run1(ctx, fmt.Sprintf("nll %g", eps), func(in []*graph.Node) *graph.Node {
		return negLogLikelihood(rmsNorm(in[0], in[1], eps), in[2], in[3])
	}, x, m.outNorm, m.head, ids)
	if err != nil {
		return nil, err
	}
	defer free(nll)
	out, err := m.be.fetch(nll)
	if err != nil {
		return nil, err
	}
	out = out[:len(window)-1]
	for i, v := range out {
		out[i] = -v
	}
	return out, nil
}

// Logits returns the scores of all tokens after every token of a window, [len(window), vocab].
func (m *Model) Logits(ctx context.Context, s *Subnet, window []int32) ([]float32, error) {
	if len(window) == 0 {
		return nil, fmt.Errorf("decoder: the window is empty")
	}
	x, err := m.forward(ctx, s, window)
	if err != nil {
		return nil, err
	}
	defer free(x)
	eps := m.config.NormEps
	logits, err := m.be.run1(ctx, fmt.Sprintf("logits %g", eps), func(in []*graph.Node) *graph.Node {
		return linear(rmsNorm(in[0], in[1], eps), in[2], nil)
	}, x, m.outNorm, m.head)
	if err != nil {
		return nil, err
	}
	defer free(logits)
	return m.be.fetch(logits)
}

// forward returns the hidden state of a window after all layers of s, before the last norm.
func (m *Model) forward(ctx context.Context, s *Subnet, window []int32) (*tensors.Tensor, error) {
	if err := m.check(s); err != nil {
		return nil, err
	}
	x, err := m.embed(ctx, window)
	if err != nil {
		return nil, err
	}
	for i := range m.layers {
		y, err := m.layer(ctx, s, i, x)
		if y != x {
			free(x)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		x = y
	}
	return x, nil
}
