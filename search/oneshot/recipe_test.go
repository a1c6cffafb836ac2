package oneshot_test

import (
	"cmp"
	"errors"
	"testing"

	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

func TestEveryPresetHasARecipe(t *testing.T) {
	for _, p := range preset.All() {
		r, err := oneshot.RecipeOf(p)
		if err != nil {
			t.Errorf("%s: %v", p, err)
		}
		if own := cmp.Or(string(r.Refit.Solve.Method), "exact"); own != preset.OwnRefit(string(p)) || r.Refit.UpSteps != 0 {
			t.Errorf("%s re-fits by %s, W_U in %d steps; its own re-fit is called %s", p, own, r.Refit.UpSteps, preset.OwnRefit(string(p)))
		}
	}
	if preset.All()[0] != preset.Default {
		t.Errorf("the first preset is %q, want the default", preset.All()[0])
	}
	if _, err := oneshot.RecipeOf("magic"); !errors.Is(err, oneshot.ErrPreset) {
		t.Errorf("unknown preset: error %v", err)
	}
}
