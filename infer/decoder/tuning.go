package decoder

import (
	"context"
	"fmt"
	"math"
	"slices"

	. "github.com/gomlx/gomlx/core/graph" // graphs read as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Tuning computes the divergence of a subnet from the dense model, and its gradient, as functions of a few numbers. Of every attention
// block and MLP that adds something to the residual stream these are
//
//	g [hidden]  the gains of the norm before it become gain·(1 + g)
//	s [width]   the inputs of its output matrix are multiplied by 1 + s
//	b [hidden]  unit·b is added to its output bias, where there are biases
//
// with unit the root mean square of what the block adds to the residual stream. With a rank, B [out, rank] and A [rank, in] are besides, for
// every matrix W [out, in] of the block, to which unit·B·(A₀ + A) is added: unit is a share of the root mean square of W, and A₀ is random
// (LoRA, arXiv 2106.09685). All numbers are zero at first. [Tuning.Fold] puts them into the weights, which changes neither shapes nor speed.
//
// The gradient is computed block by block: the states between blocks are kept, everything inside a block is computed again.
type Tuning struct {
	m      *Model
	s      *Subnet
	o      TuningOptions
	blocks []tunedBlock
	n      int
	held   map[*int32]*tensors.Tensor // states of the dense model after windows, by their first tokens
}

// TuningOptions are what is tuned besides the gains of norms and the channel scales.
type TuningOptions struct {
	Bias bool   // output biases
	Rank int    // of what is added to matrices, 0 for nothing
	Seed uint64 // of the random factors
}

// tunedBlock is where the numbers of a block are. Blocks that add nothing but a bias have none.
type tunedBlock struct {
	layer   int
	module  subnet.Module
	width   int
	numbers []numbers // of g, s, b if there are biases, and of B and A for each of the matrices
	// matrices are what low ranks are added to, nil without a rank. It is not closed: its blocks belong to the subnet.
	matrices *ModuleProblem
}

// numbers are where some numbers of a block are, which the block has times unit plus start.
type numbers struct {
	at    int // first index
	dims  []int
	unit  float64
	start []float32 // nil for zeros
	fixed []int     // columns that stay zero
}

func (n *numbers) len() int {
	product := 1
	for _, d := range n.dims {
		product *= d
	}
	return product
}

// clearColumns sets the columns of numbers that stay zero.
func clearColumns[T float32 | float64](data []T, n *numbers) {
	columns := n.dims[len(n.dims)-1]
	for _, c := range n.fixed {
		for j := c; j < len(data); j += columns {
			data[j] = 0
		}
	}
}

// The indices of a block's numbers.
const (
	gainNumbers = iota
	scaleNumbers
	biasNumbers
)

// rest is the index of the numbers after those.
func (t *Tuning) rest() int {
	if t.o.Bias {
		return biasNumbers + 1
	}
	return biasNumbers
}

// NewTuning prepares the tuning of a subnet. The units of biases are measured on a window. The subnet must stay open.
func (m *Model) NewTuning(ctx context.Context, s *Subnet, window []int32, o TuningOptions) (*Tuning, error) {
	if err := m.check(s); err != nil {
		return nil, err
	}
	if o.Rank < 0 {
		return nil, fmt.Errorf("decoder: tuning with a rank of %d", o.Rank)
	}
	t := &Tuning{m: m, s: s, o: o}
	for layer := range m.layers {
		if a := s.attention[layer]; !a.empty() {
			t.add(layer, subnet.Attention, a.shape.groups*a.shape.reps*a.shape.value)
		}
		if f := s.mlp[layer]; f.width > 0 {
			t.add(layer, subnet.MLP, f.width)
		}
	}
	if o.Rank > 0 {
		for i := range t.blocks {
			if err := t.addMatrices(&t.blocks[i]); err != nil {
				return nil, err
			}
		}
	}
	if !o.Bias {
		return t, nil
	}
	states, err := t.forward(ctx, make([]float32, t.n), window)
	if err != nil {
		return nil, err
	}
	defer free(states...)
	for i := range t.blocks {
		if t.blocks[i].numbers[biasNumbers].unit, err = m.distance(states[i], states[i+1]); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Tuning) add(layer int, module subnet.Module, width int) {
	hidden := t.m.geo.Hidden
	b := tunedBlock{layer: layer, module: module, width: width}
	t.put(&b, numbers{dims: []int{hidden}, unit: 1})
	t.put(&b, numbers{dims: []int{width}, unit: 1})
	if t.o.Bias {
		t.put(&b, numbers{dims: []int{hidden}, unit: 1})
	}
	t.blocks = append(t.blocks, b)
}

// put adds numbers to a block, after all others.
func (t *Tuning) put(b *tunedBlock, n numbers) {
	n.at = t.n
	t.n += n.len()
	b.numbers = append(b.numbers, n)
}

// Len returns how many numbers are tuned.
func (t *Tuning) Len() int { return t.n }

// distance returns the root mean square of b − a.
func (m *Model) distance(a, b *tensors.Tensor) (float64, error) {
	x, err := m.dev.fetch(a)
	if err != nil {
		return 0, err
	}
	y, err := m.dev.fetch(b)
	if err != nil {
		return 0, err
	}
	var sum float64
	for i, v := range y {
		d := float64(v) - float64(x[i])
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(y))), nil
}

// Hold computes the dense model's states after windows, which [Tuning.Divergence] then does not compute again for these windows, the same slices. Close
// frees them.
func (t *Tuning) Hold(ctx context.Context, windows [][]int32) error {
	dense := t.m.Dense()
	defer dense.Close()
	for i, w := range windows {
		if len(w) == 0 || t.held[&w[0]] != nil {
			continue
		}
		state, err := t.m.forward(ctx, dense, w)
		if err != nil {
			return fmt.Errorf("window %d: %w", i, err)
		}
		if t.held == nil {
			t.held = make(map[*int32]*tensors.Tensor)
		}
		t.held[&w[0]] = state
	}
	return nil
}

// Close frees what Hold has computed.
func (t *Tuning) Close() {
	for _, state := range t.held {
		free(state)
	}
	t.held = nil
}

// Divergence returns the Kullback–Leibler divergence of the subnet with these numbers from the dense model, in nats, as the mean
// over all tokens of the windows.
func (t *Tuning) Divergence(ctx context.Context, values []float32, windows [][]int32) (float64, error) {
	sum, tokens := 0., 0
	for i, w := range windows {
		states, err := t.forward(ctx, values, w)
		if err != nil {
			return 0, fmt.Errorf("window %d: %w", i, err)
		}
		kl, slope, err := t.loss(ctx, states[len(states)-1], w)
		free(states...)
		if err != nil {
			return 0, fmt.Errorf("window %d: %w", i, err)
		}
		free(slope)
		sum, tokens = sum+kl, tokens+len(w)
	}
	return sum / float64(tokens), nil
}

// Gradient returns the divergence as [Tuning.Divergence] does, and its gradient by the numbers.
func (t *Tuning) Gradient(ctx context.Context, values []float32, windows [][]int32) (float64, []float64, error) {
	gradient := make([]float64, t.n)
	sum, tokens := 0., 0
	for i, w := range windows {
		kl, err := t.backward(ctx, values, w, gradient)
		if err != nil {
			return 0, nil, fmt.Errorf("window %d: %w", i, err)
		}
		sum, tokens = sum+kl, tokens+len(w)
	}
	for i := range gradient {
		gradient[i] /= float64(tokens)
	}
	return sum / float64(tokens), gradient, nil
}

// forward returns the states of a window before every block that is tuned, and after the last layer.
func (t *Tuning) forward(ctx context.Context, values []float32, window []int32) (states []*tensors.Tensor, err error) {
	m := t.m
	x, err := m.embed(ctx, window)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			free(x)
			free(states...)
			states = nil
		}
	}()
	next := 0
	for layer := range m.layers {
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			tuned := next < len(t.blocks) && t.blocks[next].layer == layer && t.blocks[next].module == module
			var y *tensors.Tensor
			switch {
			case tuned:
				states = append(states, x)
				y, err = t.pass(ctx, &t.blocks[next], values, x)
				next++
			case module == subnet.Attention:
				y, err = m.passAttention(ctx, t.s.attention[layer], x, 1)
			default:
				y, err = m.passMLP(ctx, t.s.mlp[layer], x)
			}
			if err != nil {
				if tuned {
					x = nil // states has it
				}
				return states, fmt.Errorf("layer %d: %w", layer, err)
			}
			if y != x && !tuned {
				free(x)
			}
			x = y
		}
	}
	return append(states, x), nil
}

// loss returns the divergence of the distributions after a state x of the subnet from those of the dense model, as the sum over the
// tokens of a window, and its gradient by x.
func (t *Tuning) loss(ctx context.Context, x *tensors.Tensor, window []int32) (float64, *tensors.Tensor, error) {
	m := t.m
	want := t.held[&window[0]]
	if want == nil {
		dense := m.Dense()
		defer dense.Close()
		var err error
		if want, err = m.forward(ctx, dense, window); err != nil {
			return 0, nil, err
		}
		defer free(want)
	}
	out, err := m.onHead(ctx, "slope of the divergence", func(head lmHead, in []*Node) []*Node {
		x, norm, rows, want := in[0], in[1], in[2], in[3]
		xn, wantN := head.norm(x, norm), head.norm(want, norm)
		v := fullVocab(rows)
		step := max(64, divergenceBlock/rows.Shape().Dimensions[0])
		tokens := x.Shape().Dimensions[0]
		var losses, slopes []*Node
		for from := 0; from < tokens; from += step {
			to := min(from+step, tokens)
			logits, total := head.logits(Slice(xn, AxisRange(from, to)), v)
			logQ := Sub(logits, InsertAxes(total, -1))
			wantLogits, wantTotal := head.logits(Slice(wantN, AxisRange(from, to)), v)
			logP := Sub(wantLogits, InsertAxes(wantTotal, -1))
			p := Exp(logP)
			losses = append(losses, ReduceAllSum(Mul(p, Sub(logP, logQ))))
			slope := Sub(Exp(logQ), p) // by the logits
			if head.cap != 0 {
				slope = Mul(slope, OneMinus(Square(DivScalar(logits, head.cap))))
			}
			slopes = append(slopes, DotGeneral(slope, []int{1}, nil, rows, []int{0}, nil))
		}
		loss, byNormed := losses[0], slopes[0]
		for _, l := range losses[1:] {
			loss = Add(loss, l)
		}
		if len(slopes) > 1 {
			byNormed = Concatenate(slopes, 0)
		}
		by := Gradient(ReduceAllSum(Mul(xn, StopGradient(byNormed))), x)
		return []*Node{loss, by[0]}
	}, x, want)
	if err != nil {
		return 0, nil, err
	}
	defer free(out[0])
	kl, err := m.dev.fetch(out[0])
	if err != nil {
		free(out[1])
		return 0, nil, err
	}
	return float64(kl[0]), out[1], nil
}

// divergenceBlock is for how many logits at a time divergences are computed.
const divergenceBlock = 1 << 24

// backward adds the gradient for a window to sums and returns its share of the divergence.
func (t *Tuning) backward(ctx context.Context, values []float32, window []int32, sums []float64) (float64, error) {
	states, err := t.forward(ctx, values, window)
	if err != nil {
		return 0, err
	}
	defer free(states...)
	kl, slope, err := t.loss(ctx, states[len(states)-1], window)
	if err != nil {
		return 0, err
	}
	defer func() { free(slope) }()
	for i := len(t.blocks) - 1; i >= 0; i-- {
		b := &t.blocks[i]
		out, err := t.back(ctx, b, values, states[i], slope)
		if err != nil {
			return 0, fmt.Errorf("layer %d: gradient: %w", b.layer, err)
		}
		free(slope)
		slope = out[0]
		err = t.collect(b, out[1:], sums)
		free(out[1:]...)
		if err != nil {
			return 0, err
		}
	}
	return kl, nil
}

// collect adds the gradients by the numbers of a block.
func (t *Tuning) collect(b *tunedBlock, by []*tensors.Tensor, sums []float64) error {
	for i := range b.numbers {
		n := &b.numbers[i]
		data, err := t.m.dev.fetch(by[i])
		if err != nil {
			return err
		}
		to := sums[n.at : n.at+len(data)]
		for j, v := range data {
			to[j] += n.unit * float64(v)
		}
		clearColumns(to, n)
	}
	return nil
}

// pass returns x after a block with its numbers.
func (t *Tuning) pass(ctx context.Context, b *tunedBlock, values []float32, x *tensors.Tensor) (*tensors.Tensor, error) {
	out, err := t.run(ctx, b, "tuned", values, []*tensors.Tensor{x}, func(y *Node, _ []*Node, _ []*Node) []*Node { return []*Node{y} })
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// back returns the gradients by x and by the numbers of a block, given the gradient by what the block returns.
func (t *Tuning) back(ctx context.Context, b *tunedBlock, values []float32, x, slope *tensors.Tensor) ([]*tensors.Tensor, error) {
	return t.run(ctx, b, "slope of tuned", values, []*tensors.Tensor{x, slope}, func(y *Node, before, numbers []*Node) []*Node {
		return Gradient(ReduceAllSum(Mul(y, before[1])), append([]*Node{before[0]}, numbers...)...)
	})
}

// run runs a graph on a block with its numbers: f gets the state after the block, before (the first of which is the state before
// it), and the numbers as the block has them.
func (t *Tuning) run(ctx context.Context, b *tunedBlock, name string, values []float32, before []*tensors.Tensor, f func(y *Node, before, numbers []*Node) []*Node) ([]*tensors.Tensor, error) {
	numbers, err := t.upload(b, values)
	if err != nil {
		return nil, err
	}
	defer free(numbers...)
	k, n := len(before), len(numbers)
	args := slices.Concat(before, numbers)
	m := t.m
	if b.module == subnet.MLP {
		w := &t.s.mlp[b.layer].w
		h, err := m.weights.Hold(w.mlpNorm, w.gateOrUpBias(), w.up, w.down, w.downBias, w.mlpPost)
		if err != nil {
			return nil, err
		}
		defer h.Release()
		shape := m.mlpShape(w.downBias)
		return m.dev.run(ctx, fmt.Sprintf("%s mlp %d %+v", name, n, shape), func(in []*Node) []*Node {
			v, w := in[k:k+n], in[k+n:]
			bias, post := shape.split(w[4:])
			added := t.added(b, v)
			inner := max(0, len(added)-1)
			mid := scaled(shape.inner(in[0], scaledNorm(w[0], v[gainNumbers]), w[1], w[2], added[:inner]...), v[scaleNumbers])
			return f(shape.add(in[0], mid, w[3], t.biased(bias, v), post, added[inner:]...), in[:k], v)
		}, h.With(args...)...)
	}
	a := t.s.attention[b.layer]
	inputs, h, err := m.attentionArgs(a, before[0], 1, a.w.o, a.w.oBias, a.w.attnPost)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	shape := a.shape
	return m.dev.run(ctx, fmt.Sprintf("%s attention %d %+v", name, n, shape), func(in []*Node) []*Node {
		v := in[k : k+n]
		p := shape.split(in[k+n:])
		p.norm = scaledNorm(p.norm, v[gainNumbers])
		switch added := t.added(b, v); len(added) {
		case 1:
			p.added.o = added
		case 4:
			p.added.q, p.added.k, p.added.v, p.added.o = added[:1], added[1:2], added[2:3], added[3:]
		}
		mid := scaled(shape.attend(in[0], p), v[scaleNumbers])
		p.oBias = t.biased(p.oBias, v)
		return f(shape.add(in[0], mid, p), in[:k], v)
	}, append(args, inputs[1:]...)...)
}

// upload puts the numbers of a block on the device as the block has them.
func (t *Tuning) upload(b *tunedBlock, values []float32) (out []*tensors.Tensor, err error) {
	for i := range b.numbers {
		n := &b.numbers[i]
		data := slices.Clone(values[n.at : n.at+n.len()])
		for j := range data {
			data[j] *= float32(n.unit)
			if n.start != nil {
				data[j] += n.start[j]
			}
		}
		clearColumns(data, n)
		x, err := t.m.dev.upload(data, n.dims...)
		if err != nil {
			free(out...)
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// scaled returns the rows of x [tokens, n] multiplied by 1 + by, [n].
func scaled(x, by *Node) *Node { return Mul(x, InsertAxes(AddScalar(by, 1), 0)) }

// scaledNorm returns the weights of a norm with its gains multiplied by 1 + by.
func scaledNorm(norm, by *Node) *Node {
	factor := AddScalar(by, 1)
	if norm.Rank() == 1 {
		return Mul(norm, factor)
	}
	gains := Mul(Slice(norm, AxisRange(0, 1)), InsertAxes(factor, 0))
	return Concatenate([]*Node{gains, Slice(norm, AxisRange(1, 2))}, 0)
}

// biased returns the output bias of a block with its numbers, nil for none.
func (t *Tuning) biased(bias *Node, numbers []*Node) *Node {
	switch {
	case !t.o.Bias:
		return bias
	case bias == nil:
		return numbers[biasNumbers]
	}
	return Add(bias, numbers[biasNumbers])
}
