package oneshot_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/memory"
	"github.com/lathe-llm/lathe/search/importance"
	"github.com/lathe-llm/lathe/search/oneshot"
)

// BenchmarkSurvey measures the statistics pass: second moments of the inputs of every matrix, and the order of all units by the
// cheapest method. It runs on the default model and, with LATHE_SLOW set, on one layer of a 7B model's shape.
func BenchmarkSurvey(b *testing.B) {
	b.Run("default", func(b *testing.B) {
		f, err := gguf.Open(filepath.Join(os.Getenv("LATHE_CACHE"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
		if err != nil {
			b.Skipf("the default model is not in LATHE_CACHE (make setup fetches it): %v", err)
		}
		defer func() { _ = f.Close() }()
		benchmarkSurvey(b, f)
	})
	b.Run("7B-layer", func(b *testing.B) {
		if os.Getenv("LATHE_SLOW") == "" {
			b.Skip("takes minutes and 4 GB: set LATHE_SLOW=1")
		}
		benchmarkSurvey(b, gguftest.Open(b, gguftest.Wide()))
	})
}

func benchmarkSurvey(b *testing.B, f *gguf.File) {
	be, err := decoder.OpenDevice("")
	if err != nil {
		b.Fatal(err)
	}
	defer be.Close()
	m, err := decoder.Load(b.Context(), be, f)
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	rng := rand.New(rand.NewPCG(2, 1024))
	windows := make([][]int32, 2)
	for i := range windows {
		for range 1024 {
			windows[i] = append(windows[i], rng.Int32N(int32(m.Geometry().Vocab)))
		}
	}
	report := memory.MeasurePeak(b)
	tokens := 0
	for b.Loop() {
		s, err := oneshot.NewSurvey(b.Context(), m, windows, []importance.Method{importance.Wanda}, nil)
		if err != nil {
			b.Fatal(err)
		}
		tokens += s.Tokens
	}
	b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
	report()
}
