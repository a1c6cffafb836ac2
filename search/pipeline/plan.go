package pipeline

import (
	"time"

	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/levels"
)

// The policy. Shares are of the time limit of a run.
const (
	// Text. Candidates are scored on searchTextShare of the calibration windows, maxSearchWindows at most; the levels are
	// made from levelWindows of the others, so that no candidate is scored on text that its weights were fitted to.
	searchTextShare  = 0.25
	maxSearchWindows = 8
	levelWindows     = 16
	// A run shorter than shortLimit makes its levels from shortLevelWindows: levels from more would take a third of twenty
	// minutes.
	shortLevelWindows = 8
	shortLimit        = 30 * time.Minute
	// searchSeq is the length in tokens of the windows that candidates are scored on: short ones cost less attention and
	// are more diverse.
	searchSeq = 1024
	// maxRefitWindows bounds the text of a run that only the time limits: up to there, more text in the last re-fit lowers
	// the loss more than the same time in the search.
	maxRefitWindows = 128
	// minRefitWindows is how much text the last re-fit uses however little time is left.
	minRefitWindows = 8

	// Time. The search has minSearchShare at least, or minSearchShareShort where the last re-fit could not use
	// enoughRefitWindows otherwise.
	minSearchShare      = 0.2
	minSearchShareShort = 0.1
	enoughRefitWindows  = 32
	// minScoringShare is what the search has where even that is spent already.
	minScoringShare = 0.1
	// refitShareUnknown is reserved for the last re-fit while its pace is unknown.
	refitShareUnknown = 0.25
	// spareShare is left over for what follows the last re-fit, and for a re-fit that takes longer than planned.
	spareShare = 0.02

	// Comparison. Subnets are compared after re-fits on compareWindows with one ridge, unless that takes more than
	// maxCompareShare.
	compareWindows  = 8
	maxCompareShare = 0.12
	compareRidge    = 0.1

	// W_U is re-fitted by upStepsWhenAffordable steps where the time allows at least minUpWindows beside them: on less
	// text, more text lowers the loss more.
	upStepsWhenAffordable = 4
	minUpWindows          = 40
)

// The cost of a re-fit, relative to making levels: see [levels.Pace].
const (
	// refitMargin is a safety factor on the time for text.
	refitMargin = 1.1
	// refitFixed is the share of Pace.Fixed that a re-fit takes whatever the text: levels are solved many times for one
	// ridge, a subnet once for a few. upFixed is the same for W_U, denseFixed for the dense target, and compareFixed is
	// that of a whole re-fit with one ridge and units that stay as they are.
	refitFixed, upFixed, denseFixed, compareFixed = 0.5, 0.4, 0.15, 0.1
	// upStep is the share of Pace.Window that a step on W_U takes for each window, upMoments that of its statistics, and
	// denseText that of the dense model's residual stream, which passes through all layers too.
	upStep, upMoments, denseText = 0.3, 0.6, 0.6
	// measureCost is the cost of measuring a subnet, in windows.
	measureCost = 2
	// minCorrection and maxCorrection bound how far one comparison, on little text, corrects the pace.
	minCorrection, maxCorrection = 0.7, 3
)

// A Basis is what a plan is made from.
type Basis struct {
	Limit    time.Duration // of the whole run, 0 for none
	Spent    time.Duration // by the run so far
	Pace     levels.Pace   // at which levels were made; zero while unknown
	Windows  int           // of calibration text
	Given    bool          // that number was asked for: the last re-fit uses all of them
	UpSteps  *int          // steps on W_U asked for; nil leaves them to the plan
	NoLevels bool          // the strategy uses no levels
}

// A Plan divides the text and the time of a run.
type Plan struct {
	Levels  int           // windows that levels are made from, at most
	Search  time.Duration // for scoring candidates, 0 for no limit
	Compare bool          // whether the best subnet is compared with a one-shot allocation
	Refit   int           // windows of the last re-fit
	UpSteps int           // steps by which the last re-fit changes W_U
}

// NewPlan returns the plan before the search.
func NewPlan(b Basis) Plan {
	p := Plan{Levels: levelWindows, Compare: b.compares(), Refit: b.Windows}
	if b.UpSteps != nil {
		p.UpSteps = *b.UpSteps
	}
	if b.Limit <= 0 {
		return p
	}
	if b.Limit < shortLimit && !b.NoLevels {
		p.Levels = shortLevelWindows
	}
	reserved := b.reserve(&p)
	p.Search = max(b.Limit-b.Spent-reserved, share(minScoringShare, b.Limit))
	return p
}

// Revise returns the plan with the last re-fit in the time that is left after the search.
func (p Plan) Revise(b Basis) Plan {
	if b.Limit > 0 {
		b.planRefit(&p, share(1-spareShare, b.Limit)-b.Spent)
	}
	return p
}

// reserve plans the last re-fit and returns the time to reserve for what follows the search.
func (b Basis) reserve(p *Plan) time.Duration {
	if b.Pace.Window <= 0 {
		if !b.Given {
			p.Refit = min(b.Windows, levelWindows)
		}
		return share(refitShareUnknown, b.Limit)
	}
	var compare time.Duration
	if p.Compare {
		compare = comparisonTime(b.Pace)
	}
	left := -b.Spent - compare
	b.planRefit(p, left+share(1-minSearchShare, b.Limit))
	if enough := min(b.Windows, enoughRefitWindows); p.Refit < enough && !b.Given {
		b.planRefit(p, left+share(1-minSearchShareShort, b.Limit))
		p.Refit = min(p.Refit, enough)
	}
	return compare + refitTime(b.Pace, p.Refit, p.UpSteps)
}

// planRefit plans the last re-fit for the time left. It keeps the plan where the windows were asked for or the pace is
// unknown.
func (b Basis) planRefit(p *Plan, left time.Duration) {
	if b.Given || b.Pace.Window <= 0 {
		return
	}
	if b.UpSteps == nil {
		p.UpSteps = 0
		n := affordable(b.Pace, left, b.Windows, upStepsWhenAffordable)
		if n >= min(b.Windows, minUpWindows) && refitTime(b.Pace, n, upStepsWhenAffordable) <= left {
			p.UpSteps = upStepsWhenAffordable
		}
	}
	p.Refit = affordable(b.Pace, left, b.Windows, p.UpSteps)
}

// compares reports whether the time allows a comparison.
func (b Basis) compares() bool {
	return b.Limit <= 0 || comparisonTime(b.Pace) <= share(maxCompareShare, b.Limit)
}

func share(part float64, whole time.Duration) time.Duration {
	return time.Duration(part * float64(whole))
}

// after returns how long what follows the search is expected to take, 0 while the pace is unknown.
func (p Plan) after(pace levels.Pace) time.Duration {
	if pace.Window <= 0 {
		return 0
	}
	t := refitTime(pace, p.Refit, p.UpSteps)
	if p.Compare {
		t += comparisonTime(pace)
	}
	return t
}

// affordable returns how many of so many windows a re-fit can use in the time left, at least minRefitWindows where there are as many.
func affordable(p levels.Pace, left time.Duration, windows, upSteps int) int {
	n := min(windows, minRefitWindows)
	for n < windows && refitTime(p, n+1, upSteps) <= left {
		n++
	}
	return n
}

// refitTime predicts how long it takes to re-fit a subnet and to measure it.
func refitTime(p levels.Pace, windows, upSteps int) time.Duration {
	text, fixed := (1+denseText)*float64(windows), refitFixed+denseFixed
	if upSteps > 0 {
		text += upMoments*float64(windows) + upStep*float64((upSteps+1)*min(windows, reform.UpWindows))
		fixed += upFixed
	}
	return paced(p, refitMargin*text, fixed) + measureTime(p)
}

func measureTime(p levels.Pace) time.Duration { return paced(p, refitMargin*measureCost, 0) }

// comparedTime predicts how long one re-fit of a comparison takes, without a margin.
func comparedTime(p levels.Pace, windows int) time.Duration {
	return paced(p, float64(windows), compareFixed)
}

// comparisonTime predicts how long a comparison takes at most: of two subnets, with what measuring them takes.
func comparisonTime(p levels.Pace) time.Duration {
	return 2 * (time.Duration(refitMargin*float64(comparedTime(p, compareWindows))) + measureTime(p))
}

func paced(p levels.Pace, windows, fixed float64) time.Duration {
	return time.Duration(windows*float64(p.Window) + fixed*float64(p.Fixed))
}

// calibrated averages the predicted pace and the one observed in a comparison, whose re-fit on so many windows took so long.
// Neither alone is reliable: other work may have slowed down the levels, or the comparison, which is on little text.
func calibrated(p levels.Pace, took time.Duration, windows int) levels.Pace {
	expected := comparedTime(p, windows)
	if expected <= 0 {
		return p
	}
	ratio := (1 + min(max(float64(took)/float64(expected), minCorrection), maxCorrection)) / 2
	return levels.Pace{Window: time.Duration(ratio * float64(p.Window)), Fixed: time.Duration(ratio * float64(p.Fixed))}
}
