package decoder_test

import (
	"math"
	"os"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/llamacpp"
)

// TestVulkanScores compares llama.cpp on a GPU with the graphs: at every position within 0.05 nats, five times, since a fault of a
// kernel shows in some runs only. llama.cpp keeps keys and values in 16 bits.
func TestVulkanScores(t *testing.T) {
	folder := os.Getenv("LATHE_TEST_GPU")
	if folder == "" {
		t.Skip("LATHE_TEST_GPU is not set: run make test-gpu")
	}
	const tolerance, runs = 0.05, 5
	engine, err := llamacpp.New(llamacpp.Options{LogDir: t.TempDir(), Libraries: folder})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	dev, err := decoder.OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for name, typ := range map[string]gguf.Type{"F32": gguf.F32, "Q8_0": gguf.Q8_0, "Q4_0": gguf.Q4_0} {
		t.Run(name, func(t *testing.T) {
			family := gguftest.Tiny("llama")
			family.Type = typ
			f := gguftest.Open(t, family)
			m, err := decoder.Load(t.Context(), dev, f)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			s := m.Dense()
			defer s.Close()
			w := window(5, 200, family.Vocab)
			want, err := m.LogProbs(t.Context(), s, w)
			if err != nil {
				t.Fatal(err)
			}
			o := infer.Defaults(f.Path())
			o.Batch = 64 // larger than a tile, and no divisor of the window
			model, err := engine.Load(t.Context(), o, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer model.Close()
			if i := model.Info(); i.GPULayers == 0 || i.Fallback != "" {
				t.Fatalf("not on a GPU: %s, %s", i.Placement, i.Fallback)
			}
			worst := 0.0
			for run := range runs {
				got, err := model.Score(t.Context(), [][]int32{w}, nil)
				if err != nil {
					t.Fatal(err)
				}
				for i := range want {
					d := math.Abs(float64(got[0][i]) + float64(want[i]))
					if worst = max(worst, d); !(d <= tolerance) {
						t.Fatalf("run %d, token %d: log-probability %.4f, on the GPU %.4f", run, i+1, want[i], -got[0][i])
					}
				}
			}
			t.Logf("largest difference of %d runs: %.4f nats", runs, worst)
		})
	}
}
