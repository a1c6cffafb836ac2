package explorertest_test

import (
	"testing"

	"github.com/lathe-llm/lathe/explorer/explorertest"
)

func TestBackendKeepsTheContract(t *testing.T) {
	explorertest.Contract(t, func(*testing.T) explorertest.Subject {
		b := explorertest.New()
		b.Missing = []string{"missing"}
		return explorertest.Subject{Backend: b, Model: "model.gguf", Missing: "missing", Evaluations: 40}
	})
}
