// Package preset names the methods of package oneshot. It has no dependencies, so that what shows or checks names does not
// depend on the computation.
package preset

import "slices"

// Preset names a method of choosing and re-fitting: one of the paper's or its rivals'.
type Preset string

// The presets. All but FLAPGlobal, Allocated, Depth and Cosine keep the same share of channels in every layer. FLAPGlobal and
// Taylor rank units on the dense model's inputs, since they compare all layers, and Magnitude by the weights alone; the others
// that rank do so layer by layer, on inputs that have passed through the layers cut before.
const (
	Allocated   Preset = "allocated"    // OBS, with widths by measured sensitivity and a re-fit toward the dense hidden states
	OBS         Preset = "obs"          // optimal brain surgeon and an exact re-fit (as ZipLM, OSSCAR)
	Leverage    Preset = "leverage"     // ridge leverage scores and an exact re-fit (MoDeGPT's MLPs, arXiv 2408.09632)
	FLAP        Preset = "flap"         // fluctuation, with a bias (arXiv 2312.11983)
	FLAPGlobal  Preset = "flap-global"  // FLAP, with widths by standardised fluctuation, at least a quarter of each layer
	WandaSP     Preset = "wanda-sp"     // activation-weighted magnitude, not re-fitted
	Magnitude   Preset = "magnitude"    // squared norm of a unit's weights, not re-fitted
	PaperInit   Preset = "paper-init"   // the paper's Phi, not re-fitted
	PhiDiagonal Preset = "phi-diagonal" // Phi with the inverse of the diagonal alone, not re-fitted
	Taylor      Preset = "taylor"       // first-order loss change, not re-fitted (LLM-Pruner)
	Depth       Preset = "depth"        // whole layers, each time the one whose removal costs least (SLEB, arXiv 2402.09025)
	Cosine      Preset = "cosine"       // whole layers, those that change the hidden states least (ShortGPT, arXiv 2403.03853)
	Random      Preset = "random"       // random units, not re-fitted
)

// Default is the preset used where none is named.
const Default = Allocated

// All lists all presets, the default first.
func All() []Preset {
	return []Preset{Allocated, OBS, Leverage, FLAP, FLAPGlobal, WandaSP, Magnitude, PaperInit, PhiDiagonal, Taylor, Depth, Cosine, Random}
}

// Names lists the names of all presets, the default first.
func Names() []string {
	names := make([]string, len(All()))
	for i, p := range All() {
		names[i] = string(p)
	}
	return names
}

// Exists reports whether a preset has the given name.
func Exists(name string) bool { return slices.Contains(All(), Preset(name)) }

// OwnRefit returns how a preset re-fits where nothing else is asked for: exact or none.
func OwnRefit(name string) string {
	switch Preset(name) {
	case Allocated, OBS, Leverage:
		return "exact"
	default:
		return "none"
	}
}

// Refit describes how weights are re-fitted, in the words of forms and flags.
type Refit struct {
	Target string // local, dense or residual
	Lambda string // ridge terms
	Pull   bool   // toward the original weights
	Bias   bool
	Weigh  string // what tokens count by
}

// RefitOf describes the re-fit of a preset where nothing else is asked for. It re-fits no W_U, and nothing across dropped layers.
func RefitOf(name string) Refit {
	switch Preset(name) {
	case Allocated:
		return Refit{Target: "residual", Lambda: "0.01, 0.03, 0.1 or 0.3", Pull: true, Weigh: "state"}
	case FLAP, FLAPGlobal:
		return Refit{Target: "local", Bias: true, Weigh: "none"}
	default:
		return Refit{Target: "local", Lambda: "0.01", Weigh: "none"}
	}
}

// DropsLayers reports whether a preset drops whole layers and nothing else.
func DropsLayers(name string) bool { return Preset(name) == Depth || Preset(name) == Cosine }
