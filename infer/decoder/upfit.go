package decoder

import (
	"context"
	"fmt"
	"slices"

	. "github.com/gomlx/gomlx/core/graph" // graphs read as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/lathe-llm/lathe/infer/decoder/weights"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// UpProblem is the least-squares problem of re-fitting the W_U of a layer's kept channels, all other weights given. The MLP's
// output is linear in W_U, so with U [kept, hidden] and y the output of the dense MLP on the same states, the error
//
//	Σ w²·‖y − W_D·(act(W_G·x̂) ⊙ U·x̂)‖² / tokens
//
// is a quadratic function whose gradients are computed window by window. w is 1, or with relative the reciprocal of the root mean
// square of the token's state.
type UpProblem struct {
	m        *Model
	in       *Inputs
	block    *mlpBlock       // the kept channels with their W_D
	down     *weights.Weight // the dense W_D
	windows  []int
	tokens   int
	kept     int
	relative bool
}

// NewUpProblem makes the problem for the kept channels of a layer, in rising order, whose output matrix is down
// [hidden, kept], on some windows of the states that in, of MLPInputs, comes from. The caller must Close it.
func (m *Model) NewUpProblem(ctx context.Context, layer int, kept subnet.Set, down []float32, in *Inputs, relative bool, windows []int) (*UpProblem, error) {
	if in.layer != layer || in.module != subnet.MLP {
		return nil, fmt.Errorf("decoder: inputs of %v in layer %d are not those of the MLP of layer %d", in.module, in.layer, layer)
	}
	if !m.geo.LinearInUp() {
		return nil, fmt.Errorf("decoder: the output of MLPs of %s is not linear in W_U", m.config.Arch)
	}
	if err := in.usable(); err != nil {
		return nil, err
	}
	l := subnet.DenseLayer(m.geo.Layers[layer])
	l.Channels = kept
	block, err := m.cutMLP(layer, l, gguf.Refit{WD: down})
	if err != nil {
		return nil, err
	}
	p := &UpProblem{m: m, in: in, block: block, down: m.layers[layer].down, windows: windows, kept: kept.Len(), relative: relative}
	for _, w := range windows {
		if w < 0 || w >= len(in.st.lengths) {
			block.Release()
			return nil, fmt.Errorf("decoder: window %d of %d", w, len(in.st.lengths))
		}
		p.tokens += in.st.lengths[w]
	}
	return p, nil
}

// Close frees the problem. The inputs stay open.
func (p *UpProblem) Close() { p.block.Release() }

// Residual returns half of the negative gradient of the error at U, [kept, hidden], and the mean over tokens of
// w²·act(W_G·x̂)² of every channel, [kept].
func (p *UpProblem) Residual(ctx context.Context, up []float32) (gradient, energy []float64, err error) {
	return p.sum(ctx, up, true)
}

// Apply returns the product of half the error's second derivative with a direction, both [kept, hidden].
func (p *UpProblem) Apply(ctx context.Context, direction []float32) ([]float64, error) {
	g, _, err := p.sum(ctx, direction, false)
	return g, err
}

func (p *UpProblem) sum(ctx context.Context, up []float32, residual bool) (gradient, energy []float64, err error) {
	hidden, width := p.m.geo.Hidden, p.block.width
	if len(up) != p.kept*hidden {
		return nil, nil, fmt.Errorf("decoder: W_U has %d numbers, want %d by %d", len(up), p.kept, hidden)
	}
	padded := up
	if width > p.kept {
		padded = make([]float32, width*hidden)
		copy(padded, up)
	}
	u, err := p.m.dev.upload(padded, width, hidden)
	if err != nil {
		return nil, nil, err
	}
	defer free(u)
	gradient, energy = make([]float64, width*hidden), make([]float64, width)
	shape, w := p.m.mlpShape(nil), &p.block.w
	name := fmt.Sprintf("up %+v %t %t", shape, p.relative, residual)
	run := func(x, mid *tensors.Tensor) error {
		dense := p.down
		if mid == nil {
			dense = nil
		}
		h, err := p.m.weights.Hold(w.mlpNorm, w.gate, w.down, dense)
		if err != nil {
			return err
		}
		defer h.Release()
		t := h.Tensors
		args := []*tensors.Tensor{x, t[0], t[1], u, t[2]}
		if mid != nil {
			args = append(args, mid, t[3])
		}
		out, err := p.m.dev.run(ctx, name, func(in []*Node) []*Node { return shape.upGradient(in, p.relative, residual) }, args...)
		if err != nil {
			return err
		}
		defer free(out...)
		if err := p.m.dev.accumulate(gradient, out[0]); err != nil {
			return err
		}
		return p.m.dev.accumulate(energy, out[1])
	}
	for at := range p.in.st.batches {
		chosen := p.chosen(at)
		if len(chosen) == 0 {
			continue
		}
		err := p.in.st.hidden.Use(at, func(x *tensors.Tensor) error {
			if !residual {
				return p.parts(ctx, at, chosen, x, nil, run)
			}
			return p.in.use(ctx, at, x, func(mid *tensors.Tensor) error { return p.parts(ctx, at, chosen, x, mid, run) })
		})
		if err != nil {
			return nil, nil, err
		}
	}
	divide(gradient, p.tokens)
	divide(energy, p.tokens)
	return gradient[:p.kept*hidden], energy[:p.kept], nil
}

// chosen returns which windows of a batch the problem has.
func (p *UpProblem) chosen(at int) []int {
	var list []int
	b := p.in.st.batches[at]
	for i := range b.windows {
		if slices.Contains(p.windows, b.first+i) {
			list = append(list, i)
		}
	}
	return list
}

// parts runs a step on the chosen windows of a batch: at once where those are all, else one at a time. mid may be nil.
func (p *UpProblem) parts(ctx context.Context, at int, chosen []int, x, mid *tensors.Tensor, run func(x, mid *tensors.Tensor) error) error {
	b := p.in.st.batches[at]
	if len(chosen) == b.windows {
		return run(x, mid)
	}
	for _, i := range chosen {
		err := b.only(ctx, p.m.dev, x, i, func(x *tensors.Tensor) error {
			if mid == nil {
				return run(x, nil)
			}
			return b.only(ctx, p.m.dev, mid, i, func(mid *tensors.Tensor) error { return run(x, mid) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// upGradient returns (W_D·r ⊙ s)ᵀ·x̂ [kept, hidden] and Σ s² [kept] over the tokens, s being act(x̂·W_Gᵀ) and both
// weighted by w². r is W_D·(s ⊙ x̂·Uᵀ), and with residual the dense MLP's output minus that. in holds the state x, the norm's
// gain, W_G, U, W_D and, with residual, the inputs of the dense W_D and that matrix.
func (f mlpShape) upGradient(in []*Node, relative, residual bool) []*Node {
	x, gate, up, down := in[0], in[2], in[3], in[4]
	xn := rmsNorm(x, in[1], f.eps)
	s := linear(xn, gate, nil)
	if f.gelu {
		s = gelu(s)
	} else {
		s = Mul(s, Sigmoid(s))
	}
	r := linear(Mul(s, linear(xn, up, nil)), down, nil)
	if residual {
		r = Sub(linear(in[5], in[6], nil), r)
	}
	square := Square(s)
	if relative {
		w := Reciprocal(AddScalar(ReduceAndKeep(Square(x), ReduceMean, -1), f.eps))
		r, square = Mul(r, w), Mul(square, w)
	}
	back := DotGeneral(r, []int{1}, nil, down, []int{0}, nil)
	return []*Node{product(Mul(s, back), xn), ReduceSum(square, 0)}
}

// RefittedInputs computes the inputs of W_D, [tokens, kept] for every window, of a layer's kept channels with the re-fitted W_U up
// [kept, hidden], from states between the layer's attention and its MLP. They are good for moments and cross moments and cannot
// be added to states. The caller must Close them.
func (m *Model) RefittedInputs(ctx context.Context, layer int, kept subnet.Set, up []float32, st *States) (*Inputs, error) {
	if err := m.checkStep(layer, nil, st); err != nil {
		return nil, err
	}
	if !m.geo.LinearInUp() {
		return nil, fmt.Errorf("decoder: the output of MLPs of %s is not linear in W_U", m.config.Arch)
	}
	hidden := m.geo.Hidden
	if len(up) != kept.Len()*hidden {
		return nil, fmt.Errorf("decoder: layer %d: re-fitted W_U has %d numbers, want %d by %d", layer, len(up), kept.Len(), hidden)
	}
	g := &gathering{m: m, layer: layer}
	dense := &m.mlp[layer].w
	gate, u := g.rows(dense.gate, kept.Indices()), g.rowsOf(up, hidden, allOf(kept.Len()))
	release := func() { m.weights.Drop(g.made...) }
	if g.err != nil {
		release()
		return nil, g.err
	}
	shape := m.mlpShape(nil)
	in := &Inputs{m: m, st: st, layer: -1, module: subnet.MLP, n: kept.Len(), release: release}
	in.compute = func(ctx context.Context, _ int, x *tensors.Tensor) (*tensors.Tensor, error) {
		h, err := m.weights.Hold(dense.mlpNorm, gate, u)
		if err != nil {
			return nil, err
		}
		defer h.Release()
		return m.dev.run1(ctx, fmt.Sprintf("inner %+v", shape), func(in []*Node) *Node {
			return shape.inner(in[0], in[1], in[2], in[3])
		}, h.With(x)...)
	}
	return in.fill(ctx)
}
