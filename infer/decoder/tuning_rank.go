package decoder

import (
	"context"
	"math"
	"math/rand/v2"

	. "github.com/gomlx/gomlx/core/graph" // graphs read as formulas

	"github.com/lathe-llm/lathe/infer/decoder/weights"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// lowRankShare is the unit of what is added to a matrix, as a share of its root mean square: A₀ has rows of such a size that numbers B of random
// signs and size r add r times this share.
const lowRankShare = 0.25

// addMatrices adds the numbers of the matrices of a block. Where masks drop channels inside heads, which re-fitted rows of W_Q, W_K and W_V cannot
// express, that is W_O alone.
func (t *Tuning) addMatrices(b *tunedBlock) error {
	m := t.m
	part := func(name string, w *weights.Weight) {
		if w != nil {
			b.parts = append(b.parts, matrixPart{name: name, w: w})
		}
	}
	var padded []int // columns of the output matrix
	if b.module == subnet.MLP {
		w := &t.s.mlp[b.layer].w
		part("gate", w.gate)
		part("up", w.up)
		part("down", w.down)
		padded = after(t.s.masks.Layer(b.layer).Channels.Len(), b.width)
	} else {
		w, l := &t.s.attention[b.layer].w, t.s.masks.Layer(b.layer)
		if l.QK == nil && l.VO == nil {
			part("q", w.q)
			part("k", w.k)
			part("v", w.v)
		}
		part("o", w.o)
		for i, c := range m.layOutHeads(m.geo.Layers[b.layer], l, t.s.masks.OColumns(b.layer)).refit {
			if c < 0 {
				padded = append(padded, i)
			}
		}
	}
	for i := range b.parts {
		w := b.parts[i].w
		size, err := m.rootMeanSquare(w)
		if err != nil {
			return err
		}
		rows, columns := w.Dims[0], w.Dims[1]
		right := numbers{dims: []int{t.o.Rank, columns}, unit: 1, start: make([]float32, t.o.Rank*columns)}
		if i == len(b.parts)-1 {
			right.fixed = padded
		}
		random := rand.New(rand.NewPCG(t.o.Seed, uint64(t.n)))
		for j := range right.start {
			right.start[j] = float32(random.NormFloat64() / math.Sqrt(float64(t.o.Rank)))
		}
		clearColumns(right.start, &right)
		t.put(b, numbers{dims: []int{rows, t.o.Rank}, unit: lowRankShare * size})
		t.put(b, right)
	}
	return nil
}

// after returns the numbers from n up to but not including end.
func after(n, end int) []int { return allOf(end)[n:] }

// rootMeanSquare returns that of a weight's numbers.
func (m *Model) rootMeanSquare(w *weights.Weight) (float64, error) {
	var sum float64
	err := m.weights.Read(w, func(data []float32) {
		for _, v := range data {
			sum += float64(v) * float64(v)
		}
	})
	return math.Sqrt(sum / float64(max(1, w.Numbers()))), err
}

// added returns what is added to the matrices of a block, in their order.
func (t *Tuning) added(b *tunedBlock, numbers []*Node) []lowRank {
	var out []lowRank
	for i := range b.parts {
		out = append(out, lowRank{numbers[t.rest()+2*i], numbers[t.rest()+2*i+1]})
	}
	return out
}

// changes returns what is added to the matrices of a block, one after the other.
func (t *Tuning) changes(ctx context.Context, b *tunedBlock, values []float32) ([]float32, error) {
	uploaded, err := t.upload(b, values)
	if err != nil {
		return nil, err
	}
	defer free(uploaded...)
	var out []float32
	for i := range b.parts {
		at := t.rest() + 2*i
		change, err := t.m.dev.run1(ctx, "product of low rank", func(in []*Node) *Node {
			return DotGeneral(in[0], []int{1}, nil, in[1], []int{0}, nil)
		}, uploaded[at], uploaded[at+1])
		if err != nil {
			return nil, err
		}
		data, err := t.m.dev.fetch(change)
		free(change)
		if err != nil {
			return nil, err
		}
		out = append(out, data...)
	}
	return out, nil
}
