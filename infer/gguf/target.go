package gguf

import (
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// target is one tensor of the file to write: the rows of its pieces, one after the other.
type target struct {
	Tensor
	pieces []piece
}

// piece is a range of rows of a tensor, gathered from a matrix of the source file or in memory. A vector is a matrix of one row.
type piece struct {
	origin string    // tensor of the source whose type the piece takes by default, "" for none
	src    string    // tensor of the source, "" for values
	values []float32 // row-major matrix instead of src; with neither, zeros
	// rows and cols are the row and column of that matrix at each position, [subnet.Zero] for zeros; nil cols keep all.
	rows, cols []int
	width      int // columns of that matrix
	scale      float32
	inputs     []int // the column of the source's matrix at each column, [subnet.Zero] for none; nil for all in order
}

// verbatim reports whether the stored rows of a source of type src can be copied to a tensor of type out.
func (p piece) verbatim(src, out Type) bool {
	return p.src != "" && src == out && p.cols == nil && p.scale == 1
}

// layOutTensors lists the tensors of the file.
func (p *plan) layOutTensors() error {
	l := layouter{plan: p}
	if p.opts.Type != "" {
		t, err := ParseType(p.opts.Type)
		if err != nil {
			return err
		}
		if !Writable(t) {
			return fmt.Errorf("%w: %s cannot be written", ErrType, t)
		}
		l.asked = &t
	}
	c := p.config
	l.matrix("token_embd.weight", l.entries("token_embd.weight"))
	if c.Positions > 0 {
		l.matrix("position_embd.weight", l.whole("position_embd.weight", c.Positions, c.Hidden))
	}
	l.norm("output_norm", "output_norm", nil)
	if !c.Tied {
		l.matrix("output.weight", l.entries("output.weight"))
	}
	if factors := p.ropeFactors(); factors != nil {
		l.vector("rope_freqs.weight", inMemory(factors))
	}
	for i := range p.cut.Layers {
		l.layer(i)
	}
	return l.err
}

// layouter adds the tensors of a plan. It keeps its first error.
type layouter struct {
	*plan
	asked *Type
	err   error
}

// layer adds the tensors of one layer of the file.
func (l *layouter) layer(i int) {
	cut, c := l.cut.Layers[i], l.config
	from := func(rest string) string { return layerName(cut.Source, rest) }
	to := func(rest string) string { return layerName(i, rest) }
	masks, refit := l.subnet.Masks, l.refit(cut.Source)

	if len(cut.Heads) > 0 {
		q, k, v, o := l.headRows(cut)
		scale, gain := l.scoreScale()
		l.norm(to("attn_norm"), from("attn_norm"), refit.GA)
		pieces := []piece{
			l.rows(from("attn_q.weight"), q, masks.QRows(cut.Source), refit.WQ, scale),
			l.rows(from("attn_k.weight"), k, masks.KVRows(cut.Source), refit.WK, 1),
			l.rows(from("attn_v.weight"), v, masks.KVRows(cut.Source), refit.WV, 1),
		}
		if l.to.QKNorm {
			norm := l.whole(from("attn_q_norm.weight"), 1, l.cut.HeadDim)
			norm.scale *= gain
			l.vector(to("attn_q_norm.weight"), norm)
			l.vector(to("attn_k_norm.weight"), l.whole(from("attn_k_norm.weight"), 1, l.cut.HeadDim))
		}
		if l.to.FusedQKV {
			l.matrix(to(fusedSuffix), pieces...)
		} else {
			l.matrix(to("attn_q.weight"), pieces[0])
			l.matrix(to("attn_k.weight"), pieces[1])
			l.matrix(to("attn_v.weight"), pieces[2])
		}
		l.matrix(to("attn_output.weight"), l.columns(from("attn_output.weight"), o, masks.OColumns(cut.Source), refit.WO))
		if l.hasQKVBias(cut) {
			l.vector(to("attn_q.bias"), l.gather(from("attn_q.bias"), []int{0}, q, len(q), scale))
			l.vector(to("attn_k.bias"), l.gather(from("attn_k.bias"), []int{0}, k, len(k), 1))
			l.vector(to("attn_v.bias"), l.gather(from("attn_v.bias"), []int{0}, v, len(v), 1))
		}
		if b := l.biasO[i]; b != nil {
			l.vector(to("attn_output.bias"), inMemory(b))
		}
		if c.PostNorms {
			l.vector(to("post_attention_norm.weight"), l.whole(from("post_attention_norm.weight"), 1, c.Hidden))
		}
	}
	if len(cut.Channels) > 0 {
		l.norm(to("ffn_norm"), from("ffn_norm"), refit.GM)
		kept := masks.Layer(cut.Source).Channels.Indices()
		if c.Ungated {
			l.vector(to("ffn_up.bias"), l.gather(from("ffn_up.bias"), []int{0}, cut.Channels, len(cut.Channels), 1))
		} else {
			l.matrix(to("ffn_gate.weight"), l.rows(from("ffn_gate.weight"), cut.Channels, kept, refit.WG, 1))
		}
		l.matrix(to("ffn_up.weight"), l.rows(from("ffn_up.weight"), cut.Channels, kept, refit.WU, 1))
		l.matrix(to("ffn_down.weight"), l.columns(from("ffn_down.weight"), cut.Channels, kept, refit.WD))
		if b := l.biasD[i]; b != nil {
			l.vector(to("ffn_down.bias"), inMemory(b))
		}
		if c.PostNorms {
			l.vector(to("post_ffw_norm.weight"), l.whole(from("post_ffw_norm.weight"), 1, c.Hidden))
		}
	}
}

// scoreScale returns the factors for the rows of W_Q and for the gains of the norm of Q, one of which is 1. They keep the attention scores
// unchanged where llama.cpp scales those of the file differently, because of its head size or its number of layers.
func (p *plan) scoreScale() (rows, gains float32) {
	scaleOf := func(special float64, headDim int) float64 {
		if special != 0 {
			return special
		}
		return 1 / math.Sqrt(float64(headDim))
	}
	want := scaleOf(p.config.AttnScale, p.config.HeadDim)
	own := scaleOf(p.to.AttnScale(len(p.cut.Layers), p.config.Hidden, len(p.cut.Layers[0].Heads)), p.cut.HeadDim)
	ratio := float32(want / own)
	if p.to.QKNorm {
		return 1, ratio
	}
	return ratio, 1
}

// headRows returns the rows of W_Q, W_K and W_V of the source for each row of those in the file, and the columns of W_O. Where source and
// file pair rotary channels differently, the rows of Q and K are permuted within each head.
func (p *plan) headRows(l subnet.CutLayer) (q, k, v, o []int) {
	d, c := p.config.HeadDim, p.cut.HeadDim
	row := func(unit, channel int) int {
		if unit == subnet.Zero || channel == subnet.Zero {
			return subnet.Zero
		}
		return unit*d + channel
	}
	toPairs := p.config.HalfSplit && !p.to.HalfSplit
	rotary := func(rows []int, unit int, channels []int) []int {
		for i := range c {
			if toPairs {
				i = i/2 + i%2*(c/2)
			}
			rows = append(rows, row(unit, channels[i]))
		}
		return rows
	}
	per := len(l.Heads) / len(l.Groups)
	for i, head := range l.Heads {
		q = rotary(q, head, l.QK[i/per])
		for _, channel := range l.VO[i/per] {
			o = append(o, row(head, channel))
		}
	}
	for i, group := range l.Groups {
		k = rotary(k, group, l.QK[i])
		for _, channel := range l.VO[i] {
			v = append(v, row(group, channel))
		}
	}
	return q, k, v, o
}

// whole takes all of a tensor. A norm that the source lacks, because the layer has no such block, is all ones.
func (l *layouter) whole(src string, rows, width int) piece {
	if !l.src.Has(src) {
		return inMemory(slices.Repeat([]float32{1}, rows*width))
	}
	return piece{origin: src, src: src, rows: l.all(rows), width: width, scale: 1}
}

// entries takes the rows of the kept entries of the vocabulary.
func (l *layouter) entries(src string) piece {
	if l.vocab == nil {
		return l.whole(src, l.config.Vocab, l.config.Hidden)
	}
	return l.gather(src, l.vocab, nil, l.config.Hidden, 1)
}

// all returns the numbers below n. The caller must not change them.
func (p *plan) all(n int) []int {
	for len(p.every) < n {
		p.every = append(p.every, len(p.every))
	}
	return p.every[:n:n]
}

// inMemory is a vector in memory.
func inMemory(values []float32) piece {
	return piece{values: values, rows: []int{0}, width: len(values), scale: 1}
}

// norm adds the gains of a norm on the residual stream, re-fitted or those of the source, and its biases in a family with LayerNorm.
func (l *layouter) norm(to, from string, refit []float32) {
	hidden := l.config.Hidden
	gains := l.whole(from+".weight", 1, hidden)
	if refit != nil {
		gains = inMemory(refit)
	}
	l.vector(to+".weight", gains)
	if l.config.LayerNorm {
		l.vector(to+".bias", l.gather(from+".bias", []int{0}, nil, hidden, 1))
	}
}

// gather takes rows and columns of a tensor of the source; nil cols take all of width.
func (l *layouter) gather(src string, rows, cols []int, width int, scale float32) piece {
	t, ok := l.src.Tensor(src)
	if !ok { // the source has no such block: zeros
		return piece{origin: src, rows: rows, cols: cols, width: width, scale: 1}
	}
	p := piece{origin: src, src: src, rows: rows, cols: cols, width: t.Dims[len(t.Dims)-1], scale: scale}
	if isIdentity(cols, p.width) {
		p.cols = nil
	}
	p.inputs = p.cols
	return p
}

// columns takes the columns at of W_O or W_D. A re-fitted matrix has only the kept columns, in that order.
func (l *layouter) columns(src string, at, kept []int, refit []float32) piece {
	rows := l.all(l.config.Hidden)
	if refit == nil || len(kept) == 0 {
		return l.gather(src, rows, at, len(at), 1)
	}
	if l.sizing {
		return piece{origin: src, rows: rows, width: len(at), scale: 1}
	}
	cols := positions(at, kept)
	if isIdentity(cols, len(kept)) {
		cols = nil
	}
	return piece{origin: src, values: refit, rows: rows, cols: cols, width: len(kept), scale: 1, inputs: at}
}

// rows takes the rows at of a matrix before an output matrix. A re-fitted matrix has only the kept rows, in that order.
func (l *layouter) rows(src string, at, kept []int, refit []float32, scale float32) piece {
	if refit == nil || len(kept) == 0 {
		return l.gather(src, at, nil, l.config.Hidden, scale)
	}
	if l.sizing {
		return piece{origin: src, rows: at, width: l.config.Hidden, scale: scale}
	}
	return piece{origin: src, values: refit, rows: positions(at, kept), width: l.config.Hidden, scale: scale}
}

// positions returns the index in kept of each unit of at, [subnet.Zero] for one that is not kept.
func positions(at, kept []int) []int {
	index := make(map[int]int, len(kept))
	for i, unit := range kept {
		index[unit] = i
	}
	out := make([]int, len(at))
	for i, unit := range at {
		out[i] = subnet.Zero
		if p, ok := index[unit]; ok {
			out[i] = p
		}
	}
	return out
}

func isIdentity(index []int, n int) bool {
	if len(index) != n {
		return false
	}
	for i, v := range index {
		if v != i {
			return false
		}
	}
	return true
}

// outWidth returns the number of columns of the rows in the file.
func (p piece) outWidth() int {
	if p.cols != nil {
		return len(p.cols)
	}
	return p.width
}

// vector adds a vector, always in F32, as llama.cpp requires.
func (l *layouter) vector(name string, p piece) {
	l.targets = append(l.targets, target{Tensor{Name: name, Type: F32, Dims: []int{p.outWidth()}}, []piece{p}})
}

// matrix adds a matrix in the type asked for or, by default, in that of the subnet or of its source, or in a fallback whose blocks fit its rows.
func (l *layouter) matrix(name string, pieces ...piece) {
	width, rows, want := pieces[0].outWidth(), 0, F16
	for i, p := range pieces {
		rows += len(p.rows)
		t, ok := l.subnet.Types[p.origin]
		if src, has := l.src.Tensor(p.origin); !ok && has {
			t, ok = src.Type, true
		}
		if ok && (i == 0 || density(t) > density(want)) {
			want = t
		}
	}
	if l.asked != nil {
		want = *l.asked
	}
	got, reason := want, ""
	for l.err == nil {
		convert := slices.ContainsFunc(pieces, func(p piece) bool {
			t, ok := l.src.Tensor(p.src)
			return !ok || !p.verbatim(t.Type, got)
		})
		if _, fits := got.RowSize(width); !fits {
			reason = fmt.Sprintf("rows of %d are not a multiple of %d", width, got.Block())
		} else if convert && !Writable(got) {
			reason = fmt.Sprintf("%s cannot be written", got)
		} else {
			break
		}
		got = got.Fallback()
	}
	for _, p := range pieces {
		if t, ok := l.src.Tensor(p.src); ok && !p.verbatim(t.Type, got) && !Readable(t.Type) && l.err == nil {
			l.err = fmt.Errorf("tensor %q: %w: %s cannot be converted", p.src, ErrType, t.Type)
		}
	}
	if got != want {
		l.report.Fallbacks = append(l.report.Fallbacks, Fallback{Tensor: name, Want: want.String(), Got: got.String(), Reason: reason})
	}
	l.targets = append(l.targets, target{Tensor{Name: name, Type: got, Dims: []int{rows, width}}, pieces})
}

// importance returns the importance of the columns of a piece, nil where it is not known or types are not the subnet's.
func (p *plan) importance(piece piece) []float32 {
	of := p.subnet.Importance[piece.origin]
	if _, listed := p.subnet.Types[piece.origin]; !listed || of == nil || p.opts.Type != "" {
		return nil
	}
	if piece.inputs == nil {
		return of
	}
	out := make([]float32, len(piece.inputs))
	for i, c := range piece.inputs {
		if c != subnet.Zero {
			out[i] = of[c]
		}
	}
	return out
}

// density returns the average number of bits of a number, times 256.
func density(t Type) int {
	return t.BlockBytes() * 8 * 256 / t.Block()
}
