package oneshot

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// notFinite returns an error that names the first module of the dense model after which a hidden state of the text is NaN or
// infinite. It is for callers that have seen a loss of which that is true, and do not know the module.
func notFinite(ctx context.Context, m *decoder.Model, windows [][]int32) error {
	p, err := newPass(ctx, m, windows)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.finite(); err != nil {
		return fmt.Errorf("embedding: %w", err)
	}
	for layer := range m.Geometry().Layers {
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			if m.Geometry().OutputColumns(layer, module) == 0 {
				continue
			}
			if err := m.AdvanceBlock(ctx, layer, module, p.dense, p.st); err != nil {
				return reform.ModuleError(layer, module, err)
			}
			if err := p.finite(); err != nil {
				return reform.ModuleError(layer, module, err)
			}
		}
	}
	return fmt.Errorf("output: %w", linalg.ErrNotFinite)
}

// finite checks the hidden states.
func (p *pass) finite() error {
	for window := range p.st.Windows() {
		hidden, err := p.st.Hidden(window)
		if err != nil {
			return err
		}
		bad := func(v float32) bool { return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) }
		if i := slices.IndexFunc(hidden, bad); i >= 0 {
			return fmt.Errorf("hidden state of token %d in window %d is %v: %w", i/p.m.Geometry().Hidden, window, hidden[i], linalg.ErrNotFinite)
		}
	}
	return nil
}
