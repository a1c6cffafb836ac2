package decoder_test

import (
	"math"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestTokenGradients compares the sizes of gradients by states with central differences of the plain loops' loss.
func TestTokenGradients(t *testing.T) {
	for _, arch := range []string{"llama", "opt"} {
		f := gguftest.Open(t, gguftest.Tiny(arch))
		m, n := load(t, devices(t)["go"], f), newNaive(t, f)
		geo := m.Geometry()
		w := window(5, 4, geo.Vocab)
		got, err := m.TokenGradients(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		// loss passes states after a module through the rest of the model.
		loss := func(x [][]float64, layer int, module subnet.Module) float64 {
			if module == subnet.Attention {
				x = n.feed(layer, x)
			}
			for i := layer + 1; i < len(geo.Layers); i++ {
				x = n.feed(i, n.attend(i, x))
			}
			sum := 0.0
			for token, row := range n.scores(x)[:len(w)-1] {
				sum += logSumExp(row) - row[w[token+1]]
			}
			return sum / float64(len(w)-1)
		}
		x := n.embed(w)
		for layer := range geo.Layers {
			for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
				if module == subnet.Attention {
					x = n.attend(layer, x)
				} else {
					x = n.feed(layer, x)
				}
				if layer == 1 {
					continue // takes long
				}
				for token := range w {
					sum := 0.0
					for c := range geo.Hidden {
						const h = 1e-4
						at := x[token][c]
						x[token][c] = at + h
						up := loss(x, layer, module)
						x[token][c] = at - h
						d := (up - loss(x, layer, module)) / (2 * h)
						x[token][c] = at
						sum += d * d / float64(geo.Hidden)
					}
					want := math.Sqrt(sum)
					if have := float64(got[layer][module][token]); math.Abs(have-want) > 1e-3*want+1e-7 {
						t.Errorf("%s: layer %d %s, token %d: %g, want %g", arch, layer, module, token, have, want)
					}
				}
			}
		}
	}
}
