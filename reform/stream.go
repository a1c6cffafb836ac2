package reform

import (
	"context"
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/search/importance"
)

// stream is calibration text on its way through the layers: as the subnet has it and, where a goal needs it, as the
// dense model has it.
type stream struct {
	m     *decoder.Model
	goal  Goal
	own   *decoder.States
	dense *decoder.States // nil where no goal needs it
}

func newStream(ctx context.Context, m *decoder.Model, windows [][]int32, goal Goal) (*stream, error) {
	own, err := m.NewStates(ctx, windows)
	if err != nil {
		return nil, err
	}
	s := &stream{m: m, goal: goal, own: own}
	if goal != Own {
		if s.dense, err = own.Clone(ctx); err != nil {
			own.Close()
			return nil, err
		}
	}
	return s, nil
}

func (s *stream) close() {
	s.own.Close()
	if s.dense != nil {
		s.dense.Close()
	}
}

// innerInputs are the statistics of what enters the matrices before a module's output matrix. The stream stands before the
// module.
func (s *stream) innerInputs(ctx context.Context, layer int, module subnet.Module) (importance.Inputs, error) {
	in, err := s.m.NormedInputs(ctx, layer, module, s.own)
	if err != nil {
		return importance.Inputs{}, err
	}
	defer in.Close()
	mo, err := in.Moments(ctx)
	if err != nil {
		return importance.Inputs{}, err
	}
	return asInputs(mo), nil
}

// tap is what enters the output matrix of one module on one stream.
type tap struct {
	s      *stream
	layer  int
	module subnet.Module
	own    *decoder.Inputs
	dense  *decoder.Inputs // nil where the goal needs none
	passed bool            // the dense stream stands behind the module
}

func inputs(ctx context.Context, m *decoder.Model, layer int, module subnet.Module, sub *decoder.Subnet, st *decoder.States) (*decoder.Inputs, error) {
	if module == subnet.Attention {
		return m.AttentionInputs(ctx, layer, sub, st)
	}
	return m.MLPInputs(ctx, layer, sub, st)
}

func add(ctx context.Context, m *decoder.Model, layer int, module subnet.Module, sub *decoder.Subnet, in *decoder.Inputs, st *decoder.States) error {
	if module == subnet.Attention {
		return m.AddAttention(ctx, layer, sub, in, st)
	}
	return m.AddMLP(ctx, layer, sub, in, st)
}

// tap computes the inputs of a module's output matrix. Of sub the masks of this layer's query and key channels matter.
func (s *stream) tap(ctx context.Context, layer int, module subnet.Module, sub *decoder.Subnet) (*tap, error) {
	t := &tap{s: s, layer: layer, module: module}
	var err error
	if t.own, err = inputs(ctx, s.m, layer, module, sub, s.own); err != nil {
		return nil, err
	}
	if s.goal == DenseOutput {
		if t.dense, err = inputs(ctx, s.m, layer, module, nil, s.dense); err != nil {
			t.own.Close()
			return nil, err
		}
	}
	return t, nil
}

func (t *tap) close() {
	t.own.Close()
	if t.dense != nil {
		t.dense.Close()
	}
}

// target gathers what the output matrix w [out, in] is to reproduce. For the goal DenseState it moves the dense stream past
// the module.
func (t *tap) target(ctx context.Context, r Recipe, w []float32, out int, dense *decoder.Subnet) (Target, error) {
	own := t.own
	if r.relative() {
		var err error
		if own, err = t.own.Relative(ctx); err != nil {
			return Target{}, err
		}
		defer own.Close()
	}
	mo, err := own.Moments(ctx)
	if err != nil {
		return Target{}, err
	}
	target := Target{Gram: mo.H, Mean: mo.Mean, Tokens: mo.Tokens}
	if r.Goal == Own {
		return target, nil
	}
	wanted, release, err := t.wanted(ctx, r, dense)
	if err != nil {
		return Target{}, err
	}
	defer release()
	cross, err := own.CrossMoments(ctx, wanted)
	if err != nil {
		return Target{}, err
	}
	w0 := linalg.Widen(w)
	second := r.Goal == DenseOutput || r.Solve.Bias // moments of what is wanted beside its energy
	target.complete(Problem{Out: out, In: mo.N}, w0, second)
	other := Target{Cross: cross.H, Energy: cross.Energy}
	if second {
		y, err := wanted.Moments(ctx)
		if err != nil {
			return Target{}, err
		}
		other.OutMean = y.Mean
		if r.Goal == DenseOutput { // the dense module's outputs are w times its inputs
			other = Target{
				Cross:   linalg.Product(out, y.N, mo.N, w0, cross.H),
				Energy:  linalg.Dot(linalg.Product(out, y.N, y.N, w0, y.H), w0),
				OutMean: linalg.ProductT(out, 1, y.N, w0, y.Mean),
			}
		}
	}
	return target.toward(r.share(), other, w0), nil
}

// wanted is what the dense stream says of the outputs: its own inputs of the matrix, or what the subnet's states lack.
// release closes what was made for it.
func (t *tap) wanted(ctx context.Context, r Recipe, dense *decoder.Subnet) (in *decoder.Inputs, release func(), err error) {
	if r.Goal == DenseOutput {
		return t.dense, func() {}, nil
	}
	if err := t.advanceDense(ctx, dense); err != nil {
		return nil, nil, err
	}
	lack, err := t.s.m.Difference(ctx, t.s.dense, t.s.own)
	if err != nil || !r.relative() {
		return lack, func() { lack.Close() }, err
	}
	if in, err = lack.Relative(ctx); err != nil {
		lack.Close()
		return nil, nil, err
	}
	return in, func() { in.Close(); lack.Close() }, nil
}

// toward is the target of outputs that are (1 − share)·own + share·other, w0 giving the own ones.
func (t Target) toward(share float64, other Target, w0 []float64) Target {
	both := linalg.Dot(other.Cross, w0)
	t.Energy = (1-share)*(1-share)*t.Energy + share*share*other.Energy + 2*share*(1-share)*both
	t.Cross, t.OutMean = mix(other.Cross, t.Cross, share), mix(other.OutMean, t.OutMean, share)
	return t
}

// advance moves the stream past the module.
func (t *tap) advance(ctx context.Context, sub, dense *decoder.Subnet) error {
	if err := t.advanceDense(ctx, dense); err != nil {
		return err
	}
	return add(ctx, t.s.m, t.layer, t.module, sub, t.own, t.s.own)
}

// advanceDense moves the dense stream past the module, once.
func (t *tap) advanceDense(ctx context.Context, dense *decoder.Subnet) error {
	if t.s.dense == nil || t.passed {
		return nil
	}
	t.passed = true
	if t.dense == nil {
		return t.s.m.AdvanceBlock(ctx, t.layer, t.module, dense, t.s.dense)
	}
	return add(ctx, t.s.m, t.layer, t.module, dense, t.dense, t.s.dense)
}

// columns is how many columns the output matrix of a module has.
func columns(g *subnet.Geometry, layer int, module subnet.Module) int {
	if module == subnet.Attention {
		return g.Layers[layer].Heads * g.HeadDim
	}
	return g.Layers[layer].FFN
}

// outputName is the name of a module's output matrix, innerNames those of the matrices before it.
func outputName(module subnet.Module) string {
	if module == subnet.Attention {
		return "o"
	}
	return "down"
}

func innerNames(m *decoder.Model, module subnet.Module) []string {
	switch {
	case module == subnet.Attention:
		return []string{"q", "k", "v"}
	case m.Config().Ungated:
		return []string{"up"}
	}
	return []string{"gate", "up"}
}

// newBlock reads the weights of a module; statistics are for the caller to fill in. The inner matrices, which only some
// methods look at, are read when inner is set.
func newBlock(m *decoder.Model, layer int, module subnet.Module, inner bool) (*importance.Block, error) {
	b := &importance.Block{Name: moduleName(layer, module), Module: module, HeadDim: m.Config().HeadDim, Layer: m.Geometry().Layers[layer]}
	var err error
	if b.Output, err = matrix(m, layer, outputName(module)); err != nil {
		return nil, err
	}
	if !inner {
		return b, nil
	}
	for _, name := range innerNames(m, module) {
		w, err := matrix(m, layer, name)
		if err != nil {
			return nil, err
		}
		b.Inner = append(b.Inner, w)
	}
	return b, nil
}

func matrix(m *decoder.Model, layer int, name string) (importance.Matrix, error) {
	w, dims, err := m.Weights(layer, name)
	if err != nil {
		return importance.Matrix{}, err
	}
	return importance.Matrix{Out: dims[0], In: dims[1], Data: w}, nil
}

func asInputs(mo *decoder.Moments) importance.Inputs {
	return importance.Inputs{N: mo.N, Gram: mo.H, Mean: mo.Mean, Var: mo.Var}
}

// split divides windows into those to fit on and those to choose ridges on, every n-th of the latter so that both are
// from all over the text.
func split(windows [][]int32, share float64, lambdas int) (fit, held [][]int32) {
	if share == 0 {
		share = 0.25
	}
	count := int(share * float64(len(windows)))
	if lambdas < 2 || count < 1 || len(windows) < 4 {
		return windows, nil
	}
	every := len(windows) / count
	for i, w := range windows {
		if i%every == every-1 && len(held) < count {
			held = append(held, w)
		} else {
			fit = append(fit, w)
		}
	}
	return fit, held
}

// checkWindows refuses text that says nothing.
func checkWindows(windows [][]int32) (tokens int, err error) {
	for i, w := range windows {
		if len(w) < 2 {
			return 0, fmt.Errorf("window %d has %d tokens: %w", i, len(w), ErrText)
		}
		tokens += len(w)
	}
	if tokens == 0 {
		return 0, ErrText
	}
	return tokens, nil
}

// named gives an error from a module its place, unless it has one.
func named(layer int, module subnet.Module, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%s: %w", moduleName(layer, module), err)
}
