package llamacpp

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer"
)

// TestMain makes the test binary the engine's child when it is started as one.
func TestMain(m *testing.M) {
	RunIfChild()
	os.Exit(m.Run())
}

// defaultModel is the path of the default model; the test is skipped where it is not in the cache.
func defaultModel(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("LATHE_CACHE")
	if cache == "" {
		t.Skip("LATHE_CACHE is not set: run through make")
	}
	path := filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	return path
}

func newEngine(t testing.TB, env ...string) *Engine {
	t.Helper()
	e, err := New(Options{LogDir: t.TempDir(), Env: env})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func loadModel(t testing.TB, e *Engine, o infer.LoadOptions) *Model {
	t.Helper()
	m, err := e.Load(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m.(*Model)
}
