package engine

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// TestEqualWidths cuts and searches models whose files hold equal widths only: nothing of what is found may be left in the
// file as zeros.
func TestEqualWidths(t *testing.T) {
	b := newEngine(t)
	for _, arch := range []string{"qwen3", "gemma2", "gemma3"} {
		m := open(t, b, gguftest.Tiny(arch))
		made, err := m.Cut(t.Context(), explorer.Cut{Target: 0.8, Calibration: explorer.Calibration{Windows: 4, Seq: 32}}, &quiet{})
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		found, err := m.Search(t.Context(), asked("", 20), t.TempDir(), &recorder{}, &quiet{})
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		for what, made := range map[string]explorer.Made{"cut": made, "search": found} {
			r, err := m.Write(t.Context(), made.Subnet, filepath.Join(t.TempDir(), "x.gguf"), "", &quiet{})
			if err != nil {
				t.Fatalf("%s: %s: %v", arch, what, err)
			}
			if r.ZeroedParams != 0 || r.Arch != arch || r.CompactParams == 0 {
				t.Errorf("%s: %s: %+v", arch, what, r)
			}
		}
		if _, err := m.Search(t.Context(), asked("random", 20), t.TempDir(), &recorder{}, &quiet{}); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%s: another strategy: %v", arch, err)
		}
	}
}
