package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
)

const (
	// leastShare is the share of a limited time that the search itself has, or hastyShare where what is found could not be
	// re-fitted on fairRefit windows otherwise. refitShare is kept for re-fitting while nothing is known of how long that takes.
	leastShare, hastyShare = 0.2, 0.1
	fairRefit              = 32
	refitShare             = 0.25
	// spareShare is left for what comes after the last re-fit and for its taking longer than planned.
	spareShare = 0.02
	// leastRefit is on how much text what was found is re-fitted however little time is left.
	leastRefit = 8
	// settleWindows is on how much text subnets are re-fitted to be compared, unless that would take more than settleShare of a
	// limited time.
	settleWindows = 8
	settleShare   = 0.12
	settleRidge   = 0.1
	// Where nothing else was asked for and the time allows at least upWindows besides, W_U is re-fitted by timelyUp
	// steps: on less text, more text is worth more.
	timelyUp, upWindows = 4, 40
	// refitMargin is by how much longer re-fitting may take than its pace says.
	refitMargin = 1.1
	// So much of what little text says of the pace is believed.
	leastCorrection, mostCorrection = 0.7, 3
)

// reserve says how much of a limited time, of which some is gone, to keep for what comes after the search, and settles on
// how many windows what is found is re-fitted.
func (h *hunt) reserve(whole, gone time.Duration) time.Duration {
	if h.pace.Window <= 0 {
		if h.request.Calibration.Windows == 0 {
			h.refits = min(h.refits, levelWindows)
		}
		return shareOf(refitShare, whole)
	}
	var keep time.Duration
	if h.settles() {
		keep = settleTime(h.pace)
	}
	h.replan(shareOf(1-leastShare, whole) - gone - keep)
	if fair := min(len(h.work.text.windows), fairRefit); h.refits < fair && h.request.Calibration.Windows == 0 {
		h.replan(shareOf(1-hastyShare, whole) - gone - keep)
		h.refits = min(h.refits, fair)
	}
	return keep + refitTime(h.pace, h.refits, h.up)
}

// shareOf is a part of a time.
func shareOf(part float64, whole time.Duration) time.Duration {
	return time.Duration(part * float64(whole))
}

// replan settles on as many windows for re-fitting as the time left allows, where a number was not asked for, and on
// whether W_U is re-fitted.
func (h *hunt) replan(left time.Duration) {
	if h.request.Calibration.Windows > 0 || h.pace.Window <= 0 {
		return
	}
	have := len(h.work.text.windows)
	if h.request.Up == nil {
		h.up = 0
		if n := planRefit(h.pace, left, have, timelyUp); n >= min(have, upWindows) && refitTime(h.pace, n, timelyUp) <= left {
			h.up = timelyUp
		}
	}
	h.refits = planRefit(h.pace, left, have, h.up)
}

// planRefit returns on how many of so many windows what is found can be re-fitted in the time left, but no fewer than
// leastRefit. up is by how many steps W_U is re-fitted.
func planRefit(p levels.Pace, left time.Duration, have, up int) int {
	n := min(have, leastRefit)
	for n < have && refitTime(p, n+1, up) <= left {
		n++
	}
	return n
}

// measuring is how many windows measuring a subnet takes as long as.
const measuring = 2

// refitTime is how long re-fitting a subnet on so many windows takes, and measuring it, at the pace that levels were made.
func refitTime(p levels.Pace, windows, up int) time.Duration {
	return reformTime(p, windows, up) + measureTime(p)
}

func measureTime(p levels.Pace) time.Duration { return paced(p, refitMargin*measuring, 0) }

const (
	// refitFixed is what of a re-fit does not depend on the text, beside that of the levels, which fit a module many times with
	// one ridge and a subnet once with a few; upFixed is that of W_U.
	refitFixed, upFixed = 0.5, 0.4
	// What W_U's step costs on a window, and statistics with it, as shares of a window of the levels.
	upStep, upMoments = 0.3, 0.6
	// denseFixed and denseText are the same of re-fitting toward the dense model's states, which pass all layers too.
	denseFixed, denseText = 0.15, 0.6
	// compareFixed is the same where units are not chosen anew and one ridge is taken.
	compareFixed = 0.1
)

// reformTime is how long of that is re-fitting.
func reformTime(p levels.Pace, windows, up int) time.Duration {
	text, once := (1+denseText)*float64(windows), refitFixed+denseFixed
	if up > 0 {
		text += upMoments*float64(windows) + upStep*float64((up+1)*min(windows, reform.UpWindows))
		once += upFixed
	}
	return paced(p, refitMargin*text, once)
}

// compareTime is how long re-fitting a subnet takes for [hunt.settle], if all goes well.
func compareTime(p levels.Pace, windows int) time.Duration {
	return paced(p, float64(windows), compareFixed)
}

func paced(p levels.Pace, windows, once float64) time.Duration {
	return time.Duration(windows*float64(p.Window) + once*float64(p.Fixed))
}

// corrected is half way from a pace to that at which re-fitting so many windows for [hunt.settle] took as long as it did: the
// levels may have been made beside other work, and other work may have slowed down the little text that is re-fitted there.
func corrected(p levels.Pace, took time.Duration, windows int) levels.Pace {
	expected := compareTime(p, windows)
	if expected <= 0 {
		return p
	}
	ratio := (1 + min(max(float64(took)/float64(expected), leastCorrection), mostCorrection)) / 2
	return levels.Pace{Window: time.Duration(ratio * float64(p.Window)), Fixed: time.Duration(ratio * float64(p.Fixed))}
}

// settleTime is how long [hunt.settle] takes at most: there are two to compare.
func settleTime(p levels.Pace) time.Duration {
	return 2 * (time.Duration(refitMargin*float64(compareTime(p, settleWindows))) + measureTime(p))
}

// settles says whether the time allows to compare.
func (h *hunt) settles() bool {
	whole := h.limit()
	return whole <= 0 || settleTime(h.pace) <= shareOf(settleShare, whole)
}

// settle decides between what was found and what was allocated without a search. Levels are fitted on little text, each by
// itself: which of several subnets is best is certain only once they are re-fitted as a whole, on text of the one kind, and
// scored on the other. Choosing units anew, trying ridges and making up for earlier errors are left to the last re-fit: they
// do the same for all, and take three quarters of the time. Where there is little of it, what was found is taken as it is: it is
// its best one-shot, or beat that by two standard errors.
func (h *hunt) settle(ctx context.Context, r search.Result) (search.Result, error) {
	if !h.settles() {
		return r, nil
	}
	field := []search.Candidate{r.Best.Candidate}
	if r.State.Ladder != nil {
		// What was found has beaten the first of two already, or is that.
		for _, c := range slices.Backward(r.State.Ladder.OneShots) {
			if c.Equal(r.Best.Choice) {
				continue
			}
			masks, err := h.m.levels.Levels().Masks(c)
			if err != nil {
				return r, err
			}
			field = append(field, search.Candidate{Masks: masks, Choice: c})
			break
		}
	}
	if len(field) == 1 {
		return r, nil
	}
	recipe, err := reform.Allocated.Recipe()
	if err != nil {
		return r, err
	}
	recipe.Goal, recipe.Solve.Lambdas = reform.Own, []float64{settleRidge}
	text := spread(h.fitting, settleWindows)
	fitness := make([]float64, len(field))
	var took time.Duration
	best := 0
	for i, c := range field {
		began := time.Now()
		subnet, _, err := reform.Refit(ctx, h.work.dm, text, c.Masks, reform.Config{Recipe: &recipe, Progress: func(e reform.Event) {
			h.mon.Progress(float64(i*e.Total+e.Done), float64(len(field)*e.Total), "modules", "comparing what was found with a one-shot, both re-fitted")
		}})
		if err != nil {
			return r, err
		}
		took += time.Since(began)
		s, err := h.eval.Subnet(ctx, subnet)
		if err != nil {
			return r, err
		}
		if fitness[i] = s.Fitness; s.Fitness < fitness[best] {
			best = i
		}
	}
	h.pace = corrected(h.pace, took/time.Duration(len(field)), len(text))
	taken := "what was found"
	if best > 0 {
		taken = "the one-shot"
		r.Best.Candidate = field[best]
	}
	h.mon.Note(fmt.Sprintf("re-fitted on %d windows, what the search found has %s on text it was not fitted to, a one-shot %s: %s is taken",
		len(text), h.fitness(fitness[0]), h.fitness(fitness[1]), taken))
	return r, nil
}

// refit chooses the units of what was found anew, as many of each module, and re-fits them, layer by layer.
func (h *hunt) refit(ctx context.Context, made explorer.Made) (explorer.Made, error) {
	recipe, err := reform.Allocated.Recipe()
	if err != nil {
		return made, err
	}
	if whole := h.limit(); whole > 0 {
		h.replan(shareOf(1-spareShare, whole) - time.Since(h.started))
	}
	recipe.UpSteps = h.up
	made.Method.Windows = h.refits
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
