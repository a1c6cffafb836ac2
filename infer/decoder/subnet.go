package decoder

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder/weights"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// ErrGeometry is returned for masks of another geometry than the model's.
var ErrGeometry = errors.New("decoder: masks of another model")

// Subnet is a subnet of a model with its weights gathered to the cut shapes on the device. It is immutable. Subnets
// share equal blocks.
type Subnet struct {
	model     *Model
	masks     subnet.Masks
	attention []*attentionBlock
	mlp       []*mlpBlock
}

// Subnet gathers the weights of masks and re-fits. The caller must Close it.
func (m *Model) Subnet(ctx context.Context, spec gguf.Subnet) (*Subnet, error) {
	if err := spec.Masks.Validate(); err != nil {
		return nil, err
	}
	if !spec.Masks.Geometry().Equal(&m.geo) {
		return nil, ErrGeometry
	}
	if spec.Refit != nil && len(spec.Refit) != len(m.layers) {
		return nil, fmt.Errorf("decoder: %d re-fits for %d layers", len(spec.Refit), len(m.layers))
	}
	s := &Subnet{model: m, masks: spec.Masks}
	for i := range m.layers {
		var refit gguf.Refit
		if spec.Refit != nil {
			refit = spec.Refit[i]
		}
		if err := s.add(ctx, i, refit); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// add appends the blocks of layer i.
func (s *Subnet) add(ctx context.Context, i int, refit gguf.Refit) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a, err := s.model.cutAttention(i, s.masks, refit)
	if err != nil {
		return err
	}
	s.attention = append(s.attention, a)
	f, err := s.model.cutMLP(i, s.masks.Layer(i), refit)
	if err != nil {
		return err
	}
	s.mlp = append(s.mlp, f)
	return nil
}

// Dense returns the subnet that keeps everything. It costs no memory. The caller must Close it.
func (m *Model) Dense() *Subnet {
	s := &Subnet{model: m, masks: subnet.Dense(&m.geo)}
	for i := range m.layers {
		m.attention[i].Retain()
		m.mlp[i].Retain()
		s.attention = append(s.attention, m.attention[i])
		s.mlp = append(s.mlp, m.mlp[i])
	}
	return s
}

// Masks returns the units that the subnet keeps.
func (s *Subnet) Masks() subnet.Masks { return s.masks }

// WithLayer returns the subnet with layer i replaced; all other layers are shared. The caller must Close it.
func (s *Subnet) WithLayer(ctx context.Context, i int, l subnet.Layer, refit gguf.Refit) (*Subnet, error) {
	if err := s.model.checkLayer(i); err != nil {
		return nil, err
	}
	masks := s.masks.With(i, l)
	if err := masks.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a, err := s.model.cutAttention(i, masks, refit)
	if err != nil {
		return nil, err
	}
	f, err := s.model.cutMLP(i, masks.Layer(i), refit)
	if err != nil {
		a.Release()
		return nil, err
	}
	return s.with(masks, i, a, f), nil
}

// WithMatrices returns the subnet with matrices of layer i replaced, by the names of [Model.Weights] and with the extents there. The layer must
// be the dense model's; all other layers are shared. The caller must Close it.
func (s *Subnet) WithMatrices(ctx context.Context, i int, by map[string][]float32) (*Subnet, error) {
	m := s.model
	if err := errors.Join(m.checkLayer(i), ctx.Err()); err != nil {
		return nil, err
	}
	a, f := s.attention[i], s.mlp[i]
	if a != m.attention[i] || f != m.mlp[i] {
		return nil, fmt.Errorf("decoder: layer %d is cut: only matrices of dense layers can be replaced", i)
	}
	used := 0
	replace := func(g *gathering, names map[string]**weights.Weight) bool {
		before := used
		for name, at := range names {
			data, ok := by[name]
			if !ok || g.err != nil {
				continue
			}
			own := *at
			if own == nil || len(data) != own.Numbers() {
				g.err = fmt.Errorf("decoder: layer %d: %d numbers do not replace matrix %q", i, len(data), name)
				continue
			}
			if name == "q" || name == "k" {
				data = slices.Clone(data)
				permuteHeads(data, own.Dims[1], m.config.HeadDim, m.order)
			}
			*at = g.keep(data, own.Dims...)
			used++
		}
		return used > before || g.err != nil
	}
	g := &gathering{m: m, layer: i}
	attention := &attentionBlock{shape: a.shape, pairs: a.pairs, local: a.local, refitInner: true, w: a.w}
	if w := &attention.w; replace(g, map[string]**weights.Weight{"q": &w.q, "k": &w.k, "v": &w.v, "o": &w.o}) {
		if err := g.finish(&attention.Block); err != nil {
			return nil, err
		}
		a = attention
	} else {
		a.Retain()
	}
	g = &gathering{m: m, layer: i}
	mlp := &mlpBlock{width: f.width, refitInner: true, w: f.w}
	if w := &mlp.w; replace(g, map[string]**weights.Weight{"gate": &w.gate, "up": &w.up, "down": &w.down}) {
		if err := g.finish(&mlp.Block); err != nil {
			a.Release()
			return nil, err
		}
		f = mlp
	} else {
		f.Retain()
	}
	n := s.with(s.masks, i, a, f)
	if used != len(by) {
		n.Close()
		return nil, fmt.Errorf("decoder: layer %d has not all of %d matrices to replace", i, len(by))
	}
	return n, nil
}

// WithModule returns the subnet with one module of layer i from another subnet of the same model. It costs no memory: all blocks
// are shared. The caller must Close it.
func (s *Subnet) WithModule(i int, module subnet.Module, from *Subnet) (*Subnet, error) {
	if err := s.model.checkLayer(i); err != nil {
		return nil, err
	}
	if from.model != s.model {
		return nil, ErrGeometry
	}
	l, a, f := s.masks.Layer(i), s.attention[i], s.mlp[i]
	if module == subnet.Attention {
		o := from.masks.Layer(i)
		l.Heads, l.QK, l.VO, a = o.Heads, o.QK, o.VO, from.attention[i]
	} else {
		l.Channels, f = from.masks.Layer(i).Channels, from.mlp[i]
	}
	a.Retain()
	f.Retain()
	return s.with(s.masks.With(i, l), i, a, f), nil
}

// with returns a copy of s that owns a reference to all its blocks, where a and f of layer i are retained already.
func (s *Subnet) with(masks subnet.Masks, i int, a *attentionBlock, f *mlpBlock) *Subnet {
	n := &Subnet{model: s.model, masks: masks}
	for j := range s.attention {
		if j == i {
			n.attention, n.mlp = append(n.attention, a), append(n.mlp, f)
			continue
		}
		s.attention[j].Retain()
		s.mlp[j].Retain()
		n.attention, n.mlp = append(n.attention, s.attention[j]), append(n.mlp, s.mlp[j])
	}
	return n
}

// Close frees the weights that no other subnet shares. The subnet must not be in use.
func (s *Subnet) Close() {
	for _, a := range s.attention {
		a.Release()
	}
	for _, f := range s.mlp {
		f.Release()
	}
	s.attention, s.mlp = nil, nil
}

// check returns an error for a subnet that is closed or of another model.
func (m *Model) check(s *Subnet) error {
	if s.model != m {
		return ErrGeometry
	}
	if len(s.attention) != len(m.layers) {
		return ErrClosed
	}
	return nil
}
