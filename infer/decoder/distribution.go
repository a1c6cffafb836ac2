package decoder

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/gomlx/core/graph"
)

// distribution is the likeliest k tokens after each token of a window, [tokens, k], and their log-probabilities.
type distribution struct {
	tokens   []int32
	logProbs []float32
}

// distribution computes the dense model's likeliest tokens, the lower number first among equals.
func (m *Model) distribution(ctx context.Context, window []int32, k int) (*distribution, error) {
	dense := m.Dense()
	defer dense.Close()
	x, err := m.forward(ctx, dense, window)
	if err != nil {
		return nil, err
	}
	defer free(x)
	state, err := m.be.fetch(x)
	if err != nil {
		return nil, err
	}
	d := &distribution{}
	for len(state) > 0 {
		block := state[:min(len(state), logitsBlock*m.geo.Hidden)]
		state = state[len(block):]
		if err := m.likeliest(ctx, block, k, d); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// likeliest adds the k likeliest tokens after each row of states [tokens, hidden] to d.
func (m *Model) likeliest(ctx context.Context, states []float32, k int, d *distribution) error {
	x, err := m.be.upload(states, len(states)/m.geo.Hidden, m.geo.Hidden)
	if err != nil {
		return err
	}
	defer free(x)
	h, err := m.weights.hold(m.outNorm, m.head)
	if err != nil {
		return err
	}
	defer h.release()
	head := m.lmHead()
	logProbs, err := m.be.run1(ctx, fmt.Sprintf("distribution %+v", head), func(in []*graph.Node) *graph.Node {
		scores, total := head.logits(head.norm(in[0], in[1]), in[2])
		return graph.Sub(scores, graph.InsertAxes(total, -1))
	}, h.with(x)...)
	if err != nil {
		return err
	}
	defer free(logProbs)
	return m.be.read(logProbs, func(data []float32) {
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

// selector finds the largest numbers of rows of n.
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
