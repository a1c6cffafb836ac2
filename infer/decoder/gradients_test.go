package decoder_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// TestGradients compares derivatives with central differences of the plain loops' loss.
func TestGradients(t *testing.T) {
	tensors := map[string]string{
		"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
	}
	for _, family := range gguftest.Families() {
		t.Run(family.Name, func(t *testing.T) {
			f := gguftest.Open(t, family.Model)
			n := newNaive(t, f)
			dev := devices(t)["go"]
			m := load(t, dev, f)
			geo := m.Geometry()
			windows := [][]int32{window(5, 9, geo.Vocab), window(6, 6, geo.Vocab)}
			loss := func() float64 {
				var sum float64
				var count int
				for _, w := range windows {
					for _, v := range n.logProbs(w) {
						sum -= v
						count++
					}
				}
				return sum / float64(count)
			}
			r := rand.New(rand.NewPCG(9, 9))
			last := len(geo.Layers)
			err := m.Gradients(t.Context(), windows, func(layer int, gradients map[string][]float32) error {
				if layer != last-1 {
					t.Errorf("layer %d after layer %d", layer, last)
				}
				last = layer
				for name, g := range gradients {
					weight := n.tensor[fmt.Sprintf("blk.%d.%s.weight", layer, tensors[name])]
					if len(weight) != len(g) {
						t.Fatalf("layer %d: %s has %d derivatives, %d weights", layer, name, len(g), len(weight))
					}
					var size float64
					for _, v := range g {
						size = max(size, math.Abs(float64(v)))
					}
					for range 2 {
						i := r.IntN(len(g))
						const h = 1e-4
						w := weight[i]
						weight[i] = w + h
						up := loss()
						weight[i] = w - h
						want := (up - loss()) / (2 * h)
						weight[i] = w
						if math.Abs(float64(g[i])-want) > 1e-3*size+1e-6 {
							t.Errorf("layer %d: derivative by %s[%d] is %g, want %g", layer, name, i, g[i], want)
						}
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if last != 0 {
				t.Errorf("ended at layer %d", last)
			}
		})
	}
}
