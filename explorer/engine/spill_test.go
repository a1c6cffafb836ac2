package engine

import (
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// Hidden states and weights that are not held in memory give the same subnet.
func TestSpill(t *testing.T) {
	cut := func(states, weights int64) gguf.Subnet {
		b := newEngine(t)
		b.options.Spill, b.options.Weights = states, weights
		m := open(t, b, gguftest.Tiny("llama"))
		made, err := m.Cut(t.Context(), explorer.Cut{Target: 0.7, Calibration: explorer.Calibration{Windows: 4, Seq: 128}, Seed: 1}, &quiet{})
		if err != nil {
			t.Fatal(err)
		}
		return made.Subnet
	}
	held := cut(0, 0)
	const window = 4 * 128 * 64 // bytes of hidden states
	for name, limits := range map[string][2]int64{"all": {1, 1}, "all states": {1, 0}, "all weights": {0, 1}, "some states": {2*window + 100, 0}} {
		spilled := cut(limits[0], limits[1])
		if !spilled.Masks.Equal(held.Masks) {
			t.Fatalf("%s spilled: other masks", name)
		}
		for i, r := range spilled.Refit {
			if !slices.Equal(r.WD, held.Refit[i].WD) || !slices.Equal(r.WO, held.Refit[i].WO) {
				t.Errorf("%s spilled: layer %d has other weights", name, i)
			}
		}
	}
}
