package main

import (
	"context"
	"fmt"
	"io"
	"math"

	"github.com/lathe-llm/lathe/explorer"
)

// estimateResult is the estimate of the draft from statistics, and the typical error of such estimates.
type estimateResult struct {
	Perplexity float64 `json:"perplexity,omitempty"` // if statistics were gathered
	Rise       float64 `json:"loss_rise,omitempty"`  // over the dense model, nats per token
	Refitted   bool    `json:"refitted"`             // whether the draft has re-fitted weights
	// Difference is the median of |measured/estimated - 1| over the masks of this kind that were estimated and measured.
	Difference float64 `json:"typical_difference,omitempty"`
	Compared   int     `json:"compared"`                      // number of such masks
	Relative   float64 `json:"perplexity_relative,omitempty"` // exp of Rise
	// Low and High bound perplexity_relative for masks that drop whole modules, at the rate of 9 of 10.
	Low  float64 `json:"relative_low,omitempty"`
	High float64 `json:"relative_high,omitempty"`
}

func newEstimate(e explorer.Estimate) *estimateResult {
	r := &estimateResult{Perplexity: e.Perplexity, Rise: e.Loss, Refitted: e.Refitted, Difference: e.Spread, Compared: e.Compared}
	if e.Valid {
		r.Relative = math.Exp(e.Loss)
	}
	if e.High != 0 {
		r.Low, r.High = math.Exp(e.Low), math.Exp(e.High)
	}
	return r
}

func (r *estimateResult) words(w io.Writer) {
	if r == nil || r.Perplexity == 0 && r.Compared == 0 {
		return
	}
	if r.Perplexity > 0 {
		fmt.Fprintf(w, "estimated %.3f × dense (perplexity %.2f), ", r.Relative, r.Perplexity)
	} else {
		fmt.Fprint(w, "estimates: ")
	}
	fmt.Fprintln(w, r.accuracy())
}

// accuracy describes the typical error of estimates.
func (r *estimateResult) accuracy() string {
	if r.High != 0 {
		return fmt.Sprintf("9 of 10 edits of whole blocks are within %.3f to %.3f × dense", r.Low, r.High)
	}
	if r.Compared == 0 {
		return fmt.Sprintf("no estimate was compared with a measurement here yet; on SmolLM2-135M, re-fitted, half were within %.0f %%, 9 of 10 within %.0f %%",
			100*explorer.TriedHalf, 100*explorer.TriedMost)
	}
	return fmt.Sprintf("typically %.1f %% from the measured value (%d compared)", 100*r.Difference, r.Compared)
}

// estimating opens a model's workspace for use and gathers the statistics that estimates need, unless the workspace has them.
func (a *app) estimating(ctx context.Context, model string, use func(exploration) error) error {
	return a.with(ctx, model, inWorkspace, func(e exploration) error {
		if !e.Snapshot().Statistics.Ready {
			if _, err := a.start(ctx, e, explorer.GatherStatistics{}); err != nil {
				return err
			}
		}
		return use(e)
	})
}

// looking opens a model's workspace read-only.
func (a *app) looking(ctx context.Context, model string, use func(exploration) error) error {
	return a.with(ctx, model, readOnly, use)
}
