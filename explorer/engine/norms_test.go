package engine

import (
	"fmt"
	"math"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// TestNorms compares the norms of units with sums over the rows and columns of each, unit by unit.
func TestNorms(t *testing.T) {
	for _, arch := range []string{"llama", "opt"} {
		m := open(t, newEngine(t), gguftest.Tiny(arch))
		got, err := m.Norms(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		energy := func(layer int, name string, unit, width int, column bool) float64 {
			name = fmt.Sprintf("blk.%d.%s.weight", layer, name)
			if !m.file.Has(name) {
				return 0
			}
			data, dims, err := m.file.Float32(name)
			if err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for r := range dims[0] {
				for c := range dims[1] {
					if at := map[bool]int{false: r, true: c}[column]; at/width == unit {
						sum += math.Pow(float64(data[r*dims[1]+c]), 2)
					}
				}
			}
			return sum
		}
		for i, l := range m.geometry().Layers {
			for u := range l.FFN {
				want := energy(i, "ffn_down", u, 1, true) + energy(i, "ffn_up", u, 1, false) + energy(i, "ffn_gate", u, 1, false)
				if math.Abs(got[i].Channels[u]-want) > 1e-9*want {
					t.Errorf("%s: layer %d: channel %d: %g, want %g", arch, i, u, got[i].Channels[u], want)
				}
			}
			_, dims, err := m.file.Float32(fmt.Sprintf("blk.%d.attn_q.weight", i))
			if err != nil {
				t.Fatal(err)
			}
			for u := range l.Heads {
				width := dims[0] / l.Heads
				want := energy(i, "attn_output", u, width, true) + energy(i, "attn_q", u, width, false)
				if math.Abs(got[i].Heads[u]-want) > 1e-9*want {
					t.Errorf("%s: layer %d: head %d: %g, want %g", arch, i, u, got[i].Heads[u], want)
				}
			}
		}
	}
}
