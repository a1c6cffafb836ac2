package explorer

import (
	"time"

	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// A Draft is the working masks: a base subnet and the steps made since. It is stored with its undo and redo steps.
type Draft struct {
	Version  uint64 // grows with every change, undo and redo; an edit names the version it was made on
	Base     SubnetID
	Masks    subnet.Masks
	Size     subnet.Size
	Bytes    int64  // GGUF tensor bytes in the source's type
	Steps    []Step // applied steps, oldest first: the undo stack
	Undone   []Step // undone steps, the next to redo last
	Estimate Estimate
	// Measured is the newest true measurement of the draft and MeasuredVersion the version it was taken of: it is stale
	// when that is not Version. Measuring reports whether one is under way.
	Measured        *Measurement
	MeasuredVersion uint64
	Measuring       bool
}

// Dirty reports whether the draft differs from its base.
func (d Draft) Dirty() bool { return len(d.Steps) > 0 }

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
}

// The errors of estimates that are assumed before any was measured: on the default model, for 30 random edits of one to three
// layers, re-fitted and measured on other text, half of the true perplexities were within TriedHalf of the estimated
// ones, and nine of ten within TriedMost (reform's TestPredictionRanksEdits).
const (
	TriedHalf = 0.022
	TriedMost = 0.28
)

// Statistics describes the pass over the calibration text that importance and estimates come from.
type Statistics struct {
	Ready    bool
	Text     TextRef
	Tokens   int
	Layers   int // layers gathered so far
	Gathered time.Time
	// DenseNLL is the dense model's loss on the calibration text, nats per token; 0 if not known.
	DenseNLL    float64
	Importance  []draft.Importance // of units, per layer; nil before Ready
	Sensitivity []Sensitivity      // of modules, per layer; nil before Ready
}

// Sensitivity is the predicted rise of the loss when a whole module of a layer is dropped, in nats per token.
type Sensitivity struct{ Attention, MLP float64 }

// Reform describes the newest re-fitting: one entry per layer, filled as it goes.
type Reform struct {
	Job    JobID
	Of     SubnetID // the subnet that is re-fitted
	Result SubnetID // "" until it is done
	Method Method
	Layers []LayerReform // indexed by layer, as long as the model has layers once the job reports
	// Before and After are perplexities on the last [HeldOutTokens] tokens of the calibration text, which were not calibrated
	// on, with the original and the re-fitted weights, 0 where not measured.
	Before, After float64
	// General is the effect on the default text where another one was calibrated on: what calibrating on one's own text
	// costs elsewhere.
	General Effect
}

// An Effect compares perplexities on one text. It is zero where nothing was measured.
type Effect struct {
	Dense float64 // of the dense model
	After float64 // of the subnet
}

// LayerReform is what is known of one layer's blocks; nil where nothing was done yet.
type LayerReform struct{ Attention, MLP *LayerProgress }

// LayerProgress is what a cut or a re-fitting reports about one block of a layer.
type LayerProgress struct {
	Layer     int
	Module    draft.Module // Attention or MLP
	Kept, Of  int          // units
	ErrBefore float64      // relative squared error of the block's output before the re-fit
	ErrAfter  float64
}
