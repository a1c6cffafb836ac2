package explorer_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestRecipeIsBounded refuses recipes, which come from others, with settings that no command takes, before anything is computed.
func TestRecipeIsBounded(t *testing.T) {
	dir := t.TempDir()
	e := explorertest.Open(t, explorertest.New(), "")
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.7, Reform: explorer.ReformOptions{Method: "admm"}}).Subnet
	path := filepath.Join(dir, "recipe.json")
	explorertest.Do(t, e, explorer.ExportRecipe{Subnet: cut, Path: path})
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	explorertest.Do(t, e, explorer.BuildRecipe{Path: path})
	for change, want := range map[[2]string]string{
		{`"windows": 8`, `"windows": 1000000000000`}:          "calibration windows",
		{`"windows": 8`, `"windows": -1`}:                     "calibration windows",
		{`"seq": 2048`, `"seq": 1000000000000`}:               "tokens per calibration window",
		{`"windows": 8`, `"windows": 8, "drawn": 9000000000`}: "windows drawn",
		{`"steps": 30`, `"steps": 1000000000`}:                "steps",
		{`"rho": 1`, `"rho": -3`}:                             "rho",
		{`"rho": 1`, `"rho": 1, "up": 1000000`}:               "up",
		{`"rho": 1`, `"rho": 1, "lambda": 1e9`}:               "lambda",
		{`"reform": "admm"`, `"reform": "magic"`}:             "magic",
	} {
		text := strings.Replace(string(good), change[0], change[1], 1)
		if text == string(good) {
			t.Fatalf("the recipe has no %s:\n%s", change[0], good)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Do(t.Context(), explorertest.Owner, explorer.BuildRecipe{Path: path}); !errors.Is(err, explorer.ErrDamaged) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", change[1], err)
		}
	}
}
