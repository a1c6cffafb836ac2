package engine

import (
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

func TestEngineKeepsTheContract(t *testing.T) {
	explorertest.Contract(t, func(t *testing.T) explorertest.Subject {
		return explorertest.Subject{
			Backend: newEngine(t), Model: gguftest.Write(t, gguftest.Tiny("llama")), Missing: filepath.Join(t.TempDir(), "missing"),
			Calibration: explorer.Calibration{Windows: 4, Seq: 32}, Evaluations: 30,
		}
	})
}
