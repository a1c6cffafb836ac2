package workbench

import (
	"context"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/levels"
)

const (
	// leastShare is the share of a limited time that the search itself has in any case, and refitShare what is kept for
	// re-fitting what was found while nothing is known of how long that takes.
	leastShare = 0.25
	refitShare = 0.25
)

// reserve says how much of a limited time, of which some is gone, to keep for re-fitting what is found, and settles on how
// many windows that is done.
func (h *hunt) reserve(whole, gone time.Duration) time.Duration {
	var keep time.Duration
	h.refits, keep = planRefit(h.pace, whole, gone, len(h.work.text.windows), h.request.Calibration.Windows > 0, h.request.Up)
	return keep
}

// planRefit returns on how many of so many windows what is found is re-fitted, and the time to keep for it. Where that
// number was not asked for, it is as many as leave the search its least share. up is by how many steps W_U is re-fitted.
func planRefit(p levels.Pace, whole, gone time.Duration, have int, asked bool, up int) (windows int, keep time.Duration) {
	least := min(have, levelWindows)
	if p.Window <= 0 {
		if !asked {
			have = least
		}
		return have, time.Duration(refitShare * float64(whole))
	}
	// Measuring what came out takes about as long as two windows. What does not depend on the text is about the same for
	// levels, where a module is fitted many times with one ridge, and for a subnet, where it is with a few.
	const (
		margin    = 1.1
		measuring = 2.0
		// For W_U: what its step costs on a window, and statistics with it, as shares of a window of the levels.
		upStep, upMoments = 0.45, 0.8
	)
	perWindow, fixed, once := margin*float64(p.Window), float64(p.Fixed), measuring
	if up > 0 {
		once += upStep * float64((up+1)*min(have, reform.UpWindows))
		fixed *= 2
	}
	extra := once * perWindow
	if up > 0 {
		perWindow *= 1 + upMoments
	}
	if !asked {
		left := (1-leastShare)*float64(whole) - float64(gone) - fixed - extra
		have = min(have, max(int(left/perWindow), least))
	}
	return have, time.Duration(fixed + extra + perWindow*float64(have))
}

// refit chooses the units of what was found anew, as many of each module, and re-fits them, layer by layer.
func (h *hunt) refit(ctx context.Context, made explorer.Made) (explorer.Made, error) {
	recipe, err := reform.Allocated.Recipe()
	if err != nil {
		return made, err
	}
	recipe.UpSteps = h.request.Up
	subnet, report, err := reform.Refit(ctx, h.work.dm, h.work.text.windows[:h.refits], made.Subnet.Masks, reform.Config{
		Recipe: &recipe, Rechoose: true, Progress: func(e reform.Event) { tell(ctx, h.mon, e) },
	})
	if err != nil {
		return made, translate(err)
	}
	made.Subnet = subnet
	made.Method.Reform, made.Method.Pull = string(reform.Exact), recipe.Solve.Pull
	made.Method.Up = upSteps(subnet, recipe)
	made.Method.Seconds = report.Seconds
	made.Before, made.After, err = h.m.quick(ctx, explorer.Calibration{
		Text: h.request.Calibration.Text, Windows: made.Method.Windows, Seq: made.Method.Seq,
	}, subnet, h.mon)
	return made, err
}
