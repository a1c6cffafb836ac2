package decoder

import (
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder/weights"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// attentionBlock is an attention block in its cut shape: every kept KV group has reps query heads, every query and
// key head pairs rotary pairs, every value head the same number of channels. Where masks keep unequal numbers, or
// numbers that no graph is compiled for, zeros fill the block up; they do not change its output.
type attentionBlock struct {
	weights.Block
	shape attentionShape
	pairs [][]int // rotary pairs by group, of length 1 where all groups have the same; -1 is padding
	local bool    // its attention has a sliding window
	// refitInner is set where the norm is re-fitted, so that the inputs of W_O are not the model's own.
	refitInner bool
	w          denseLayer
	// tables of positions, for rotary pairs other than the dense model's; freed with the block. Guarded by Model.mu.
	tables map[tableKey]tables
}

// empty reports whether no head is kept; the block then adds its output bias, if it has one, and nothing else.
func (b *attentionBlock) empty() bool { return b.shape.groups == 0 }

// mlpBlock is an MLP block in its cut shape, filled up with zeros to a multiple of the model's bucket.
type mlpBlock struct {
	weights.Block
	width int
	w     denseLayer
	// refitInner is set where W_U or the norm is re-fitted, so that the inputs of W_D are not the model's own.
	refitInner bool
}

func (m *Model) newID() uint64 { return m.blocks.Add(1) }

// makeDense makes the blocks of the dense model from its own tensors.
func (m *Model) makeDense() {
	for i, geo := range m.geo.Layers {
		a := &attentionBlock{shape: m.attentionShape(), local: m.isLocal(i), w: *m.layers[i]}
		a.ID = m.newID()
		a.shape.groups, a.shape.reps = geo.KVHeads, geo.HeadsPerGroup()
		a.shape.pairs, a.shape.rest = m.config.RopeDims/2, m.config.HeadDim-m.config.RopeDims
		a.shape.value = m.config.HeadDim
		a.shape.with(&a.w)
		a.pairs = [][]int{allOf(m.config.RopeDims / 2)}
		a.Retain()
		m.attention = append(m.attention, a)
		f := &mlpBlock{width: geo.FFN, w: *m.layers[i]}
		f.ID = m.newID()
		f.Retain()
		m.mlp = append(m.mlp, f)
	}
}

// attentionShape returns the fields that are the same for all attention blocks of the model.
func (m *Model) attentionShape() attentionShape {
	return attentionShape{
		windows: 1, headDim: m.config.HeadDim, scale: m.attnScale(), eps: m.config.NormEps, cap: m.config.AttnSoftCap, postNorm: m.config.PostNorms,
	}
}

// with sets which optional weights there are.
func (a *attentionShape) with(w *denseLayer) {
	a.qkvBias, a.qkNorm, a.outBias = w.qBias != nil, w.qGain != nil, w.oBias != nil
}

func allOf(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// gathering makes the tensors of a block. After the first error it makes no more.
type gathering struct {
	m     *Model
	made  []*weights.Weight
	err   error
	layer int
}

// keep makes a weight, which the block will own; a matrix is stored as the model's are.
func (g *gathering) keep(data []float32, dims ...int) *weights.Weight {
	return g.keepAs(g.m.opts.half && len(dims) == 2, data, dims...)
}

func (g *gathering) keepAs(half bool, data []float32, dims ...int) *weights.Weight {
	w, err := g.m.weights.Add(half, data, stageOf(g.layer), dims...)
	if err != nil {
		g.err = fmt.Errorf("layer %d: %w", g.layer, err)
		return nil
	}
	g.made = append(g.made, w)
	return w
}

// rows gathers rows of t, -1 for zeros; a vector has rows of one number. A nil t stays nil.
func (g *gathering) rows(t *weights.Weight, rows []int) *weights.Weight {
	if g.err != nil || t == nil {
		return nil
	}
	dims := slices.Clone(t.Dims)
	columns := t.Numbers() / dims[0]
	out := make([]float32, len(rows)*columns)
	err := g.m.weights.Read(t, func(data []float32) {
		for i, r := range rows {
			if r >= 0 {
				copy(out[i*columns:(i+1)*columns], data[r*columns:(r+1)*columns])
			}
		}
	})
	if err != nil {
		g.err = fmt.Errorf("layer %d: %w", g.layer, err)
		return nil
	}
	dims[0] = len(rows)
	return g.keep(out, dims...)
}

// rowsOf gathers rows of a matrix with columns columns on the host, -1 for zeros.
func (g *gathering) rowsOf(data []float32, columns int, rows []int) *weights.Weight {
	if g.err != nil {
		return nil
	}
	out := make([]float32, len(rows)*columns)
	for i, r := range rows {
		if r >= 0 {
			copy(out[i*columns:(i+1)*columns], data[r*columns:(r+1)*columns])
		}
	}
	return g.keep(out, len(rows), columns)
}

// columns gathers columns of the matrix t, -1 for zeros.
func (g *gathering) columns(t *weights.Weight, columns []int) *weights.Weight {
	if g.err != nil {
		return nil
	}
	var out []float32
	err := g.m.weights.Read(t, func(data []float32) { out = columnsOf(data, t.Dims[0], columns) })
	if err != nil {
		g.err = fmt.Errorf("layer %d: %w", g.layer, err)
		return nil
	}
	return g.keep(out, t.Dims[0], len(columns))
}

// columnsOf gathers columns of a matrix with out rows on the host, -1 for zeros.
func (g *gathering) columnsOf(data []float32, out int, columns []int) *weights.Weight {
	if g.err != nil {
		return nil
	}
	return g.keep(columnsOf(data, out, columns), out, len(columns))
}

func columnsOf(data []float32, out int, columns []int) []float32 {
	in := len(data) / out
	gathered := make([]float32, out*len(columns))
	for r := range out {
		from, to := data[r*in:(r+1)*in], gathered[r*len(columns):(r+1)*len(columns)]
		for i, c := range columns {
			if c >= 0 {
				to[i] = from[c]
			}
		}
	}
	return gathered
}

// bias returns the output bias of a block: that of the re-fit, or the model's own.
func (g *gathering) bias(refit []float32, own *weights.Weight) *weights.Weight {
	if g.err != nil || refit == nil {
		return own
	}
	if len(refit) != g.m.geo.Hidden {
		g.err = fmt.Errorf("decoder: layer %d: output bias of %d, want %d", g.layer, len(refit), g.m.geo.Hidden)
		return nil
	}
	return g.keep(refit, len(refit))
}

// headRows returns re-fitted rows of W_Q, W_K or W_V, own for none. The matrix has the rows kept of the dense one, in that order, and at are the
// rows on the device, where the channels of rotary heads have another order.
func (g *gathering) headRows(own *weights.Weight, refit []float32, at, kept []int, rotary bool) *weights.Weight {
	if g.err != nil || refit == nil {
		return own
	}
	hidden, dim := g.m.geo.Hidden, g.m.config.HeadDim
	if len(refit) != hidden*len(kept) {
		g.err = fmt.Errorf("decoder: layer %d: re-fitted rows of heads have %d numbers, want %d by %d", g.layer, len(refit), len(kept), hidden)
		return nil
	}
	if rotary {
		refit = slices.Clone(refit)
		permuteHeads(refit, hidden, dim, g.m.order)
	}
	place := make(map[int]int) // of a head among the kept ones
	for i := 0; i < len(kept); i += dim {
		place[kept[i]/dim] = i / dim
	}
	rows := make([]int, len(at))
	for i, r := range at {
		if rows[i] = -1; r >= 0 {
			if p, ok := place[r/dim]; ok {
				rows[i] = p*dim + r%dim
			}
		}
	}
	return g.rowsOf(refit, hidden, rows)
}

// norm returns the weights of a norm on the residual stream, with re-fitted gains [hidden], nil for its own.
func (g *gathering) norm(own *weights.Weight, gains []float32) *weights.Weight {
	if g.err != nil || gains == nil {
		return own
	}
	if len(gains) != g.m.geo.Hidden {
		g.err = fmt.Errorf("decoder: layer %d: norm with %d gains, want %d", g.layer, len(gains), g.m.geo.Hidden)
		return nil
	}
	if len(own.Dims) == 1 {
		return g.keep(gains, len(gains))
	}
	data, err := g.m.weights.Fetch(own) // gains and biases of a LayerNorm
	if err != nil {
		g.err = fmt.Errorf("layer %d: %w", g.layer, err)
		return nil
	}
	copy(data, gains)
	return g.keepAs(false, data, own.Dims...)
}

// finish hands the tensors to the block, or frees them after an error.
func (g *gathering) finish(b *weights.Block) error {
	if g.err != nil {
		g.m.weights.Drop(g.made...)
		return g.err
	}
	b.ID = g.m.newID()
	b.Own(g.m.weights, g.made)
	b.Retain()
	return nil
}

// cutMLP returns the MLP block of a layer with the given channels and re-fit, with a reference for the caller. Where
// nothing differs from the dense model it is the dense block.
func (m *Model) cutMLP(layer int, l subnet.Layer, refit gguf.Refit) (*mlpBlock, error) {
	if dense := m.mlp[layer]; l.Channels.IsFull() && refit.WD == nil && refit.WU == nil && refit.WG == nil && refit.BD == nil && refit.GM == nil {
		dense.Retain()
		return dense, nil
	}
	return share(m, m.registry.Key(layer, subnet.MLP, l, refit), func() (*mlpBlock, error) { return m.gatherMLP(layer, l, refit) })
}

func (m *Model) gatherMLP(layer int, l subnet.Layer, refit gguf.Refit) (*mlpBlock, error) {
	dense := m.mlp[layer]
	g := &gathering{m: m, layer: layer}
	kept := l.Channels.Indices()
	if refit.WD != nil && len(refit.WD) != m.geo.Hidden*len(kept) {
		return nil, fmt.Errorf("decoder: layer %d: re-fitted W_D has %d numbers, want %d by %d", layer, len(refit.WD), m.geo.Hidden, len(kept))
	}
	if refit.WU != nil && len(refit.WU) != m.geo.Hidden*len(kept) {
		return nil, fmt.Errorf("decoder: layer %d: re-fitted W_U has %d numbers, want %d by %d", layer, len(refit.WU), len(kept), m.geo.Hidden)
	}
	if refit.WG != nil && (dense.w.gate == nil || len(refit.WG) != m.geo.Hidden*len(kept)) {
		return nil, fmt.Errorf("decoder: layer %d: re-fitted W_G has %d numbers, want %d by %d", layer, len(refit.WG), len(kept), m.geo.Hidden)
	}
	b := &mlpBlock{w: denseLayer{mlpNorm: dense.w.mlpNorm, gate: dense.w.gate, up: dense.w.up, upBias: dense.w.upBias, down: dense.w.down, mlpPost: dense.w.mlpPost}}
	b.w.downBias = g.bias(refit.BD, dense.w.downBias)
	b.width = len(kept)
	if b.width > 0 {
		b.w.mlpNorm = g.norm(dense.w.mlpNorm, refit.GM)
		b.refitInner = refit.GM != nil
		columns, narrower := allOf(len(kept)), b.width < dense.width
		if narrower {
			b.width = min((len(kept)+m.opts.bucket-1)/m.opts.bucket*m.opts.bucket, dense.width)
			kept, columns = pad(kept, b.width), pad(columns, b.width)
			b.w.upBias = g.rows(dense.w.upBias, kept)
			if refit.WG == nil {
				b.w.gate = g.rows(dense.w.gate, kept)
			}
			if refit.WU == nil {
				b.w.up = g.rows(dense.w.up, kept)
			}
		}
		if refit.WU != nil {
			b.refitInner = true
			b.w.up = g.rowsOf(refit.WU, m.geo.Hidden, columns)
		}
		if refit.WG != nil {
			b.refitInner = true
			b.w.gate = g.rowsOf(refit.WG, m.geo.Hidden, columns)
		}
		switch {
		case refit.WD != nil:
			b.w.down = g.columnsOf(refit.WD, m.geo.Hidden, columns)
		case narrower:
			b.w.down = g.columns(dense.w.down, kept)
		}
	}
	return b, g.finish(&b.Block)
}

// pad fills list up to n with -1.
func pad(list []int, n int) []int {
	for len(list) < n {
		list = append(list, -1)
	}
	return list
}

// cutAttention returns the attention block of a layer with the given heads, in-head channels and re-fit, with a
// reference for the caller. Where nothing differs from the dense model it is the dense block.
func (m *Model) cutAttention(layer int, masks subnet.Masks, refit gguf.Refit) (*attentionBlock, error) {
	l := masks.Layer(layer)
	if dense := m.attention[layer]; l.Heads.IsFull() && l.QK == nil && l.VO == nil && refit.WO == nil && refit.BO == nil && refit.GA == nil && refit.WQ == nil && refit.WK == nil && refit.WV == nil {
		dense.Retain()
		return dense, nil
	}
	return share(m, m.registry.Key(layer, subnet.Attention, l, refit), func() (*attentionBlock, error) {
		return m.gatherAttention(layer, masks, refit)
	})
}

func (m *Model) gatherAttention(layer int, masks subnet.Masks, refit gguf.Refit) (*attentionBlock, error) {
	dense, l := m.attention[layer], masks.Layer(layer)
	g := &gathering{m: m, layer: layer}
	columns := masks.OColumns(layer)
	if refit.WO != nil && len(refit.WO) != m.geo.Hidden*len(columns) {
		return nil, fmt.Errorf("decoder: layer %d: re-fitted W_O has %d numbers, want %d by %d", layer, len(refit.WO), m.geo.Hidden, len(columns))
	}
	b := &attentionBlock{shape: m.attentionShape(), local: dense.local, w: denseLayer{attnNorm: dense.w.attnNorm, attnPost: dense.w.attnPost}}
	b.w.oBias = g.bias(refit.BO, dense.w.oBias)
	if len(columns) > 0 || !l.Heads.IsEmpty() {
		b.w.attnNorm = g.norm(dense.w.attnNorm, refit.GA)
		b.refitInner = refit.GA != nil
		p := m.layOutHeads(m.geo.Layers[layer], l, columns)
		b.pairs = p.pairs
		b.shape.groups, b.shape.reps, b.shape.value = p.groups, p.reps, p.value
		b.shape.pairs, b.shape.rest = len(p.pairs[0]), p.rest
		if l.Heads.IsFull() && l.QK == nil && l.VO == nil {
			b.w.q, b.w.k, b.w.v = dense.w.q, dense.w.k, dense.w.v
			b.w.qBias, b.w.kBias, b.w.vBias, b.w.qGain, b.w.kGain = dense.w.qBias, dense.w.kBias, dense.w.vBias, dense.w.qGain, dense.w.kGain
		} else {
			b.w.q, b.w.qBias = g.rows(dense.w.q, p.q), g.rows(dense.w.qBias, p.q)
			b.w.k, b.w.kBias = g.rows(dense.w.k, p.k), g.rows(dense.w.kBias, p.k)
			b.w.v, b.w.vBias = g.rows(dense.w.v, p.v), g.rows(dense.w.vBias, p.v)
			b.w.qGain, b.w.kGain = g.rows(dense.w.qGain, p.gain), g.rows(dense.w.kGain, p.gain)
		}
		b.w.q = g.headRows(b.w.q, refit.WQ, p.q, masks.QRows(layer), true)
		b.w.k = g.headRows(b.w.k, refit.WK, p.k, masks.KVRows(layer), true)
		b.w.v = g.headRows(b.w.v, refit.WV, p.v, masks.KVRows(layer), false)
		b.refitInner = b.refitInner || refit.WQ != nil || refit.WK != nil || refit.WV != nil
		if refit.WO != nil {
			b.w.o = g.columnsOf(refit.WO, m.geo.Hidden, p.refit)
		} else {
			b.w.o = g.columns(dense.w.o, p.o)
		}
	}
	b.shape.with(&b.w)
	return b, g.finish(&b.Block)
}
