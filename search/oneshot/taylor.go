package oneshot

import (
	"context"
	"errors"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/search/importance"
)

// Gradients need the hidden state before every block in memory, so they are computed on at most this much text.
const (
	gradientWindows = 8
	gradientTokens  = 512
)

// gradientText returns the beginnings of windows spread over the text.
func gradientText(windows [][]int32) [][]int32 {
	n := min(len(windows), gradientWindows)
	out := make([][]int32, n)
	for i := range out {
		w := windows[i*len(windows)/n]
		out[i] = w[:min(len(w), gradientTokens)]
	}
	return out
}

// addTaylor ranks the units of all layers by the first-order change of the loss.
func (s *Survey) addTaylor(ctx context.Context, m *decoder.Model, windows [][]int32, progress func(Event)) error {
	done := 0
	text := gradientText(windows)
	err := m.Gradients(ctx, text, func(layer int, gradients map[string][]float32) error {
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			if m.Geometry().OutputColumns(layer, module) == 0 {
				continue
			}
			b, err := newBlock(m, layer, module, true)
			if err != nil {
				return reform.ModuleError(layer, module, err)
			}
			b.Output.Gradient = gradients[m.OutputMatrix(module)]
			for i, name := range m.InnerMatrices(module) {
				b.Inner[i].Gradient = gradients[name]
			}
			r, err := importance.Rank(importance.Taylor, b, units(module), importance.Options{})
			if err != nil {
				return err
			}
			s.Layers[layer].Module(module).add(importance.Taylor, r)
		}
		done++
		progress(Event{Phase: Measuring, Done: done, Total: len(s.Layers)})
		return nil
	})
	if errors.Is(err, linalg.ErrNotFinite) { // gradients pass from the last layer to the first and spread it to all
		return notFinite(ctx, m, text)
	}
	return err
}
