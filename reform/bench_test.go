package reform

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/lathe-llm/lathe/infer/memory"
	"github.com/lathe-llm/lathe/reform/linalg/linalgtest"
)

// BenchmarkSolve re-fits one W_D on three quarters of its columns: of the default model's shape and, with LATHE_SLOW set,
// of a 7B model's, which needs 6 GB and minutes. The rate counts what the factorization and the solution of the kept
// columns take, k³/3 + 2·out·k².
func BenchmarkSolve(b *testing.B) {
	shapes := [][2]int{{576, 1536}}
	if os.Getenv("LATHE_SLOW") != "" {
		shapes = append(shapes, [2]int{4096, 11008})
	}
	for _, s := range shapes {
		out, in := s[0], s[1]
		rng := rand.New(rand.NewPCG(7, 7))
		const tokens = 512 // the ridge makes the rest of the rank
		x := make([]float64, tokens*in)
		for i := range x {
			x[i] = rng.NormFloat64()
		}
		p := Problem{Name: "bench", W: weights(rng, out*in), Out: out, In: in, Fit: Moments{Gram: linalgtest.SecondMoment(tokens, in, x)}}
		kept := make([]int, in*3/4)
		for i := range kept {
			kept[i] = i
		}
		run := func(name string, solve func() error) {
			b.Run(fmt.Sprintf("%s/%dx%d", name, out, in), func(b *testing.B) {
				defer memory.MeasurePeak(b)()
				for b.Loop() {
					if err := solve(); err != nil {
						b.Fatal(err)
					}
				}
				k := float64(len(kept))
				b.ReportMetric((k*k*k/3+2*float64(out)*k*k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
		run("exact", func() error {
			_, _, err := Solve(p, kept, Options{})
			return err
		})
		if in < 4096 {
			run("admm", func() error {
				_, _, err := Solve(p, kept, Options{Method: ADMM})
				return err
			})
		}
	}
}
