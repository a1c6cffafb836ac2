package oneshot_test

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/reform"
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
		solve, lambda := r.Refit.Solve, ""
		switch {
		case preset.OwnRefit(string(p)) == "none" && solve.Bias:
		case solve.Lambdas == nil:
			lambda = fmt.Sprint(reform.DefaultLambda)
		default:
			lambda = strings.Join(strings.Fields(strings.Trim(fmt.Sprint(solve.Lambdas[:len(solve.Lambdas)-1]), "[]")), ", ") + " or " + fmt.Sprint(solve.Lambdas[len(solve.Lambdas)-1])
		}
		weigh := map[bool]string{true: "state", false: "none"}[r.Refit.Relative]
		want := preset.Refit{Target: r.Refit.Target.String(), Lambda: lambda, Pull: solve.Pull, Bias: solve.Bias, Weigh: weigh}
		if got := preset.RefitOf(string(p)); got != want || r.Refit.Bridge || r.Refit.ByGradient {
			t.Errorf("%s re-fits as %+v, and is described as %+v", p, want, got)
		}
	}
	if preset.All()[0] != preset.Default {
		t.Errorf("the first preset is %q, want the default", preset.All()[0])
	}
	if _, err := oneshot.RecipeOf("magic"); !errors.Is(err, oneshot.ErrPreset) {
		t.Errorf("unknown preset: error %v", err)
	}
}
