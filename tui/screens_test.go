package tui

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestScreensAreApart checks that no screen imports another screen or the frame.
func TestScreensAreApart(t *testing.T) {
	files, err := filepath.Glob("internal/screens/*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if p := strings.Trim(i.Path.Value, `"`); strings.HasSuffix(p, "lathe/tui") || strings.Contains(p, "tui/internal/screens/") {
				t.Errorf("%s imports %s", path, p)
			}
		}
	}
}
