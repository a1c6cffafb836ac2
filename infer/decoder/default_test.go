package decoder_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// defaultModel loads the default model, or skips where it is not in the cache.
func defaultModel(tb testing.TB) *decoder.Model {
	tb.Helper()
	f, err := gguf.Open(defaultPath(tb))
	if err != nil {
		tb.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	m, err := decoder.Load(tb.Context(), backend(tb), f)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	return m
}

// defaultPath is where setting up puts the default model.
func defaultPath(tb testing.TB) string {
	tb.Helper()
	cache := os.Getenv("LATHE_CACHE")
	if cache == "" {
		tb.Skip("LATHE_CACHE is not set: run through make")
	}
	return filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
}

// backend opens the backend that LATHE_BACKEND names, the default one otherwise.
func backend(tb testing.TB) *decoder.Backend {
	tb.Helper()
	be, err := decoder.OpenBackend("")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(be.Close)
	return be
}

// reference is what an independent program computed of the default model on one window.
type reference struct {
	IDs []int32   `json:"tokens_window_0"`
	NLL []float64 `json:"nll_window_0"`
}

func readReference(tb testing.TB) reference {
	tb.Helper()
	data, err := os.ReadFile("../../../shared/data/reference/smollm2-135m-dense.json")
	if err != nil {
		tb.Skipf("the reference is not there: %v", err)
	}
	var r reference
	if err := json.Unmarshal(data, &r); err != nil {
		tb.Fatal(err)
	}
	return r
}

// TestDefaultModel compares every log-probability of 2048 tokens with those of an independent program that computed in
// 32-bit floats from the same weights. Both round, so 1e-3 nats apart is agreement.
func TestDefaultModel(t *testing.T) {
	ref := readReference(t)
	m := defaultModel(t)
	s := m.Dense()
	defer s.Close()
	lp, err := m.LogProbs(t.Context(), s, ref.IDs)
	if err != nil {
		t.Fatal(err)
	}
	if len(lp) != len(ref.NLL) {
		t.Fatalf("%d log-probabilities, want %d", len(lp), len(ref.NLL))
	}
	worst := 0.0
	for i, v := range lp {
		worst = max(worst, math.Abs(float64(v)+ref.NLL[i]))
	}
	t.Logf("largest difference %.2g nats", worst)
	if !(worst < 1e-3) {
		t.Errorf("largest difference %g nats, want less than 1e-3", worst)
	}
}
