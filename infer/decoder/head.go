package decoder

import (
	"context"
	"fmt"

	. "github.com/gomlx/gomlx/core/graph" // graphs read as formulas
	"github.com/gomlx/gomlx/core/tensors"
)

// logitsBlock is how many tokens pass the LM head at a time, and vocabBlock for how many vocabulary entries where only the
// log-sum-exp is needed; both bound the memory of logits.
const (
	logitsBlock = 512
	vocabBlock  = 8192
)

// lmHead is what logits depend on besides the inputs of their graph.
type lmHead struct{ eps, cap float64 }

func (m *Model) lmHead() lmHead { return lmHead{m.config.NormEps, m.config.LogitSoftCap} }

// onHead runs a graph that ends a forward pass. Its inputs are the state x after the last layer, the weights of the last norm, the
// LM head [vocab, hidden], and rest. The name must contain what the graph depends on besides its inputs and the lmHead.
func (m *Model) onHead(ctx context.Context, name string, f func(head lmHead, in []*Node) []*Node, x *tensors.Tensor, rest ...*tensors.Tensor) ([]*tensors.Tensor, error) {
	h, err := m.weights.Hold(m.outNorm, m.head)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	head := m.lmHead()
	return m.dev.run(ctx, fmt.Sprintf("%s %+v", name, head), func(in []*Node) []*Node { return f(head, in) }, append(h.With(x), rest...)...)
}

// onHead1 is onHead for a graph of one output, which it copies to the host.
func (m *Model) onHead1(ctx context.Context, name string, f func(head lmHead, in []*Node) *Node, x *tensors.Tensor, rest ...*tensors.Tensor) ([]float32, error) {
	out, err := m.onHead(ctx, name, func(head lmHead, in []*Node) []*Node { return []*Node{f(head, in)} }, x, rest...)
	if err != nil {
		return nil, err
	}
	defer free(out...)
	return m.dev.fetch(out[0])
}

// norm returns x after the last norm.
func (h lmHead) norm(x, weights *Node) *Node { return norm(x, weights, h.eps) }

// scores returns the logits [tokens, vocab] of normalised states.
func (h lmHead) scores(xn, head *Node) *Node { return softCap(linear(xn, head, nil), h.cap) }

// negLogLikelihood returns −log p(target) of every row, for normalised states xn [tokens, hidden], the LM head and targets
// [tokens].
func (h lmHead) negLogLikelihood(xn *Node, v vocabulary, targets *Node) *Node {
	return byBlock(xn, func(x *Node, from, to int) []*Node {
		return []*Node{Sub(h.logSum(x, v), h.targetLogit(x, v.head, targets, from, to))}
	})[0]
}

// divergence returns −log p(target) of every row as negLogLikelihood does, and the Kullback–Leibler divergence from a
// distribution given by its k likeliest tokens [tokens, k] (as indices in the vocabulary computed, and as log-probabilities),
// with all other tokens merged into one.
func (h lmHead) divergence(xn *Node, v vocabulary, targets, tokens, logProbs *Node) (nll, kl *Node) {
	out := byBlock(xn, func(x *Node, from, to int) []*Node {
		scores, total := h.logits(x, v)
		at := Slice(tokens, AxisRange(from, to))
		n, k := to-from, at.Shape().Dimensions[1]
		rows := Iota(x.Graph(), int32Shape(n, k, 1), 0)
		q := Sub(Gather(scores, Concatenate([]*Node{rows, InsertAxes(at, -1)}, -1)), InsertAxes(total, -1))
		logP := Slice(logProbs, AxisRange(from, to))
		if v.offsets != nil { // tokens outside the sample do not count
			q = Where(GreaterThan(logP, Scalar(x.Graph(), logP.DType(), never/2)), q, logP)
		}
		p := Exp(logP)
		kl := ReduceSum(Mul(p, Sub(logP, q)), -1)
		restP, restQ := remainder(p), remainder(Exp(q))
		kl = Add(kl, Mul(restP, Sub(Log(restP), Log(restQ))))
		return []*Node{Sub(total, h.targetLogit(x, v.head, targets, from, to)), kl}
	})
	return out[0], out[1]
}

// remainder returns 1 minus the sum of each row of p, and at least 1e-7, since rounding may leave nothing.
func remainder(p *Node) *Node { return MaxScalar(OneMinus(ReduceSum(p, -1)), 1e-7) }

// logits returns the logits [tokens, entries] of the vocabulary entries computed, and their log-sum-exp by row.
func (h lmHead) logits(x *Node, v vocabulary) (scores, total *Node) {
	scores = h.scores(x, v.rows)
	if v.offsets != nil {
		scores = Add(scores, InsertAxes(v.offsets, 0))
	}
	peak := ReduceAndKeep(scores, ReduceMax, -1)
	return scores, Add(Log(ReduceSum(Exp(Sub(scores, peak)), -1)), Squeeze(peak, -1))
}

// logSum returns the log-sum-exp of logits, computed in slices of the vocabulary.
func (h lmHead) logSum(x *Node, v vocabulary) *Node {
	n := v.size()
	if n <= vocabBlock {
		_, total := h.logits(x, v)
		return total
	}
	var sums []*Node
	for from := 0; from < n; from += vocabBlock {
		_, sum := h.logits(x, v.from(from, min(from+vocabBlock, n)))
		sums = append(sums, InsertAxes(sum, -1))
	}
	all := Concatenate(sums, -1)
	peak := ReduceAndKeep(all, ReduceMax, -1)
	return Add(Log(ReduceSum(Exp(Sub(all, peak)), -1)), Squeeze(peak, -1))
}

// targetLogit returns the logits of the targets of x, which is rows from up to to.
func (h lmHead) targetLogit(x, head, targets *Node, from, to int) *Node {
	rows := Gather(head, InsertAxes(Slice(targets, AxisRange(from, to)), -1))
	return softCap(ReduceSum(Mul(x, rows), -1), h.cap)
}

// byBlock computes f for blocks of rows of xn and concatenates its results.
func byBlock(xn *Node, f func(x *Node, from, to int) []*Node) []*Node {
	tokens := xn.Shape().Dimensions[0]
	var results [][]*Node
	for from := 0; from < tokens; from += logitsBlock {
		to := min(from+logitsBlock, tokens)
		for i, r := range f(Slice(xn, AxisRange(from, to)), from, to) {
			if from == 0 {
				results = append(results, nil)
			}
			results[i] = append(results[i], r)
		}
	}
	out := make([]*Node, len(results))
	for i, p := range results {
		out[i] = p[0]
		if len(p) > 1 {
			out[i] = Concatenate(p, 0)
		}
	}
	return out
}
