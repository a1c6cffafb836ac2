package oneshot

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

// compensateInner returns, by the names of tensors, the matrices before output matrices that get another type, so changed that their rounding has less
// error in their outputs: see [compensated]. The inputs are those of the dense model. All rows are there, also those of units that are dropped,
// since rows do not depend on each other.
func (k *sizing) compensateInner(ctx context.Context) (map[string][]float32, error) {
	p, err := newPass(ctx, k.m, k.windows)
	if err != nil {
		return nil, err
	}
	defer p.close()
	layers := len(k.m.Geometry().Layers)
	out := make(map[string][]float32)
	err = p.run(ctx, visitor{
		needs: importance.Needs{Weights: true, Inputs: true},
		skip:  func(layer int, module subnet.Module) bool { return !k.roundsInner(layer, module) },
		module: func(layer int, module subnet.Module, b *importance.Block) error {
			return k.compensateModule(layer, module, b, p.st.Tokens(), out)
		},
		layer: func(layer int, _ float64) error {
			k.config.report(Event{Phase: Rounding, Done: layer + 1, Total: layers})
			return ctx.Err()
		},
	})
	return out, err
}

// roundsInner reports whether a matrix of a module before its output matrix gets another type.
func (k *sizing) roundsInner(layer int, module subnet.Module) bool {
	for _, name := range k.m.InnerMatrices(module) {
		if _, ok := k.types[tensorName(layer, name)]; ok {
			return true
		}
	}
	return false
}

// compensateModule adds the matrices of one module.
func (k *sizing) compensateModule(layer int, module subnet.Module, b *importance.Block, tokens int, to map[string][]float32) error {
	n := b.In.N
	factor, err := inverseFactor(b.Algebra, shrunk(b.In.Gram, n, tokens), n)
	if err != nil {
		return fmt.Errorf("compensation: %w", err)
	}
	for i, name := range k.m.InnerMatrices(module) {
		tensor := tensorName(layer, name)
		t, ok := k.types[tensor]
		if !ok || t.Block() == 1 || t.Block() >= n || n%t.Block() != 0 {
			continue
		}
		w := b.Inner[i]
		if to[tensor], err = compensated(t, w.Data, w.Out, factor, k.size.Losses.Importance[tensor]); err != nil {
			return err
		}
	}
	return nil
}

// keepInner puts the rows that a subnet keeps of matrices into its re-fitted weights. These take over the memory of the matrices, whose
// contents change.
func keepInner(s *gguf.Subnet, inner map[string][]float32) {
	if len(inner) == 0 {
		return
	}
	if s.Refit == nil {
		s.Refit = make([]gguf.Refit, s.Masks.Layers())
	}
	hidden := s.Masks.Geometry().Hidden
	for i := range s.Refit {
		r, l := &s.Refit[i], s.Masks.Layer(i)
		take := func(name string, rows []int, to *[]float32) {
			if w := inner[tensorName(i, name)]; w != nil && len(rows) > 0 {
				for at, row := range rows { // in increasing order
					copy(w[at*hidden:(at+1)*hidden], w[row*hidden:(row+1)*hidden])
				}
				*to = w[:len(rows)*hidden]
			}
		}
		take("gate", l.Channels.Indices(), &r.WG)
		take("up", l.Channels.Indices(), &r.WU)
		if l.QK == nil && l.VO == nil {
			take("q", s.Masks.QRows(i), &r.WQ)
			take("k", s.Masks.KVRows(i), &r.WK)
			take("v", s.Masks.KVRows(i), &r.WV)
		}
	}
}
