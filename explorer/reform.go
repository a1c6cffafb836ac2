package explorer

import "github.com/lathe-llm/lathe/explorer/draft"

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
	// Dense is that of the dense model, and Rejected that with re-fitted weights that were worse than those before, which the
	// result has.
	Dense, Rejected float64
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
	HeldOut   float64   // ErrAfter on the text that ridges are chosen on, 0 without one
	Ridge     float64   // the ridge used, relative to the mean diagonal of the inputs' second moments
	Raised    bool      // the ridge was raised to make the system solvable
	Curve     []float64 // ADMM's error after each step
	Gradient  *Gradient // the re-fit of all matrices of the module by gradient, nil without one
}

// Gradient is what a re-fit by gradient did to a module.
type Gradient struct {
	Steps  int     `json:"steps"`           // that were the best on held-out text; 0 leaves the module as it was
	Before float64 `json:"held_out_before"` // errors on held-out text, as shares of the target's energy, of matrices that are fitted to the other text alone
	After  float64 `json:"held_out_after"`
}
