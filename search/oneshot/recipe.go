package oneshot

import (
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/importance"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// ErrPreset means that a preset does not exist.
var ErrPreset = errors.New("unknown preset")

// Widths is how the units to drop are shared out over the layers.
type Widths int

// The ways to share out.
const (
	Uniform   Widths = iota // the same share everywhere
	Global                  // by scores standardised within each layer
	Sensitive               // where the model's loss rises least
)

// Layers is whether whole layers are dropped, and which.
type Layers int

// The ways to drop layers.
const (
	NoLayers Layers = iota // units of layers are dropped instead
	ByLoss                 // each time the one without which the model's loss is least (SLEB)
	ByCosine               // those whose hidden states before and after are the most similar (ShortGPT)
)

// Recipe is what a preset does.
type Recipe struct {
	Method     importance.Method // how units are ranked; "" is random
	Widths     Widths
	Floor      float64 // share of its channels that every layer keeps; uniform widths ignore it
	Attention  bool    // KV groups are dropped too; otherwise MLP channels alone, as long as those reach the ratio
	Sequential bool    // units are ranked on the subnet's own inputs; otherwise on the dense model's
	Layers     Layers  // other than NoLayers: whole layers are dropped and nothing else
	Refit      reform.Recipe
}

// RecipeOf returns what a preset does.
func RecipeOf(p preset.Preset) (Recipe, error) {
	none := reform.Recipe{Solve: reform.Options{Method: reform.None}}
	bias := reform.Recipe{Solve: reform.Options{Method: reform.None, Bias: true}}
	switch p {
	case preset.PaperInit:
		return Recipe{Method: importance.Phi, Sequential: true, Refit: none}, nil
	case preset.FLAP:
		return Recipe{Method: importance.FLAP, Sequential: true, Refit: bias}, nil
	case preset.FLAPGlobal:
		return Recipe{Method: importance.FLAP, Widths: Global, Floor: 0.25, Refit: bias}, nil
	case preset.WandaSP:
		return Recipe{Method: importance.Wanda, Sequential: true, Refit: none}, nil
	case preset.OBS:
		return Recipe{Method: importance.OBS, Sequential: true}, nil
	case preset.Allocated:
		return Recipe{Method: importance.OBS, Sequential: true, Widths: Sensitive, Refit: reform.Recipe{
			Solve: reform.Options{Lambdas: []float64{0.01, 0.03, 0.1, 0.3}, Pull: true}, Relative: true,
			Target: reform.DenseResidual, Blend: 0.6, ShrinkBlend: true, RefitUncutAttention: true,
		}}, nil
	case preset.Taylor:
		return Recipe{Method: importance.Taylor, Refit: none}, nil
	case preset.Magnitude:
		return Recipe{Method: importance.Magnitude, Refit: none}, nil
	case preset.PhiDiagonal:
		return Recipe{Method: importance.PhiDiagonal, Sequential: true, Refit: none}, nil
	case preset.Leverage:
		return Recipe{Method: importance.Leverage, Sequential: true}, nil
	case preset.Depth:
		return Recipe{Layers: ByLoss, Refit: none}, nil
	case preset.Cosine:
		return Recipe{Layers: ByCosine, Refit: none}, nil
	case preset.Random:
		return Recipe{Refit: none}, nil
	}
	return Recipe{}, fmt.Errorf("%q: %w", p, ErrPreset)
}
