package importance

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/lathe-llm/lathe/infer/memory"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg/linalgtest"
)

// benchBlock is an MLP of random weights and inputs.
func benchBlock(hidden, ffn int) *Block {
	rng := rand.New(rand.NewPCG(6, 6))
	inputs := func(n int) Inputs {
		const tokens = 512 // a ridge makes the rest of the rank
		x := make([]float64, tokens*n)
		for i := range x {
			x[i] = rng.NormFloat64()
		}
		return Inputs{N: n, Gram: linalgtest.SecondMoment(tokens, n, x), Var: make([]float64, n)}
	}
	return &Block{
		Name: "bench", Module: subnet.MLP, Layer: subnet.LayerGeometry{FFN: ffn}, In: inputs(hidden), Mid: inputs(ffn),
		Inner: []Matrix{randomMatrix(rng, ffn, hidden), randomMatrix(rng, ffn, hidden)}, Output: randomMatrix(rng, hidden, ffn),
	}
}

// BenchmarkRank orders the channels of one MLP: of the default model's shape and, with LATHE_SLOW set, of a 7B model's,
// which takes 6 GB and minutes. The rate counts the multiplications and additions of a dense inverse, 2n³; OBS does about
// as many again to update it.
func BenchmarkRank(b *testing.B) {
	shapes := [][2]int{{576, 1536}}
	if os.Getenv("LATHE_SLOW") != "" {
		shapes = append(shapes, [2]int{4096, 11008})
	}
	for _, s := range shapes {
		block := benchBlock(s[0], s[1])
		for _, m := range []Method{Phi, OBS, Leverage, FLAP, Wanda} {
			b.Run(fmt.Sprintf("%s/%dx%d", m, s[0], s[1]), func(b *testing.B) {
				defer memory.MeasurePeak(b)()
				for b.Loop() {
					if _, err := Rank(m, block, Channels, Options{}); err != nil {
						b.Fatal(err)
					}
				}
				if m == Phi || m == OBS || m == Leverage {
					n := float64(s[1])
					b.ReportMetric(2*n*n*n*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				}
			})
		}
	}
}
