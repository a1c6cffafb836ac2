package oneshot

import (
	"context"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder"
)

// DivergenceOf returns the divergence of b from a at the beginnings of windows, in nats per token.
func DivergenceOf(ctx context.Context, a, b *decoder.Model, windows [][]int32) (float64, error) {
	reference, other := a.Dense(), b.Dense()
	defer reference.Close()
	defer other.Close()
	var sum float64
	tokens := 0
	for _, w := range windows {
		w = w[:min(len(w), headProbeTokens)]
		p, err := a.Logits(ctx, reference, w)
		if err != nil {
			return 0, err
		}
		q, err := b.Logits(ctx, other, w)
		if err != nil {
			return 0, err
		}
		vocab := len(p) / len(w)
		for i := range w {
			sum += divergence(p[i*vocab:(i+1)*vocab], q[i*vocab:(i+1)*vocab])
		}
		tokens += len(w)
	}
	return sum / float64(max(tokens, 1)), nil
}

// divergence returns the divergence of the distribution of logits q from that of p, in nats.
func divergence(p, q []float32) float64 {
	lp, lq := logSum(p), logSum(q)
	var sum float64
	for i, v := range p {
		log := float64(v) - lp
		sum += math.Exp(log) * (log - float64(q[i]) + lq)
	}
	return sum
}

func logSum(x []float32) float64 {
	top := float64(slices.Max(x))
	var sum float64
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}
