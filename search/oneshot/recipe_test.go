package oneshot_test

import (
	"errors"
	"testing"

	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

func TestEveryPresetHasARecipe(t *testing.T) {
	for _, p := range preset.All() {
		if _, err := oneshot.RecipeOf(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	if preset.All()[0] != preset.Default {
		t.Errorf("the first preset is %q, want the default", preset.All()[0])
	}
	if _, err := oneshot.RecipeOf("magic"); !errors.Is(err, oneshot.ErrPreset) {
		t.Errorf("unknown preset: error %v", err)
	}
}
