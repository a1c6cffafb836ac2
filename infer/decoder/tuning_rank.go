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
	b.matrices = &ModuleProblem{m: t.m, layer: b.layer, module: b.module, masks: t.s.masks, a: t.s.attention[b.layer], f: t.s.mlp[b.layer]}
	if l := t.s.masks.Layer(b.layer); b.module == subnet.MLP || l.QK == nil && l.VO == nil {
		b.matrices.addInner()
	}
	b.matrices.addOutput()
	for i, part := range b.matrices.parts {
		size, err := t.m.rootMeanSquare(part.w)
		if err != nil {
			return err
		}
		rows, columns := part.w.Dims[0], part.w.Dims[1]
		right := numbers{dims: []int{t.o.Rank, columns}, unit: 1, start: make([]float32, t.o.Rank*columns)}
		if i == len(b.matrices.parts)-1 {
			for column, kept := range b.matrices.Columns() {
				if kept < 0 {
					right.fixed = append(right.fixed, column)
				}
			}
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
	for i := t.rest(); i < len(b.numbers); i += 2 {
		out = append(out, lowRank{numbers[i], numbers[i+1]})
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
	for i := t.rest(); i < len(b.numbers); i += 2 {
		change, err := t.m.dev.run1(ctx, "product of low rank", func(in []*Node) *Node {
			return DotGeneral(in[0], []int{1}, nil, in[1], []int{0}, nil)
		}, uploaded[i], uploaded[i+1])
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
