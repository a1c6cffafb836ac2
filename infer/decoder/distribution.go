package decoder

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/graph"
)

// distribution is the likeliest k tokens after each token of a window, [tokens, k], and their log-probabilities. With a sampled
// vocabulary, tokens are indices in the sample.
type distribution struct {
	tokens   []int32
	logProbs []float32
	sample   *vocabSample // nil for the whole vocabulary
}

// distribution computes the dense model's likeliest tokens, the lower index first among equals, and samples the vocabulary that
// logits of the window are computed for; entries is the size of the sample, 0 for the whole vocabulary.
func (m *Model) distribution(ctx context.Context, window []int32, k, entries int) (*distribution, error) {
	dense := m.Dense()
	defer dense.Close()
	x, err := m.forward(ctx, dense, window)
	if err != nil {
		return nil, err
	}
	defer free(x)
	state, err := m.dev.fetch(x)
	if err != nil {
		return nil, err
	}
	d := &distribution{}
	var likely []float64
	if entries > 0 && entries < m.config.Vocab {
		likely = make([]float64, m.config.Vocab)
	}
	var totals []float32
	for block := range slices.Chunk(state, logitsBlock*m.geo.Hidden) {
		sums, err := m.likeliest(ctx, block, k, d, likely)
		if err != nil {
			return nil, err
		}
		totals = append(totals, sums...)
	}
	if likely == nil {
		return d, nil
	}
	if d.sample = sampleVocab(likely, window, entries); d.sample == nil {
		return d, nil
	}
	d.sample.index(m.config.Vocab, d.tokens, d.logProbs)
	return d, m.bySample(ctx, state, k, d, totals)
}

// bySample replaces the log-probabilities of a distribution by those that the sampled vocabulary gives, so that the dense model
// has no divergence from itself. totals are the log-sum-exp of all logits by row of states.
func (m *Model) bySample(ctx context.Context, states []float32, k int, d *distribution, totals []float32) error {
	if k == 0 {
		return nil
	}
	ids, err := m.dev.uploadInts(d.sample.ids, len(d.sample.ids))
	if err != nil {
		return err
	}
	defer free(ids)
	offsets, err := m.dev.upload(d.sample.offsets, len(d.sample.offsets))
	if err != nil {
		return err
	}
	defer free(offsets)
	row := 0
	for block := range slices.Chunk(states, logitsBlock*m.geo.Hidden) {
		x, err := m.dev.upload(block, len(block)/m.geo.Hidden, m.geo.Hidden)
		if err != nil {
			return err
		}
		sums, err := m.onHead1(ctx, "sum of sample", func(head lmHead, in []*graph.Node) *graph.Node {
			return head.logSum(head.norm(in[0], in[1]), partialVocab(in[2], in[3], in[4]))
		}, x, ids, offsets)
		free(x)
		if err != nil {
			return err
		}
		for _, sum := range sums {
			for i := range d.logProbs[row*k : (row+1)*k] {
				d.logProbs[row*k+i] += totals[row] - sum
			}
			row++
		}
	}
	return nil
}

// likeliest adds the k likeliest tokens after each row of states [tokens, hidden] to d, and the probabilities of all tokens
// to likely, if that is not nil. It returns the log-sum-exp of the logits by row.
func (m *Model) likeliest(ctx context.Context, states []float32, k int, d *distribution, likely []float64) (totals []float32, err error) {
	x, err := m.dev.upload(states, len(states)/m.geo.Hidden, m.geo.Hidden)
	if err != nil {
		return nil, err
	}
	defer free(x)
	out, err := m.onHead(ctx, fmt.Sprintf("distribution %t", likely != nil), func(head lmHead, in []*graph.Node) []*graph.Node {
		scores, total := head.logits(head.norm(in[0], in[1]), fullVocab(in[2]))
		logProbs := graph.Sub(scores, graph.InsertAxes(total, -1))
		if likely == nil {
			return []*graph.Node{logProbs, total}
		}
		return []*graph.Node{logProbs, total, graph.ReduceSum(graph.Exp(logProbs), 0)}
	}, x)
	if err != nil {
		return nil, err
	}
	defer free(out...)
	if likely != nil {
		if err := m.dev.accumulate(likely, out[2]); err != nil {
			return nil, err
		}
	}
	if totals, err = m.dev.fetch(out[1]); err != nil || k == 0 {
		return totals, err
	}
	return totals, m.dev.read(out[0], func(data []float32) {
		order := newSelector(m.config.Vocab)
		for len(data) > 0 {
			d.add(data[:m.config.Vocab], order.largest(data[:m.config.Vocab], k))
			data = data[m.config.Vocab:]
		}
	})
}

func (d *distribution) add(row []float32, tokens []int32) {
	d.tokens = append(d.tokens, tokens...)
	for _, t := range tokens {
		d.logProbs = append(d.logProbs, row[t])
	}
}

// selector finds the largest numbers of rows of n numbers.
type selector struct{ order []int32 }

func newSelector(n int) *selector { return &selector{make([]int32, n)} }

// largest returns the indices of the k largest numbers in rising order of index, the lower index first among equals.
// The result is valid until the next call.
func (s *selector) largest(row []float32, k int) []int32 {
	for i := range s.order {
		s.order[i] = int32(i)
	}
	before := func(a, b int32) bool { return row[a] > row[b] || row[a] == row[b] && a < b }
	lo, hi := 0, len(s.order)
	for lo < k && k < hi { // all before lo belong to the k largest, all from hi on do not
		pivot := s.order[lo+(hi-lo)/2]
		i, j := lo, hi-1
		for i <= j {
			for before(s.order[i], pivot) {
				i++
			}
			for before(pivot, s.order[j]) {
				j--
			}
			if i <= j {
				s.order[i], s.order[j] = s.order[j], s.order[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case k <= j:
			hi = j + 1
		case k >= i:
			lo = i
		default: // the pivot alone is between them
			hi = k
		}
	}
	slices.Sort(s.order[:k])
	return s.order[:k]
}
