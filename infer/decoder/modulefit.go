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

// ModuleProblem is the error of a module of a subnet as a function of all its matrices: with y what the module adds to the residual stream,
//
//	Σ w²·‖target − y‖² / Σ w²·‖target‖²
//
// over the tokens of some windows. w is 1, or where the target is relative the reciprocal of the root mean square of the token's state before the
// module. The matrices are W_G, W_U and W_D of the kept channels or W_Q, W_K, W_V and W_O of the kept heads; norms and biases stay. The numbers of
// the problem are added to the matrices, after the products of [ModuleProblem.Precondition].
type ModuleProblem struct {
	m        *Model
	layer    int
	module   subnet.Module
	masks    subnet.Masks
	a        *attentionBlock // one of the two
	f        *mlpBlock
	parts    []matrixPart
	n        int
	own      *States
	moves    int
	relative bool
	targets  *weights.Store // by batch, [windows·tokens, hidden]
}

// matrixPart is where the numbers of a matrix or bias are.
type matrixPart struct {
	name string // as in Model.Weights
	w    *weights.Weight
	at   int
	by   *tensors.Tensor // [columns, columns], see Precondition; nil for the identity
}

// A ModuleTarget is what a module should add to the residual stream: (1 − Blend) times what the module of Reference adds to the states of the subnet, plus
// Blend times the difference from those states to States after the module.
type ModuleTarget struct {
	Reference *Model
	States    *States // may be nil where Blend is 0
	Blend     float64
	Relative  bool
}

// NewModuleProblem makes the problem for a module of a subnet with these masks and re-fitted weights, on states before the module. The caller must Close it.
func (m *Model) NewModuleProblem(ctx context.Context, layer int, module subnet.Module, masks subnet.Masks, refit gguf.Refit, own *States, t ModuleTarget) (_ *ModuleProblem, err error) {
	if err := m.checkStep(layer, nil, own); err != nil {
		return nil, err
	}
	p := &ModuleProblem{m: m, layer: layer, module: module, masks: masks, own: own, moves: own.moves, relative: t.Relative}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if module == subnet.Attention {
		if p.a, err = m.cutAttention(layer, masks, refit); err != nil {
			return nil, err
		}
	} else if p.f, err = m.cutMLP(layer, masks.Layer(layer), refit); err != nil {
		return nil, err
	}
	p.addInner()
	p.addOutput()
	return p, p.fill(ctx, t)
}

// addInner adds the matrices before the output matrix, addOutput that.
func (p *ModuleProblem) addInner() {
	if p.module == subnet.Attention {
		p.add("q", p.a.w.q)
		p.add("k", p.a.w.k)
		p.add("v", p.a.w.v)
		return
	}
	p.add("gate", p.f.w.gate)
	p.add("up", p.f.w.up)
}

func (p *ModuleProblem) addOutput() {
	if p.module == subnet.Attention {
		p.add("o", p.a.w.o)
		return
	}
	p.add("down", p.f.w.down)
}

func (p *ModuleProblem) add(name string, w *weights.Weight) {
	if w == nil {
		return
	}
	p.parts = append(p.parts, matrixPart{name: name, w: w, at: p.n})
	p.n += w.Numbers()
}

// fill computes the targets.
func (p *ModuleProblem) fill(ctx context.Context, t ModuleTarget) error {
	m := p.m
	p.targets = weights.NewStore(memory{m.dev}, len(p.own.batches), m.opts.memory, m.opts.dir)
	dense := t.Reference.Dense()
	defer dense.Close()
	for at, b := range p.own.batches {
		err := p.own.hidden.Use(at, func(x *tensors.Tensor) error {
			args := []*tensors.Tensor{x}
			if t.Blend < 1 {
				y, err := t.Reference.passModule(ctx, dense, p.layer, p.module, x, b.windows)
				if err != nil {
					return err
				}
				if y != x {
					defer free(y)
				}
				args = append(args, y)
			}
			target := func(args ...*tensors.Tensor) error {
				y, err := m.dev.run1(ctx, fmt.Sprintf("target %g", t.Blend), func(in []*Node) *Node {
					sum := (*Node)(nil)
					if t.Blend < 1 {
						sum = MulScalar(Sub(in[1], in[0]), 1-t.Blend)
						in = slices.Delete(slices.Clone(in), 1, 2)
					}
					if t.Blend > 0 {
						d := MulScalar(Sub(in[1], in[0]), t.Blend)
						if sum == nil {
							return d
						}
						sum = Add(sum, d)
					}
					return sum
				}, args...)
				if err != nil {
					return err
				}
				return p.targets.Put(at, y)
			}
			if t.Blend == 0 {
				return target(args...)
			}
			return t.States.hidden.Use(at, func(d *tensors.Tensor) error { return target(append(args, d)...) })
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// passModule returns x after a module of s.
func (m *Model) passModule(ctx context.Context, s *Subnet, layer int, module subnet.Module, x *tensors.Tensor, windows int) (*tensors.Tensor, error) {
	if module == subnet.Attention {
		return m.passAttention(ctx, s.attention[layer], x, windows)
	}
	return m.passMLP(ctx, s.mlp[layer], x)
}

// Close frees the problem. The states stay open.
func (p *ModuleProblem) Close() {
	if p.a != nil {
		p.a.Release()
	}
	if p.f != nil {
		p.f.Release()
	}
	if p.targets != nil {
		p.targets.Close()
	}
	for _, part := range p.parts {
		free(part.by)
	}
	p.a, p.f, p.targets = nil, nil, nil
}

// Len returns how many numbers the matrices have.
func (p *ModuleProblem) Len() int { return p.n }

// Parts returns where each matrix begins and ends among the numbers, by name.
func (p *ModuleProblem) Parts() (names []string, bounds [][2]int) {
	for _, part := range p.parts {
		names, bounds = append(names, part.name), append(bounds, [2]int{part.at, part.at + part.w.Numbers()})
	}
	return names, bounds
}

// Precondition has the numbers of a matrix multiplied by by [columns, columns] before they are added to it.
func (p *ModuleProblem) Precondition(name string, by []float32) error {
	for i := range p.parts {
		part := &p.parts[i]
		if part.name != name {
			continue
		}
		n := part.w.Dims[1]
		if len(by) != n*n {
			return fmt.Errorf("decoder: %d numbers precondition %s, want %d squared", len(by), name, n)
		}
		t, err := p.m.dev.upload(by, n, n)
		if err != nil {
			return err
		}
		free(part.by)
		part.by = t
	}
	return nil
}

// matrices returns the matrices with numbers added.
func (p *ModuleProblem) matrices(values, bases, by []*Node) []*Node {
	out := make([]*Node, len(values))
	for i, v := range values {
		if p.parts[i].by != nil {
			v, by = DotGeneral(v, []int{1}, nil, by[0], []int{0}, nil), by[1:]
		}
		out[i] = Add(bases[i], v)
	}
	return out
}

// Columns returns which kept column of the module's output matrix each column of its numbers belongs to, -1 for padding.
func (p *ModuleProblem) Columns() []int {
	if p.module == subnet.Attention {
		return p.m.layOutHeads(p.m.geo.Layers[p.layer], p.masks.Layer(p.layer), p.masks.OColumns(p.layer)).refit
	}
	return pad(allOf(p.masks.Layer(p.layer).Channels.Len()), p.f.width)
}

// Start returns the matrices without the numbers that are added.
func (p *ModuleProblem) Start() ([]float32, error) {
	out := make([]float32, 0, p.n)
	for _, part := range p.parts {
		data, err := p.m.weights.Fetch(part.w)
		if err != nil {
			return nil, err
		}
		out = append(out, data...)
	}
	return out, nil
}

// Error returns the error of matrices with these numbers on some windows of the states.
func (p *ModuleProblem) Error(ctx context.Context, values []float32, windows []int) (float64, error) {
	e, _, err := p.sum(ctx, values, windows, false)
	return e, err
}

// Gradient returns the error and its gradient by the numbers.
func (p *ModuleProblem) Gradient(ctx context.Context, values []float32, windows []int) (float64, []float64, error) {
	return p.sum(ctx, values, windows, true)
}

func (p *ModuleProblem) sum(ctx context.Context, values []float32, windows []int, slope bool) (float64, []float64, error) {
	if err := p.own.usable(); err != nil {
		return 0, nil, err
	}
	if p.moves != p.own.moves {
		return 0, nil, ErrStale
	}
	if len(values) != p.n {
		return 0, nil, fmt.Errorf("decoder: %d numbers for the matrices of a module, want %d", len(values), p.n)
	}
	var tensorsOf []*tensors.Tensor
	defer func() { free(tensorsOf...) }()
	for _, part := range p.parts {
		t, err := p.m.dev.upload(values[part.at:part.at+part.w.Numbers()], part.w.Dims...)
		if err != nil {
			return 0, nil, err
		}
		tensorsOf = append(tensorsOf, t)
	}
	var sums [2]float64
	var gradient []float64
	if slope {
		gradient = make([]float64, p.n)
	}
	for _, w := range windows {
		at, i := p.own.find(w)
		b := p.own.batches[at]
		err := p.own.hidden.Use(at, func(x *tensors.Tensor) error {
			return p.targets.Use(at, func(target *tensors.Tensor) error {
				return b.only(ctx, p.m.dev, x, i, func(x *tensors.Tensor) error {
					return b.only(ctx, p.m.dev, target, i, func(target *tensors.Tensor) error {
						out, err := p.run(ctx, tensorsOf, x, target, slope)
						if err != nil {
							return err
						}
						defer free(out...)
						if err := p.m.dev.accumulate(sums[:1], out[0]); err != nil {
							return err
						}
						if err := p.m.dev.accumulate(sums[1:], out[1]); err != nil {
							return err
						}
						for j, t := range out[2:] {
							if err := p.m.dev.accumulate(gradient[p.parts[j].at:], t); err != nil {
								return err
							}
						}
						return nil
					})
				})
			})
		})
		if err != nil {
			return 0, nil, fmt.Errorf("window %d: %w", w, err)
		}
	}
	if !(sums[1] > 0) {
		return 0, gradient, nil
	}
	for i := range gradient {
		gradient[i] /= sums[1]
	}
	if slope {
		p.clearPadding(gradient)
	}
	return sums[0] / sums[1], gradient, nil
}

// clearPadding sets the derivatives by numbers of padded heads to zero: with weights of zero they have outputs that are not. Padded channels of MLPs have none.
func (p *ModuleProblem) clearPadding(gradient []float64) {
	if p.module != subnet.Attention {
		return
	}
	m := p.m
	layout := m.layOutHeads(m.geo.Layers[p.layer], p.masks.Layer(p.layer), p.masks.OColumns(p.layer))
	for i, rows := range [][]int{layout.q, layout.k, layout.v} {
		g := gradient[p.parts[i].at:]
		for r, from := range rows {
			if from < 0 {
				clear(g[r*m.geo.Hidden : (r+1)*m.geo.Hidden])
			}
		}
	}
	g, n := gradient[p.parts[3].at:], len(layout.refit)
	for c, from := range layout.refit {
		for r := 0; from < 0 && r < m.geo.Hidden; r++ {
			g[r*n+c] = 0
		}
	}
}

// run returns the sums of the error and of the target's energy over a window and, with slope, the derivatives of the first by the matrices.
func (p *ModuleProblem) run(ctx context.Context, matrices []*tensors.Tensor, x, target *tensors.Tensor, slope bool) ([]*tensors.Tensor, error) {
	m, k := p.m, len(matrices)
	finish := func(x, target, y *Node, matrices []*Node) []*Node {
		rest, energy := Square(Sub(target, Sub(y, x))), Square(target)
		if p.relative {
			w := Reciprocal(AddScalar(ReduceAndKeep(Square(x), ReduceMean, -1), m.config.NormEps))
			rest, energy = Mul(rest, w), Mul(energy, w)
		}
		loss := ReduceAllSum(rest)
		out := []*Node{loss, ReduceAllSum(energy)}
		if slope {
			out = append(out, Gradient(loss, matrices...)...)
		}
		return out
	}
	var own []*weights.Weight
	var by []*tensors.Tensor
	for i := range p.parts {
		own = append(own, p.parts[i].w)
		if p.parts[i].by != nil {
			by = append(by, p.parts[i].by)
		}
	}
	held, err := m.weights.Hold(own...)
	if err != nil {
		return nil, err
	}
	defer held.Release()
	args := append(append(append(slices.Clone(matrices), held.Tensors...), by...), target)
	n := len(by)
	split := func(in []*Node) (values, matrices, rest []*Node) {
		return in[:k], p.matrices(in[:k], in[k:2*k], in[2*k:2*k+n]), in[2*k+n:]
	}
	if p.module == subnet.MLP {
		w := &p.f.w
		h, err := m.weights.Hold(w.mlpNorm, w.upBias, w.downBias, w.mlpPost)
		if err != nil {
			return nil, err
		}
		defer h.Release()
		shape := m.mlpShape(w.downBias)
		return m.dev.run(ctx, fmt.Sprintf("error of mlp %+v %t %t %d", shape, p.relative, slope, n), func(in []*Node) []*Node {
			values, by, in := split(in)
			x := in[1]
			rest := in[3:]
			gate := by[0]
			next := by[1:]
			if shape.ungated {
				gate, next = rest[0], by
				rest = rest[1:]
			}
			bias, post := shape.split(rest)
			y := shape.add(x, shape.inner(x, in[2], gate, next[0]), next[1], bias, post)
			return finish(x, in[0], y, values)
		}, append(args, h.With(x)...)...)
	}
	inputs, h, err := m.attentionArgs(p.a, x, 1, p.a.w.o, p.a.w.oBias, p.a.w.attnPost)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	shape := p.a.shape
	return m.dev.run(ctx, fmt.Sprintf("error of attention %+v %t %t %d", shape, p.relative, slope, n), func(in []*Node) []*Node {
		values, by, in := split(in)
		x := in[1]
		q := shape.split(in[2:])
		q.q, q.k, q.v, q.o = by[0], by[1], by[2], by[3]
		return finish(x, in[0], shape.add(x, shape.attend(x, q), q), values)
	}, append(args, inputs...)...)
}
