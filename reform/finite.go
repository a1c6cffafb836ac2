package reform

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// notFinite says where the dense model's hidden states stop being finite numbers on some text. A loss that is NaN does
// not tell: it is asked when one was seen.
func notFinite(ctx context.Context, m *decoder.Model, windows [][]int32) error {
	st, err := newStream(ctx, m, windows, Own)
	if err != nil {
		return err
	}
	defer st.close()
	dense := m.Dense()
	defer dense.Close()
	if err := st.finite(); err != nil {
		return fmt.Errorf("embedding: %w", err)
	}
	for layer := range m.Geometry().Layers {
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			if columns(m.Geometry(), layer, module) == 0 {
				continue
			}
			if err := st.pass(ctx, layer, module, dense); err != nil {
				return named(layer, module, err)
			}
			if err := st.finite(); err != nil {
				return named(layer, module, err)
			}
		}
	}
	return fmt.Errorf("output: %w", linalg.ErrNotFinite)
}

// pass moves the stream past a module.
func (s *stream) pass(ctx context.Context, layer int, module subnet.Module, sub *decoder.Subnet) error {
	t, err := s.tap(ctx, layer, module, sub)
	if err != nil {
		return err
	}
	defer t.close()
	return t.advance(ctx, sub, nil)
}

// finite checks the hidden states of the subnet.
func (s *stream) finite() error {
	for window := range s.own.Windows() {
		hidden, err := s.own.Hidden(window)
		if err != nil {
			return err
		}
		bad := func(v float32) bool { return math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) }
		if i := slices.IndexFunc(hidden, bad); i >= 0 {
			return fmt.Errorf("hidden state of token %d in window %d is %v: %w", i/s.m.Geometry().Hidden, window, hidden[i], linalg.ErrNotFinite)
		}
	}
	return nil
}
