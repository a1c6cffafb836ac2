package explorer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestRecipeChecksEveryText refuses a recipe whose text of a tuning is another one now, although that of its re-fit, which had the same
// content, is not.
func TestRecipeChecksEveryText(t *testing.T) {
	b, dir := explorertest.New(), t.TempDir()
	e := explorertest.Open(t, b, t.TempDir())
	words, same := filepath.Join(dir, "words.txt"), filepath.Join(dir, "same.txt")
	for _, path := range []string{words, same} {
		if err := os.WriteFile(path, []byte("chips fall"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.7, Calibration: explorer.Calibration{Text: words}}).Subnet
	tuned := explorertest.Do(t, e, explorer.Tune{Subnet: cut, Calibration: explorer.Calibration{Text: same}, Tuning: explorer.Tuning{Steps: 20}}).Subnet
	recipe := explorer.BuildRecipe{Path: filepath.Join(dir, "recipe.json")}
	explorertest.Do(t, e, explorer.ExportRecipe{Subnet: tuned, Path: recipe.Path})
	explorertest.Do(t, e, recipe)
	b.Hashes = map[string]string{"same.txt": "0badf00d"}
	receipt, err := e.Do(t.Context(), explorertest.Owner, recipe)
	if err != nil {
		t.Fatal(err)
	}
	if j := explorertest.Ended(t, e, receipt.Job); j.State != explorer.Failed || !strings.Contains(j.Err, "another text, same.txt") {
		t.Errorf("it ended as %s, %q", j.State, j.Err)
	}
}
