package decoder

import (
	"context"
	"fmt"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/decoder/weights"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Inputs are the activations that enter one matrix of one layer, [tokens, n] for every window. Those of batches of windows past the
// model's memory limit are computed each time they are needed.
type Inputs struct {
	m       *Model
	st      *States
	layer   int
	module  subnet.Module
	n       int
	moves   int               // of the states when the inputs were computed
	kept    []*tensors.Tensor // by batch of the states
	compute func(ctx context.Context, at int, x *tensors.Tensor) (*tensors.Tensor, error)
	release func()

	other      *States // the other states of a Difference, nil otherwise
	otherMoves int
}

// AttentionInputs computes the inputs of W_O of a layer with all its heads, [tokens, heads·head dimension], from states before
// the layer. Only the query and key channels that s keeps in this layer matter, since they change attention weights; a nil s
// keeps all. The caller must Close the inputs.
func (m *Model) AttentionInputs(ctx context.Context, layer int, s *Subnet, st *States) (*Inputs, error) {
	if err := m.checkStep(layer, s, st); err != nil {
		return nil, err
	}
	geo := m.geo.Layers[layer]
	b := m.attention[layer]
	b.Retain()
	if s != nil && s.masks.Layer(layer).QK != nil {
		l := subnet.DenseLayer(geo)
		l.QK = s.masks.Layer(layer).QK
		cut, err := m.cutAttention(layer, subnet.Dense(&m.geo).With(layer, l), gguf.Refit{})
		if err != nil {
			return nil, err
		}
		b = cut
	}
	in := &Inputs{m: m, st: st, layer: layer, module: subnet.Attention, n: geo.Heads * m.config.HeadDim, release: b.Release}
	in.compute = func(ctx context.Context, at int, x *tensors.Tensor) (*tensors.Tensor, error) {
		return m.headOutputs(ctx, b, x, st.batches[at].windows)
	}
	return in.fill(ctx)
}

// MLPInputs computes the inputs of W_D of a layer with all its channels, [tokens, FFN], from states between the layer's attention
// and its MLP. The caller must Close the inputs.
func (m *Model) MLPInputs(ctx context.Context, layer int, s *Subnet, st *States) (*Inputs, error) {
	if err := m.checkStep(layer, s, st); err != nil {
		return nil, err
	}
	w, shape := &m.mlp[layer].w, m.mlpShape(nil)
	in := &Inputs{m: m, st: st, layer: layer, module: subnet.MLP, n: m.geo.Layers[layer].FFN, release: func() {}}
	in.compute = func(ctx context.Context, _ int, x *tensors.Tensor) (*tensors.Tensor, error) {
		h, err := m.weights.Hold(w.mlpNorm, w.gateOrUpBias(), w.up)
		if err != nil {
			return nil, err
		}
		defer h.Release()
		return m.dev.run1(ctx, fmt.Sprintf("inner %+v", shape), func(in []*graph.Node) *graph.Node {
			return shape.inner(in[0], in[1], in[2], in[3])
		}, h.With(x)...)
	}
	return in.fill(ctx)
}

// NormedInputs computes the inputs of the first matrices of a module, [tokens, hidden]: of W_Q, W_K and W_V of attention, or of
// W_G (where there is one) and W_U of an MLP, from states before the module. They cannot be added to states. The caller must
// Close them.
func (m *Model) NormedInputs(ctx context.Context, layer int, module subnet.Module, st *States) (*Inputs, error) {
	if err := m.checkStep(layer, nil, st); err != nil {
		return nil, err
	}
	weights := m.layers[layer].attnNorm
	if module == subnet.MLP {
		weights = m.layers[layer].mlpNorm
	}
	in := &Inputs{m: m, st: st, layer: -1, module: module, release: func() {}}
	if weights != nil {
		in.n = m.geo.Hidden
	}
	in.compute = func(ctx context.Context, _ int, x *tensors.Tensor) (*tensors.Tensor, error) {
		return m.normed(ctx, x, weights)
	}
	return in.fill(ctx)
}

// normed returns the residual stream x after a norm.
func (m *Model) normed(ctx context.Context, x *tensors.Tensor, weights *weights.Weight) (*tensors.Tensor, error) {
	h, err := m.weights.Hold(weights)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	eps := m.config.NormEps
	return m.dev.run1(ctx, fmt.Sprintf("norm %g", eps), func(in []*graph.Node) *graph.Node {
		return norm(in[0], in[1], eps)
	}, h.With(x)...)
}

// fill computes the batches that fit the memory limit.
func (in *Inputs) fill(ctx context.Context) (*Inputs, error) {
	if err := in.st.usable(); err != nil {
		in.Close()
		return nil, err
	}
	in.moves = in.st.moves
	in.kept = make([]*tensors.Tensor, len(in.st.batches))
	left := in.m.opts.memory
	for i, b := range in.st.batches {
		size := 4 * int64(b.windows*in.st.lengths[b.first]) * int64(in.n)
		if in.n == 0 || size > left {
			break
		}
		left -= size
		err := in.st.hidden.Use(i, func(x *tensors.Tensor) (err error) {
			in.kept[i], err = in.compute(ctx, i, x)
			return err
		})
		if err != nil {
			in.Close()
			return nil, err
		}
	}
	return in, nil
}

// N returns the number of channels, 0 where the layer has no such block.
func (in *Inputs) N() int { return in.n }

// Close frees the inputs.
func (in *Inputs) Close() {
	free(in.kept...)
	in.kept = nil
	if in.release != nil {
		in.release()
		in.release = nil
	}
}

// use calls f with the inputs of a batch, given the states they come from.
func (in *Inputs) use(ctx context.Context, at int, x *tensors.Tensor, f func(t *tensors.Tensor) error) error {
	if t := in.kept[at]; t != nil {
		return f(t)
	}
	t, err := in.compute(ctx, at, x)
	if err != nil {
		return err
	}
	defer free(t)
	return f(t)
}

// each calls f with the inputs of every batch in turn.
func (in *Inputs) each(ctx context.Context, f func(at int, t *tensors.Tensor) error) error {
	if err := in.usable(); err != nil {
		return err
	}
	for i := range in.kept {
		err := in.st.hidden.Use(i, func(x *tensors.Tensor) error {
			return in.use(ctx, i, x, func(t *tensors.Tensor) error { return f(i, t) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (in *Inputs) usable() error {
	if in.release == nil {
		return ErrClosed
	}
	if err := in.st.usable(); err != nil {
		return err
	}
	if in.moves != in.st.moves || in.other != nil && in.otherMoves != in.other.moves {
		return ErrStale
	}
	if in.other != nil {
		return in.other.usable()
	}
	return nil
}

// Values copies the inputs of a window to the host, [tokens, n].
func (in *Inputs) Values(ctx context.Context, window int) ([]float32, error) {
	if err := in.usable(); err != nil {
		return nil, err
	}
	if in.n == 0 {
		return nil, nil
	}
	at, i := in.st.find(window)
	var out []float32
	err := in.st.hidden.Use(at, func(x *tensors.Tensor) error {
		return in.use(ctx, at, x, func(t *tensors.Tensor) (err error) {
			out, err = in.m.dev.fetch(t)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return part(out, in.st.batches[at], i), nil
}

// AddAttention passes st through the attention of a layer: to every state it adds the kept columns of in times the W_O of s,
// original or re-fitted, and the output bias. in must come from AttentionInputs on the same states; it is stale afterwards and
// must still be closed.
func (m *Model) AddAttention(ctx context.Context, layer int, s *Subnet, in *Inputs, st *States) error {
	if err := m.checkAdd(layer, subnet.Attention, s, in, st); err != nil {
		return err
	}
	b := s.attention[layer]
	out := output{bias: b.w.oBias, post: b.w.attnPost}
	if b.empty() {
		return m.addAll(ctx, in, out, nil, st)
	}
	if b.refitInner { // in was computed with the original norm
		return st.advance(func(at int, x *tensors.Tensor) (*tensors.Tensor, error) {
			return m.passAttention(ctx, b, x, st.batches[at].windows)
		})
	}
	if out.w = b.w.o; out.w == m.layers[layer].o {
		return m.addAll(ctx, in, out, nil, st)
	}
	dense := m.layOutHeads(m.geo.Layers[layer], s.masks.Layer(layer), s.masks.OColumns(layer)).o
	return m.addAll(ctx, in, out, dense, st)
}

// AddMLP passes st through the MLP of a layer, as AddAttention does through its attention.
func (m *Model) AddMLP(ctx context.Context, layer int, s *Subnet, in *Inputs, st *States) error {
	if err := m.checkAdd(layer, subnet.MLP, s, in, st); err != nil {
		return err
	}
	b := s.mlp[layer]
	out := output{bias: b.w.downBias, post: b.w.mlpPost}
	if b.width == 0 {
		return m.addAll(ctx, in, out, nil, st)
	}
	if b.refitInner { // in was computed with the original W_U and norm
		return st.advance(func(_ int, x *tensors.Tensor) (*tensors.Tensor, error) { return m.passMLP(ctx, b, x) })
	}
	if out.w = b.w.down; out.w == m.layers[layer].down || b.width == in.n && s.masks.Layer(layer).Channels.IsFull() {
		return m.addAll(ctx, in, out, nil, st)
	}
	return m.addAll(ctx, in, out, s.masks.Layer(layer).Channels.Indices(), st)
}

func (m *Model) checkAdd(layer int, module subnet.Module, s *Subnet, in *Inputs, st *States) error {
	if s == nil {
		return fmt.Errorf("decoder: no subnet to take the weights from")
	}
	if err := m.checkStep(layer, s, st); err != nil {
		return err
	}
	if in.st != st || in.layer != layer || in.module != module {
		return fmt.Errorf("decoder: inputs of %v in layer %d do not fit %v of layer %d", in.module, in.layer, module, layer)
	}
	return in.usable()
}

// output maps the inputs of a block's last matrix to its output: times w, plus bias, normalised with the gains of post. Each may
// be nil.
type output struct{ w, bias, post *weights.Weight }

// addAll adds the output for the inputs to every state. Where spread is not nil, column i of w belongs to column spread[i] of the
// inputs; further columns are padding.
func (m *Model) addAll(ctx context.Context, in *Inputs, o output, spread []int, st *States) error {
	if o.w == nil {
		return st.advance(func(_ int, x *tensors.Tensor) (*tensors.Tensor, error) { return m.addBias(ctx, x, o.bias, o.post) })
	}
	var args []*tensors.Tensor
	direct := o.w
	if spread != nil {
		t, err := m.spread(o.w, spread, in.n)
		if err != nil {
			return err
		}
		defer free(t)
		args, direct = append(args, t), nil
	}
	h, err := m.weights.Hold(direct, o.bias, o.post)
	if err != nil {
		return err
	}
	defer h.Release()
	args = h.With(args...)
	shape := m.mlpShape(o.bias) // attention is the same from its last matrix on
	return st.advance(func(i int, x *tensors.Tensor) (*tensors.Tensor, error) {
		var out *tensors.Tensor
		err := in.use(ctx, i, x, func(t *tensors.Tensor) (err error) {
			out, err = m.dev.run1(ctx, fmt.Sprintf("add %+v", shape), func(in []*graph.Node) *graph.Node {
				bias, post := shape.split(in[3:])
				return shape.add(in[0], in[1], in[2], bias, post)
			}, append([]*tensors.Tensor{x, t}, args...)...)
			return err
		})
		return out, err
	})
}

// spread returns a matrix of n columns of which column columns[i] is column i of w and the others are zeros.
func (m *Model) spread(w *weights.Weight, columns []int, n int) (*tensors.Tensor, error) {
	rows, width := w.Dims[0], w.Dims[1]
	out := make([]float32, rows*n)
	err := m.weights.Read(w, func(data []float32) {
		for r := range rows {
			for i, c := range columns {
				if c >= 0 {
					out[r*n+c] = data[r*width+i]
				}
			}
		}
	})
	if err != nil {
		return nil, err
	}
	return m.dev.upload(out, rows, n)
}
