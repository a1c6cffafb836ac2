package decoder

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

var errShort = errors.New("decoder: a window of fewer than two tokens cannot be scored")

// Score is the likelihood of text.
type Score struct {
	NLL    float64 `json:"nll"`    // negative log-likelihood, the sum over all tokens scored, in nats
	Tokens int     `json:"tokens"` // tokens scored
}

// Perplexity returns exp(NLL / Tokens), NaN without tokens.
func (s Score) Perplexity() float64 { return math.Exp(s.NLL / float64(s.Tokens)) }

// Score returns the likelihood of windows under a subnet, each separately; the first token of a window is not scored.
func (m *Model) Score(ctx context.Context, s *Subnet, windows [][]int32) (Score, error) {
	var total Score
	lengths := make([]int, len(windows))
	for i, w := range windows {
		if lengths[i] = len(w); len(w) < 2 {
			return Score{}, fmt.Errorf("window %d: %w", i, errShort)
		}
	}
	for _, b := range m.batches(lengths) {
		x, err := m.forward(ctx, s, windowsOf(windows, b)...)
		if err != nil {
			return Score{}, fmt.Errorf("window %d: %w", b.first, err)
		}
		err = b.each(ctx, m.dev, x, func(i int, x *tensors.Tensor) error {
			nll, err := m.nll(ctx, x, windows[i])
			if err != nil {
				return fmt.Errorf("window %d: %w", i, err)
			}
			total.add(nll)
			return nil
		})
		free(x)
		if err != nil {
			return Score{}, err
		}
	}
	return total, nil
}

func (s *Score) add(nll []float32) {
	for _, v := range nll {
		s.NLL += float64(v)
	}
	s.Tokens += len(nll)
}

// LogProbs returns the log-probability of every token of a window but the first.
func (m *Model) LogProbs(ctx context.Context, s *Subnet, window []int32) ([]float32, error) {
	if len(window) < 2 {
		return nil, errShort
	}
	x, err := m.forward(ctx, s, window)
	if err != nil {
		return nil, err
	}
	defer free(x)
	out, err := m.nll(ctx, x, window)
	for i, v := range out {
		out[i] = -v
	}
	return out, err
}

// nll returns −log p of every token of a window but the first, from the state x after the last layer.
func (m *Model) nll(ctx context.Context, x *tensors.Tensor, window []int32) ([]float32, error) {
	if len(window) < 2 {
		return nil, errShort
	}
	ids, err := m.targets(window)
	if err != nil {
		return nil, err
	}
	defer free(ids)
	out, err := m.onHead1(ctx, "nll", func(head lmHead, in []*graph.Node) *graph.Node {
		return head.negLogLikelihood(head.norm(in[0], in[1]), fullVocab(in[2]), in[3])
	}, x, ids)
	if err != nil {
		return nil, err
	}
	return out[:len(window)-1], nil
}

// targets returns, on the device, the token after each token of a window, and 0 after the last.
func (m *Model) targets(window []int32) (*tensors.Tensor, error) {
	next := append(append(make([]int32, 0, len(window)), window[1:]...), 0)
	return m.dev.uploadInts(next, len(next))
}

// Logits returns the logits after every token of a window, [len(window), vocab].
func (m *Model) Logits(ctx context.Context, s *Subnet, window []int32) ([]float32, error) {
	var all []float32
	err := m.EachLogits(ctx, s, window, func(_ int, part []float32) error {
		all = append(all, part...)
		return nil
	})
	return all, err
}

// EachLogits passes the logits of a window to visit, in order and in parts of whole rows: part is [rows, vocab] and belongs to the
// tokens from first on, each of which it predicts the next of. The logits of a long window over a large vocabulary would take
// gigabytes at once.
func (m *Model) EachLogits(ctx context.Context, s *Subnet, window []int32, visit func(first int, part []float32) error) error {
	if len(window) == 0 {
		return fmt.Errorf("decoder: the window is empty")
	}
	x, err := m.forward(ctx, s, window)
	if err != nil {
		return err
	}
	states, err := m.dev.fetch(x)
	free(x)
	if err != nil {
		return err
	}
	const rows = 256
	hidden := m.config.Hidden
	for first := 0; first < len(window); first += rows {
		n := min(rows, len(window)-first)
		part, err := m.dev.upload(states[first*hidden:(first+n)*hidden], n, hidden)
		if err != nil {
			return err
		}
		logits, err := m.onHead1(ctx, "logits", func(head lmHead, in []*graph.Node) *graph.Node {
			return head.scores(head.norm(in[0], in[1]), in[2])
		}, part)
		free(part)
		if err == nil {
			err = visit(first, logits)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forward returns the residual stream of windows of one length after all layers of s, before the last norm.
func (m *Model) forward(ctx context.Context, s *Subnet, windows ...[]int32) (*tensors.Tensor, error) {
	if err := m.check(s); err != nil {
		return nil, err
	}
	x, err := m.embed(ctx, windows...)
	if err != nil {
		return nil, err
	}
	for i := range m.layers {
		y, err := m.passLayer(ctx, s, i, x, len(windows))
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
