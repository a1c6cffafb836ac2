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

// recipe returns how the result is re-fitted: as its strategy does, changed as requested.
func (r *run) recipe() (reform.Recipe, error) {
	allocated, err := oneshot.RecipeOf(preset.Allocated)
	if err != nil {
		return reform.Recipe{}, err
	}
	recipe := allocated.Refit
	if paper, ok := r.strategy.(*search.Paper); ok {
		recipe = paperRefit(paper, recipe)
	}
	if r.Change == nil {
		return recipe, nil
	}
	return r.Change(recipe)
}

// refit re-fits the result, layer by layer. It chooses its units again, as many of each module, unless the masks themselves
// were searched or made by hand.
func (r *run) refit(ctx context.Context, result Result) (Result, error) {
	recipe, err := oneshot.RecipeOf(preset.Allocated)
	if err != nil {
		return result, err
	}
	r.plan = r.plan.Revise(r.basis())
	r.enter(refitting)
	if recipe.Refit, err = r.recipe(); err != nil {
		return result, err
	}
	recipe.Refit.UpSteps = r.plan.UpSteps
	_, searched := r.strategy.(*search.Paper)
	config := oneshot.Config{
		Recipe: &recipe, Rechoose: !searched && !r.asItIs, Progress: func(e oneshot.Event) {
			r.enter(refitting)
			if r.Refitting != nil {
				r.Refitting(e)
			}
			_ = r.gate(ctx) // the re-fit finds that ctx has ended
		},
	}
	if r.Types != nil {
		result.Windows = r.plan.Refit
		return r.refitTyped(ctx, result, config)
	}
	var s gguf.Subnet
	var report oneshot.Report
	err = r.persist(ctx, func() (err error) {
		s, report, err = oneshot.Refit(ctx, r.model, r.text.Windows[:r.plan.Refit], result.Subnet.Masks, config)
		return err
	})
	result.Windows = r.plan.Refit
	if err != nil {
		return result, err
	}
	result.Subnet, result.Recipe, result.Report = s, &recipe.Refit, &report.Report
	return result, nil
}

// paperRefit returns how the result of the paper's search is re-fitted, where lathe is the re-fit of the other strategies.
func paperRefit(p *search.Paper, lathe reform.Recipe) reform.Recipe {
	switch p.Refit {
	case search.RefitLathe:
		return lathe
	case search.RefitExact:
		return reform.Recipe{Solve: reform.Options{Method: reform.Exact}}
	case search.RefitNone:
		return reform.Recipe{Solve: reform.Options{Method: reform.None}}
	}
	recipe := reform.Paper()
	recipe.Solve.Rho, recipe.Solve.Steps = p.Rho, p.Steps
	return recipe
}
