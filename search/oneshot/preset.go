package oneshot

import (
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/importance"
)

// ErrPreset means that a preset does not exist.
var ErrPreset = errors.New("unknown preset")

// Preset names a method of choosing and re-fitting: one of the paper's or its rivals'.
type Preset string

// The presets. All but FLAPGlobal, Allocated and Depth keep the same share of channels in every layer. FLAPGlobal and Taylor
// rank units on the dense model's inputs, since they compare all layers; the others that rank do so layer by layer, on inputs
// that have passed through the layers cut before.
const (
	PaperInit  Preset = "paper-init"  // the paper's Phi, not re-fitted
	FLAP       Preset = "flap"        // fluctuation, with a bias (arXiv 2312.11983)
	FLAPGlobal Preset = "flap-global" // FLAP, with widths by standardised fluctuation, at least a quarter of each layer
	WandaSP    Preset = "wanda-sp"    // activation-weighted magnitude, not re-fitted
	OBS        Preset = "obs"         // optimal brain surgeon and an exact re-fit (as ZipLM, OSSCAR)
	Allocated  Preset = "allocated"   // OBS, with widths by measured sensitivity and a re-fit toward the dense hidden states
	Taylor     Preset = "taylor"      // first-order loss change, not re-fitted (LLM-Pruner)
	Depth      Preset = "depth"       // whole layers, each time the one whose removal costs least (SLEB, arXiv 2402.09025)
	Random     Preset = "random"      // random units, not re-fitted
)

// Presets lists all presets, the default first.
func Presets() []Preset {
	return []Preset{Allocated, OBS, FLAP, FLAPGlobal, WandaSP, PaperInit, Taylor, Depth, Random}
}

// Widths is how the units to drop are shared out over the layers.
type Widths int

// The ways to share out.
const (
	Uniform   Widths = iota // the same share everywhere
	Global                  // by scores standardised within each layer
	Sensitive               // where the model's loss rises least
)

// Recipe is what a preset does.
type Recipe struct {
	Method     importance.Method // how units are ranked; "" is random
	Widths     Widths
	Floor      float64 // share of its channels that every layer keeps; uniform widths ignore it
	Attention  bool    // KV groups are dropped too; otherwise MLP channels alone
	Sequential bool    // units are ranked on the subnet's own inputs; otherwise on the dense model's
	Layers     bool    // whole layers are dropped and nothing else
	Refit      reform.Recipe
}

// Recipe returns what a preset does.
func (p Preset) Recipe() (Recipe, error) {
	none := reform.Recipe{Solve: reform.Options{Method: reform.None}}
	bias := reform.Recipe{Solve: reform.Options{Method: reform.None, Bias: true}}
	switch p {
	case PaperInit:
		return Recipe{Method: importance.Phi, Sequential: true, Refit: none}, nil
	case FLAP:
		return Recipe{Method: importance.FLAP, Sequential: true, Refit: bias}, nil
	case FLAPGlobal:
		return Recipe{Method: importance.FLAP, Widths: Global, Floor: 0.25, Refit: bias}, nil
	case WandaSP:
		return Recipe{Method: importance.Wanda, Sequential: true, Refit: none}, nil
	case OBS:
		return Recipe{Method: importance.OBS, Sequential: true}, nil
	case Allocated:
		return Recipe{Method: importance.OBS, Sequential: true, Widths: Sensitive, Refit: reform.Recipe{
			Solve: reform.Options{Lambdas: []float64{0.01, 0.03, 0.1, 0.3}, Pull: true}, Relative: true,
			Target: reform.DenseResidual, Blend: 0.6, ShrinkBlend: true, RefitUncutAttention: true,
		}}, nil
	case Taylor:
		return Recipe{Method: importance.Taylor, Refit: none}, nil
	case Depth:
		return Recipe{Layers: true, Refit: none}, nil
	case Random:
		return Recipe{Refit: none}, nil
	}
	return Recipe{}, fmt.Errorf("%q: %w", p, ErrPreset)
}
