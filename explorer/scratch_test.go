package explorer_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestScratchOfAKilledProcessIsEmptied leaves a file where a killed process would.
func TestScratchOfAKilledProcessIsEmptied(t *testing.T) {
	b, dir := explorertest.New(), t.TempDir()
	left := filepath.Join(dir, "scratch", "s1.gguf")
	if err := os.MkdirAll(filepath.Dir(left), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, make([]byte, 100), 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := explorer.Open(t.Context(), explorer.Options{Model: "m.gguf", Workspace: dir, Backend: b})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(left)); !os.IsNotExist(err) {
		t.Errorf("the folder after closing: %v", err)
	}
}
