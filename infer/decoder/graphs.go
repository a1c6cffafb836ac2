package decoder

import (
	"math"

	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" // graphs read as formulas
)

// queryBlock is how many queries of a window attend at a time, which bounds the memory of their scores.
const queryBlock = 256

// lowRank is the matrix left·right of low rank, left [out, rank] and right [rank, in], which is added to a matrix [out, in].
type lowRank struct{ left, right *Node }

// linear returns x·wᵀ (+ bias) for x [tokens, in], w [out, in] plus what is added to it, and bias [out] or nil.
func linear(x, w, bias *Node, added ...lowRank) *Node {
	y := DotGeneral(x, []int{1}, nil, w, []int{1}, nil)
	for _, l := range added {
		y = Add(y, linear(linear(x, l.right, nil), l.left, nil))
	}
	if bias != nil {
		y = Add(y, InsertAxes(bias, 0))
	}
	return y
}

// rmsNorm returns x / sqrt(mean(x²) + eps) · gain over the last axis of x [tokens, n].
func rmsNorm(x, gain *Node, eps float64) *Node {
	scale := inverseRoot(AddScalar(ReduceAndKeep(Square(x), ReduceMean, -1), eps))
	return Mul(Mul(x, scale), InsertAxes(gain, 0))
}

// norm returns the residual stream x [tokens, hidden] after a norm: an RMS norm for gains [hidden], and for gains and
// biases [2, hidden] a LayerNorm, (x − mean) / sqrt(variance + eps) · gain + bias.
func norm(x, weights *Node, eps float64) *Node {
	if weights.Rank() == 1 {
		return rmsNorm(x, weights, eps)
	}
	gain, bias := Slice(weights, AxisRange(0, 1)), Slice(weights, AxisRange(1, 2))
	return Add(rmsNorm(centred(x), Reshape(gain, x.Shape().Dimensions[1]), eps), bias)
}

// centred returns x [tokens, n] less the mean of each row.
func centred(x *Node) *Node { return Sub(x, ReduceAndKeep(x, ReduceMean, -1)) }

// inverseRoot returns 1/√x. GoMLX has an operation for it, but no gradient of that.
func inverseRoot(x *Node) *Node { return Reciprocal(Sqrt(x)) }

// attentionShape is everything about an attention block that its graph depends on besides the shapes of its inputs.
type attentionShape struct {
	windows      int // that are computed at once, each with as many tokens
	groups, reps int // KV groups and query heads per group
	pairs, rest  int // rotary pairs and unrotated channels of a query or key head
	value        int // channels of a value head
	headDim      int // channels of a full head, by which the norm of queries and keys divides
	scale        float64
	eps          float64
	cap          float64 // bound of the scores, 0 for none
	qkvBias      bool
	qkNorm       bool
	outBias      bool
	postNorm     bool // the block's output is normalised before it is added
}

// attentionInputs names the inputs of an attention graph after the hidden state, in their order.
type attentionInputs struct {
	norm, q, k, v, cos, sin, causal, qBias, kBias, vBias, qGain, kGain, o, oBias, post *Node
	added                                                                              struct{ q, k, v, o []lowRank }
}

// split names the inputs of a graph that come after the hidden state. Without W_O the list ends before it.
func (a attentionShape) split(in []*Node) attentionInputs {
	next := func(have bool) *Node {
		if !have {
			return nil
		}
		n := in[0]
		in = in[1:]
		return n
	}
	var p attentionInputs
	p.norm, p.q, p.k, p.v = next(true), next(true), next(true), next(true)
	p.cos, p.sin, p.causal = next(a.pairs > 0), next(a.pairs > 0), next(true)
	p.qBias, p.kBias, p.vBias = next(a.qkvBias), next(a.qkvBias), next(a.qkvBias)
	p.qGain, p.kGain = next(a.qkNorm), next(a.qkNorm)
	p.o, p.oBias = next(len(in) > 0), next(a.outBias)
	p.post = next(a.postNorm)
	return p
}

// attend returns the inputs of W_O, [windows·tokens, groups·reps·value], for the residual stream x [windows·tokens, hidden]: causal
// softmax attention of the kept heads, with rotary positions where they have rotary pairs. The groups of different windows are
// computed like those of one.
func (a attentionShape) attend(x *Node, p attentionInputs) *Node {
	rows := x.Shape().Dimensions[0]
	tokens := rows / a.windows
	width := 2*a.pairs + a.rest
	xn := norm(x, p.norm, a.eps)
	q := Reshape(linear(xn, p.q, p.qBias, p.added.q...), rows, a.groups, a.reps, width)
	k := Reshape(linear(xn, p.k, p.kBias, p.added.k...), rows, a.groups, 1, width)
	v := Reshape(linear(xn, p.v, p.vBias, p.added.v...), rows, a.groups, a.value)
	if a.qkNorm {
		q, k = a.headNorm(q, p.qGain), a.headNorm(k, p.kGain)
	}
	cos, sin := repeated(p.cos, a.windows), repeated(p.sin, a.windows)
	q, k = a.rotate(MulScalar(q, a.scale), cos, sin), a.rotate(k, cos, sin)
	groups := a.windows * a.groups
	q = byGroup(q, a.windows, 1, 2, 0, 3)                              // [groups, reps, tokens, width]
	k = byGroup(Reshape(k, rows, a.groups, width), a.windows, 1, 0, 2) // [groups, tokens, width]
	v = byGroup(v, a.windows, 1, 0, 2)                                 // [groups, tokens, value]

	// With columns of ones next to the values, the product with the weights also sums them, faster than a sum over rows.
	v = Concatenate([]*Node{v, Ones(v.Graph(), shapes.Make(v.DType(), groups, tokens, onesColumns))}, 2)

	var blocks []*Node
	for from := 0; from < tokens; from += queryBlock {
		to := min(from+queryBlock, tokens)
		n := to - from
		qb := Reshape(Slice(q, AxisRange(), AxisRange(), AxisRange(from, to)), groups, a.reps*n, width)
		kb := Slice(k, AxisRange(), AxisRange(0, to))
		vb := Slice(v, AxisRange(), AxisRange(0, to))
		scores := Reshape(DotGeneral(qb, []int{2}, []int{0}, kb, []int{2}, []int{0}), groups, a.reps, n, to)
		scores = softCap(scores, a.cap)
		causal := Slice(p.causal, AxisRange(0, n), AxisRange(tokens-from, tokens+n))
		scores = Add(scores, Reshape(causal, 1, 1, n, to))
		weights := Exp(Sub(scores, ReduceAndKeep(scores, ReduceMax, -1)))
		out := DotGeneral(Reshape(weights, groups, a.reps*n, to), []int{2}, []int{0}, vb, []int{1}, []int{0})
		out = Reshape(out, groups, a.reps, n, a.value+onesColumns)
		out = Div(SliceAxis(out, 3, AxisRange(0, a.value)), SliceAxis(out, 3, AxisRange(a.value, a.value+1)))
		blocks = append(blocks, TransposeAllAxes(out, 2, 0, 1, 3))
	}
	all := blocks[0]
	if len(blocks) > 1 {
		all = Concatenate(blocks, 0)
	}
	if a.windows > 1 {
		all = TransposeAllAxes(Reshape(all, tokens, a.windows, a.groups*a.reps*a.value), 1, 0, 2)
	}
	return Reshape(all, rows, a.groups*a.reps*a.value)
}

// repeated returns x [tokens, ...] once for each window, [windows·tokens, ...]; a nil x stays nil.
func repeated(x *Node, windows int) *Node {
	if x == nil || windows == 1 {
		return x
	}
	dims := x.Shape().Dimensions
	each := BroadcastToDims(InsertAxes(x, 0), append([]int{windows}, dims...)...)
	return Reshape(each, append([]int{windows * dims[0]}, dims[1:]...)...)
}

// byGroup transposes x [windows·tokens, groups, ...] by axes, which are those of one window and begin with the groups, and returns
// the groups of all windows, [windows·groups, ...].
func byGroup(x *Node, windows int, axes ...int) *Node {
	if windows == 1 {
		return TransposeAllAxes(x, axes...)
	}
	dims := x.Shape().Dimensions
	moved := []int{0}
	for _, a := range axes {
		moved = append(moved, a+1)
	}
	y := TransposeAllAxes(Reshape(x, append([]int{windows, dims[0] / windows}, dims[1:]...)...), moved...)
	dims = y.Shape().Dimensions
	return Reshape(y, append([]int{dims[0] * dims[1]}, dims[2:]...)...)
}

// onesColumns is how many columns of ones follow the values: one is needed, and a multiple of the width of vector registers
// costs no more.
const onesColumns = 8

// softCap returns bound·tanh(x/bound), x itself where the bound is 0.
func softCap(x *Node, bound float64) *Node {
	if bound == 0 {
		return x
	}
	return MulScalar(Tanh(DivScalar(x, bound)), bound)
}

// causalMask returns what is added to the scores of a block of queries so that no query attends to later keys, or to keys outside
// its sliding window of the given length, which ends with its own key; 0 is no sliding window. It is [n, tokens+n] with
// n = min(queryBlock, tokens): row i is 0 in the last window columns up to column tokens+i, and −1e30 elsewhere. For queries from
// f on, key k is column tokens−f+k. As an input it costs a third of comparing positions in the graph.
func causalMask(tokens, window int) (mask []float32, rows, columns int) {
	rows = min(queryBlock, tokens)
	columns = tokens + rows
	mask = make([]float32, rows*columns)
	for i := range rows {
		for c := tokens + i + 1; c < columns; c++ {
			mask[i*columns+c] = -1e30
		}
		if window > 0 {
			for c := range max(0, tokens+i+1-window) {
				mask[i*columns+c] = -1e30
			}
		}
	}
	return mask, rows, columns
}

// headNorm is the norm of query and key heads, x [tokens, groups, heads, width] and gain [groups·width] or [width]. Its
// mean is over the channels of the full head: those dropped are zero.
func (a attentionShape) headNorm(x, gain *Node) *Node {
	mean := DivScalar(ReduceAndKeep(Square(x), ReduceSum, -1), float64(a.headDim))
	width := x.Shape().Dimensions[3]
	gain = Reshape(gain, 1, gain.Shape().Size()/width, 1, width)
	return Mul(Mul(x, inverseRoot(AddScalar(mean, a.eps))), gain)
}

// rotate rotates the pairs (i, i+pairs) of x [tokens, groups, heads, 2·pairs+rest] by the angles whose cosines and sines
// are [tokens, groups or 1, pairs].
func (a attentionShape) rotate(x, cos, sin *Node) *Node {
	if a.pairs == 0 {
		return x
	}
	cos, sin = InsertAxes(cos, 2), InsertAxes(sin, 2)
	first := SliceAxis(x, 3, AxisRange(0, a.pairs))
	second := SliceAxis(x, 3, AxisRange(a.pairs, 2*a.pairs))
	rotated := []*Node{
		Sub(Mul(first, cos), Mul(second, sin)),
		Add(Mul(first, sin), Mul(second, cos)),
	}
	if a.rest > 0 {
		rotated = append(rotated, SliceAxis(x, 3, AxisRange(2*a.pairs, 2*a.pairs+a.rest)))
	}
	return Concatenate(rotated, 3)
}

// mlpShape is everything about an MLP block that its graph depends on besides the shapes of its inputs.
type mlpShape struct {
	eps      float64
	gelu     bool
	ungated  bool
	outBias  bool
	postNorm bool
}

// split names the inputs of a graph that come after W_D.
func (f mlpShape) split(in []*Node) (bias, post *Node) {
	if f.outBias {
		bias, in = in[0], in[1:]
	}
	if f.postNorm {
		post = in[0]
	}
	return bias, post
}

// inner returns the inputs of W_D: act(x̂·W_Gᵀ) ⊙ x̂·W_Uᵀ with x̂ the normalised x and act silu or gelu, or without a gate
// relu(x̂·W_Uᵀ + b). gateOrUpBias is W_G or b. What is added to the matrices, if anything, is in the order W_G, W_U.
func (f mlpShape) inner(x, normWeights, gateOrUpBias, up *Node, added ...lowRank) *Node {
	xn := norm(x, normWeights, f.eps)
	if f.ungated {
		return MaxScalar(linear(xn, up, gateOrUpBias, added...), 0)
	}
	n := len(added) / 2
	g, u := linear(xn, gateOrUpBias, nil, added[:n]...), linear(xn, up, nil, added[n:]...)
	if f.gelu {
		return Mul(gelu(g), u)
	}
	return Mul(Mul(g, Sigmoid(g)), u)
}

// add returns x plus the output of the block, given the inputs of W_D.
func (f mlpShape) add(x, mid, down, bias, post *Node, added ...lowRank) *Node {
	y := linear(mid, down, bias, added...)
	if f.postNorm {
		y = rmsNorm(y, post, f.eps)
	}
	return Add(x, y)
}

// gelu returns x·Φ(x) by the approximation ½x(1 + tanh(√(2/π)(x + 0.044715x³))).
func gelu(x *Node) *Node {
	inner := Mul(x, AddScalar(MulScalar(Square(x), 0.044715), 1))
	return MulScalar(Mul(x, AddScalar(Tanh(MulScalar(inner, math.Sqrt(2/math.Pi))), 1)), 0.5)
}

// add returns x plus the output of the block, given the inputs of W_O.
func (a attentionShape) add(x, mid *Node, p attentionInputs) *Node {
	y := linear(mid, p.o, p.oBias, p.added.o...)
	if a.postNorm {
		y = rmsNorm(y, p.post, a.eps)
	}
	return Add(x, y)
}

// rotaryAngles returns cosines and sines [tokens, len(pairs)·groups] of a model's rotary embedding, laid out
// [tokens, groups, pairs] with the pairs chosen by group.
func rotaryAngles(freqs []float64, tokens int, pairs [][]int) (cos, sin []float32) {
	var n int
	for _, p := range pairs {
		n += len(p)
	}
	cos, sin = make([]float32, 0, tokens*n), make([]float32, 0, tokens*n)
	for t := range tokens {
		for _, group := range pairs {
			for _, i := range group {
				if i < 0 {
					cos, sin = append(cos, 1), append(sin, 0)
					continue
				}
				s, c := math.Sincos(float64(t) * freqs[i])
				cos, sin = append(cos, float32(c)), append(sin, float32(s))
			}
		}
	}
	return cos, sin
}
