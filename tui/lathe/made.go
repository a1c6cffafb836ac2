package main

import (
	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// moduleResult is the re-fit of one module. Errors are E‖y − ŷ‖²/E‖y‖² of its outputs.
type moduleResult struct {
	Layer       int       `json:"layer"`
	Module      string    `json:"module"`
	Kept        int       `json:"kept"` // columns of the output matrix
	Of          int       `json:"of"`
	ErrBefore   float64   `json:"error_before"` // with the original weights
	ErrAfter    float64   `json:"error_after"`
	ErrHeldOut  float64   `json:"error_held_out,omitempty"` // on the text that the ridge is chosen on
	Ridge       float64   `json:"ridge"`                    // relative to the mean diagonal of the inputs' second moments
	RidgeRaised bool      `json:"ridge_raised,omitempty"`
	Curve       []float64 `json:"curve,omitempty"` // ADMM: the error after each step

	Gradient *explorer.Gradient `json:"gradient,omitempty"` // the re-fit of all matrices by gradient, nil without one
}

// newModules lists the modules of a re-fit.
func newModules(r explorer.Reform) []moduleResult {
	var list []moduleResult
	for _, l := range r.Layers {
		for _, p := range []*explorer.LayerProgress{l.Attention, l.MLP} {
			if p == nil {
				continue
			}
			list = append(list, moduleResult{
				Layer: p.Layer, Module: string(p.Module), Kept: p.Kept, Of: p.Of, ErrBefore: p.ErrBefore, ErrAfter: p.ErrAfter,
				ErrHeldOut: p.HeldOut, Ridge: p.Ridge, RidgeRaised: p.Raised, Curve: p.Curve, Gradient: p.Gradient,
			})
		}
	}
	return list
}

// flopsResult is floating-point operations per token, a multiply-add counting as two, at a context of flopsContext tokens.
type flopsResult struct {
	Context int     `json:"context"`
	Prefill float64 `json:"prefill"` // of a prompt of that length, on average
	Decode  float64 `json:"decode"`  // of the token after it
}

// flopsContext is the context at which operations are counted.
const flopsContext = 2048

func newFLOPs(masks subnet.Masks) flopsResult {
	f := flopsResult{Context: flopsContext}
	f.Prefill, f.Decode = masks.FLOPs(flopsContext)
	return f
}
