package reform_test

import (
	"math"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
)

// With a bias, the mean output of a cut module is that of the dense one, whether or not the model has a bias of its own.
func TestBiasKeepsTheMeanState(t *testing.T) {
	for _, own := range []bool{false, true} {
		recipe := gguftest.Tiny("llama")
		recipe.OutBias = own
		m := decodertest.Load(t, recipe)
		g := m.Geometry()
		windows := decodertest.Windows(10, 3, 48, g.Vocab)
		layer := subnet.DenseLayer(g.Layers[0])
		layer.Channels = subnet.Range(g.Layers[0].FFN, 0, g.Layers[0].FFN/2)
		masks := subnet.Dense(g).With(0, layer)
		for _, method := range []reform.Method{reform.None, reform.Exact} {
			s, _, err := reform.Refit(t.Context(), m, windows, masks, reform.Config{
				Recipe: reform.Recipe{Relative: true, Solve: reform.Options{Method: method, Bias: true}},
			})
			if err != nil {
				t.Fatal(err)
			}
			sub, err := m.Subnet(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			dense := m.Dense()
			defer dense.Close()
			a, b := meanState(t, m, sub, windows), meanState(t, m, dense, windows)
			for i := range a {
				if math.Abs(a[i]-b[i]) > 1e-5*(1+math.Abs(b[i])) {
					t.Errorf("own bias %v, %s: mean of channel %d is %g, want %g", own, method, i, a[i], b[i])
					break
				}
			}
		}
	}
}
