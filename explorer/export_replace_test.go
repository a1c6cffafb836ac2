package explorer_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestWritesReplaceOnRequestAlone gives commands that write files an existing one, a folder and no folder.
func TestWritesReplaceOnRequestAlone(t *testing.T) {
	b := explorertest.New()
	e := explorertest.Filled(t, b)
	dir := t.TempDir()
	cut := e.Snapshot().Subnets[len(e.Snapshot().Subnets)-1].ID
	recipe := filepath.Join(dir, "recipe.json")
	explorertest.Do(t, e, explorer.ExportRecipe{Subnet: cut, Path: recipe})
	at := filepath.Join(dir, "here")
	for name, command := range map[string]func(path string, replace bool) explorer.Command{
		"export": func(path string, replace bool) explorer.Command {
			return explorer.Export{Subnet: cut, Path: path, Replace: replace}
		},
		"recipe": func(path string, replace bool) explorer.Command {
			return explorer.ExportRecipe{Subnet: cut, Path: path, Replace: replace}
		},
		"build": func(path string, replace bool) explorer.Command {
			return explorer.BuildRecipe{Path: recipe, To: path, Replace: replace}
		},
	} {
		if err := os.WriteFile(at, []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]error{at: explorer.ErrExists, dir: explorer.ErrInvalid, filepath.Join(dir, "none", "x"): explorer.ErrInvalid, filepath.Join(at, "x"): explorer.ErrInvalid} {
			if _, err := e.Do(t.Context(), explorertest.Owner, command(path, false)); !errors.Is(err, want) {
				t.Errorf("%s to %s: %v, not %v", name, path, err, want)
			}
		}
		if data, err := os.ReadFile(at); err != nil || string(data) != "kept" {
			t.Errorf("%s: the file holds %q, %v", name, data, err)
		}
		explorertest.Do(t, e, command(at, true))
		explorertest.Quiet(t, e)
		if data, err := os.ReadFile(at); err != nil || string(data) == "kept" {
			t.Errorf("%s: the file was not replaced: %v", name, err)
		}
	}
	if _, err := e.Do(t.Context(), explorertest.Owner, explorer.Export{Subnet: cut, Path: dir, As: explorer.AsFolder}); !errors.Is(err, explorer.ErrInvalid) {
		t.Errorf("a folder that is not empty: %v", err)
	}
}
