package pipeline

import (
	"context"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// refitBriefly re-fits a candidate for a comparison.
func (r *run) refitBriefly(ctx context.Context, text [][]int32, c search.Candidate, progress func(done, total int)) (gguf.Subnet, error) {
	allocated, err := oneshot.RecipeOf(preset.Allocated)
	if err != nil {
		return gguf.Subnet{}, err
	}
	recipe := allocated.Refit
	recipe.Target, recipe.Solve.Lambdas = reform.LocalOutput, []float64{compareRidge}
	s, _, err := reform.Refit(ctx, r.model, text, c.Masks, reform.Config{Recipe: recipe, Progress: func(done, total int, _ reform.ModuleReport) {
		progress(done, total)
		_ = r.gate(ctx) // the re-fit finds that ctx has ended
	}})
	return s, err
}

// refit chooses the units of the result again, as many of each module, and re-fits them, layer by layer.
func (r *run) refit(ctx context.Context, result Result) (Result, error) {
	recipe, err := oneshot.RecipeOf(preset.Allocated)
	if err != nil {
		return result, err
	}
	r.plan = r.plan.Revise(r.basis())
	recipe.Refit.UpSteps = r.plan.UpSteps
	s, report, err := oneshot.Refit(ctx, r.model, r.text.Windows[:r.plan.Refit], result.Subnet.Masks, oneshot.Config{
		Recipe: &recipe, Rechoose: true, Progress: func(e oneshot.Event) {
			if r.Refitting != nil {
				r.Refitting(e)
			}
			_ = r.gate(ctx) // the re-fit finds that ctx has ended
		},
	})
	result.Windows = r.plan.Refit
	if err != nil {
		return result, err
	}
	result.Subnet, result.Recipe, result.Report = s, &recipe.Refit, &report.Report
	return result, nil
}
