package explorer

import (
	"time"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// A Draft is the working masks: a base subnet and the steps made since. It is stored with its undo and redo steps.
type Draft struct {
	Version  uint64 // grows with every change, undo and redo; an edit names the version it was made on
	Base     SubnetID
	Masks    subnet.Masks
	Size     subnet.Size
	Bytes    int64  // of the file in the source's types, 0 if unknown
	Steps    []Step // applied steps, oldest first: the undo stack
	Undone   []Step // undone steps, the next to redo last
	Estimate Estimate
	// Measured is the newest true measurement of the draft and MeasuredVersion the version it was taken of: it is stale
	// when that is not Version.
	Measured        *Measurement
	MeasuredVersion uint64
}

// Dirty reports whether the draft differs from its base.
func (d Draft) Dirty() bool { return len(d.Steps) > 0 }

// RefittedBefore reports whether masks that the draft has, or is about to have, were edited from a base whose weights were re-fitted: the units that
// stay keep those weights, units that come back have their original ones, and nothing makes up for the units that the edits drop.
func (s *Snapshot) RefittedBefore(masks subnet.Masks) bool {
	base, ok := s.Subnet(s.Draft.Base)
	return ok && base.Refit != "" && !base.Masks.Equal(masks)
}

// A Step is one undoable change of the draft.
type Step struct {
	Author  string
	At      time.Time
	Summary string        // one line for people: "layer 12: mlp 1536 → 1088 channels"
	Edits   []subnet.Edit // what changed; never empty
	before  subnet.Masks
	after   subnet.Masks
}

// An Estimate is what the statistics predict for masks, without running the model. Valid is false before statistics; Spread
// and Compared hold even then.
type Estimate struct {
	Valid      bool
	Loss       float64 // expected rise of the loss over the dense model, nats per token
	Perplexity float64 // exp of dense loss plus Loss
	// Refitted reports whether the draft has re-fitted weights. Estimates assume a re-fit, so those of masks
	// with the original weights have larger errors; the two kinds are compared separately.
	Refitted bool
	// Spread is the typical error of estimates for masks of this kind: the median of |true/estimated - 1| over perplexities.
	// It is 0 where Compared, the number of masks with an estimate and a measurement, is 0.
	Spread   float64
	Compared int
	// Low and High bound the rise of the loss of masks that drop whole modules: the truth is between them for 9 of 10 such edits.
	// Both are 0 for other masks.
	Low, High float64
}

// The errors of estimates that are assumed before any was measured: on the default model, for 30 random edits of one to three
// layers, re-fitted and measured on other text, half of the true perplexities were within TriedHalf of the estimated
// ones, and nine of ten within TriedMost (reform's TestPredictionRanksEdits).
const (
	TriedHalf = 0.022
	TriedMost = 0.28
)
