package levels_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/memory"
	"github.com/lathe-llm/lathe/search/levels"
)

// BenchmarkBuild makes all levels of the default model and, with LATHE_SLOW set, of one layer of a 7B model's shape: text
// through the layers, the order of the units, and the re-fitted matrices written to the disk.
func BenchmarkBuild(b *testing.B) {
	b.Run("default", func(b *testing.B) {
		f, err := gguf.Open(filepath.Join(os.Getenv("LATHE_CACHE"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
		if err != nil {
			b.Skipf("the default model is not in LATHE_CACHE (make setup fetches it): %v", err)
		}
		defer func() { _ = f.Close() }()
		benchmarkBuild(b, f)
	})
	b.Run("7B-layer", func(b *testing.B) {
		if os.Getenv("LATHE_SLOW") == "" {
			b.Skip("takes minutes and 8 GB: set LATHE_SLOW=1")
		}
		benchmarkBuild(b, gguftest.Open(b, gguftest.Wide()))
	})
}

func benchmarkBuild(b *testing.B, f *gguf.File) {
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
	windows := texts(2, 1024, m.Geometry().Vocab)
	report := memory.MeasurePeak(b)
	tokens := 0
	for b.Loop() {
		s, err := levels.Build(b.Context(), m, windows, b.TempDir(), levels.Options{Model: "bench", Text: "random"})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		tokens += len(windows) * len(windows[0])
	}
	b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
	report()
}
