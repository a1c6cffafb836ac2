package gguf

import (
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// job is one tensor of the file to write, made of parts that lie one below the other.
type job struct {
	Tensor
	parts []part
}

// part is a run of rows of a tensor, gathered from a matrix of the source file or of memory. A vector is a matrix of one row.
type part struct {
	src    string    // tensor of the source, "" for values
	values []float32 // row-major matrix in place of src; nil as well: zeros
	// rows and cols say which row and column of that matrix stands at each place, [subnet.Zero] for none; nil cols keep all.
	rows, cols []int
	width      int // columns of that matrix
	scale      float32
}

// verbatim reports whether the rows of the part may be copied as they are stored in t.
func (p part) verbatim(src, out Type) bool {
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
	l.matrix("token_embd.weight", l.whole("token_embd.weight", c.Vocab, c.Hidden))
	if c.Positions > 0 {
		l.matrix("position_embd.weight", l.whole("position_embd.weight", c.Positions, c.Hidden))
	}
	l.norm("output_norm", "output_norm")
	if !c.Tied {
		l.matrix("output.weight", l.whole("output.weight", c.Vocab, c.Hidden))
	}
	if factors := p.ropeFactors(); factors != nil {
		l.vector("rope_freqs.weight", inMemory(factors))
	}
	for place := range p.cut.Layers {
		l.layer(place)
	}
	return l.err
}

// layouter adds the jobs of a plan. Its first error sticks.
type layouter struct {
	*plan
	asked *Type
	err   error
}

// layer adds the tensors of one layer of the file.
func (l *layouter) layer(place int) {
	cut, c := l.cut.Layers[place], l.config
	from := func(rest string) string { return layerName(cut.Source, rest) }
	to := func(rest string) string { return layerName(place, rest) }
	masks, refit := l.subnet.Masks, l.refit(cut.Source)

	if len(cut.Heads) > 0 {
		q, k, v, o := l.headRows(cut)
		scale, gain := l.scoreScale()
		l.norm(to("attn_norm"), from("attn_norm"))
		parts := []part{
			l.gather(from("attn_q.weight"), q, nil, c.Hidden, scale),
			l.gather(from("attn_k.weight"), k, nil, c.Hidden, 1),
			l.gather(from("attn_v.weight"), v, nil, c.Hidden, 1),
		}
		if l.to.QKNorm {
			norm := l.whole(from("attn_q_norm.weight"), 1, l.cut.HeadDim)
			norm.scale *= gain
			l.vector(to("attn_q_norm.weight"), norm)
			l.vector(to("attn_k_norm.weight"), l.whole(from("attn_k_norm.weight"), 1, l.cut.HeadDim))
		}
		if l.to.FusedQKV {
			l.matrix(to(fusedSuffix), parts...)
		} else {
			l.matrix(to("attn_q.weight"), parts[0])
			l.matrix(to("attn_k.weight"), parts[1])
			l.matrix(to("attn_v.weight"), parts[2])
		}
		l.matrix(to("attn_output.weight"), l.columns(from("attn_output.weight"), o, masks.OColumns(cut.Source), refit.WO))
		if l.hasQKVBias(cut) {
			l.vector(to("attn_q.bias"), l.gather(from("attn_q.bias"), []int{0}, q, len(q), scale))
			l.vector(to("attn_k.bias"), l.gather(from("attn_k.bias"), []int{0}, k, len(k), 1))
			l.vector(to("attn_v.bias"), l.gather(from("attn_v.bias"), []int{0}, v, len(v), 1))
		}
		if b := l.biasO[place]; b != nil {
			l.vector(to("attn_output.bias"), inMemory(b))
		}
		if c.PostNorms {
			l.vector(to("post_attention_norm.weight"), l.whole(from("post_attention_norm.weight"), 1, c.Hidden))
		}
	}
	if len(cut.Channels) > 0 {
		l.norm(to("ffn_norm"), from("ffn_norm"))
		if c.Ungated {
			l.vector(to("ffn_up.bias"), l.gather(from("ffn_up.bias"), []int{0}, cut.Channels, len(cut.Channels), 1))
		} else {
			l.matrix(to("ffn_gate.weight"), l.gather(from("ffn_gate.weight"), cut.Channels, nil, c.Hidden, 1))
		}
		kept := masks.Layer(cut.Source).Channels.Indices()
		l.matrix(to("ffn_up.weight"), l.rows(from("ffn_up.weight"), cut.Channels, kept, refit.WU))
		l.matrix(to("ffn_down.weight"), l.columns(from("ffn_down.weight"), cut.Channels, kept, refit.WD))
		if b := l.biasD[place]; b != nil {
			l.vector(to("ffn_down.bias"), inMemory(b))
		}
		if c.PostNorms {
			l.vector(to("post_ffw_norm.weight"), l.whole(from("post_ffw_norm.weight"), 1, c.Hidden))
		}
	}
}

// scoreScale returns what rows of W_Q, or else the gains of the norm of Q, are multiplied by so that scores stay what they are in a file
// whose heads, or whose counts, have llama.cpp scale them otherwise.
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

// headRows returns which rows of W_Q, W_K and W_V of the source stand at each row of the file's, and which columns of W_O. Where source and file
// pair rotary channels differently, the rows of Q and K of every head change places.
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

// whole is a tensor as it is. A source that lacks it, because the layer had no such block, gives ones for a norm.
func (l *layouter) whole(src string, rows, width int) part {
	if !l.src.Has(src) {
		return inMemory(slices.Repeat([]float32{1}, rows*width))
	}
	return part{src: src, rows: subnet.Full(rows).Indices(), width: width, scale: 1}
}

// inMemory is a vector.
func inMemory(values []float32) part {
	return part{values: values, rows: []int{0}, width: len(values), scale: 1}
}

// norm adds the gains of a norm on the residual stream, and its biases where norms have them.
func (l *layouter) norm(to, from string) {
	hidden := l.config.Hidden
	l.vector(to+".weight", l.whole(from+".weight", 1, hidden))
	if l.config.LayerNorm {
		l.vector(to+".bias", l.gather(from+".bias", []int{0}, nil, hidden, 1))
	}
}

// gather takes rows and columns of a tensor of the source; nil cols take all of width.
func (l *layouter) gather(src string, rows, cols []int, width int, scale float32) part {
	t, ok := l.src.Tensor(src)
	if !ok { // a block that the source has not: all zeros
		return part{rows: rows, cols: cols, width: width, scale: 1}
	}
	p := part{src: src, rows: rows, cols: cols, width: t.Dims[len(t.Dims)-1], scale: scale}
	if isIdentity(cols, p.width) {
		p.cols = nil
	}
	return p
}

// columns takes the columns at of W_O or W_D. Where the matrix was re-fitted its columns are those kept, in that order.
func (l *layouter) columns(src string, at, kept []int, refit []float32) part {
	rows := subnet.Full(l.config.Hidden).Indices()
	if refit == nil || len(kept) == 0 {
		return l.gather(src, rows, at, len(at), 1)
	}
	cols := positions(at, kept)
	if isIdentity(cols, len(kept)) {
		cols = nil
	}
	return part{values: refit, rows: rows, cols: cols, width: len(kept), scale: 1}
}

// rows takes the rows at of W_U. Where the matrix was re-fitted its rows are those kept, in that order.
func (l *layouter) rows(src string, at, kept []int, refit []float32) part {
	if refit == nil || len(kept) == 0 {
		return l.gather(src, at, nil, l.config.Hidden, 1)
	}
	return part{values: refit, rows: positions(at, kept), width: l.config.Hidden, scale: 1}
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

// outWidth is the number of columns that the part gives.
func (p part) outWidth() int {
	if p.cols != nil {
		return len(p.cols)
	}
	return p.width
}

// vector adds a tensor of one dimension, always F32: llama.cpp adds and multiplies by nothing else.
func (l *layouter) vector(name string, p part) {
	l.jobs = append(l.jobs, job{Tensor{Name: name, Type: F32, Dims: []int{p.outWidth()}}, []part{p}})
}

// matrix adds a tensor of two dimensions in the type asked for, or in that of its source, or in the nearest that its rows fit.
func (l *layouter) matrix(name string, parts ...part) {
	width, rows, want := parts[0].outWidth(), 0, F16
	for i, p := range parts {
		rows += len(p.rows)
		if t, ok := l.src.Tensor(l.origin(name, i)); ok && (i == 0 || density(t.Type) > density(want)) {
			want = t.Type
		}
	}
	if l.asked != nil {
		want = *l.asked
	}
	got, reason := want, ""
	for l.err == nil {
		convert := slices.ContainsFunc(parts, func(p part) bool {
			t, ok := l.src.Tensor(p.src)
			return !ok || !p.verbatim(t.Type, got)
		})
		if _, fits := got.RowSize(width); !fits {
			reason = fmt.Sprintf("rows of %d are no multiple of %d", width, got.Block())
		} else if convert && !Writable(got) {
			reason = fmt.Sprintf("%s cannot be written", got)
		} else {
			break
		}
		got = got.Fallback()
	}
	for _, p := range parts {
		if t, ok := l.src.Tensor(p.src); ok && !p.verbatim(t.Type, got) && !Readable(t.Type) && l.err == nil {
			l.err = fmt.Errorf("tensor %q: %w: %s cannot be converted", p.src, ErrType, t.Type)
		}
	}
	if got != want {
		l.report.Fallbacks = append(l.report.Fallbacks, Fallback{Tensor: name, Want: want.String(), Got: got.String(), Reason: reason})
	}
	l.jobs = append(l.jobs, job{Tensor{Name: name, Type: got, Dims: []int{rows, width}}, parts})
}

// origin names the tensor of the source that part i of a tensor of the file takes its type from, whether or not the numbers are from it.
func (l *layouter) origin(name string, i int) string {
	var place int
	var rest string
	if n, _ := fmt.Sscanf(name, "blk.%d.%s", &place, &rest); n != 2 {
		return name
	}
	if rest == fusedSuffix {
		rest = []string{"attn_q.weight", "attn_k.weight", "attn_v.weight"}[i]
	}
	return layerName(l.cut.Layers[place].Source, rest)
}

// density is how many bits a number takes on average, times 256.
func density(t Type) int {
	return t.BlockBytes() * 8 * 256 / t.Block()
}
