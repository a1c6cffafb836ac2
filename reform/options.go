package reform

import (
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

var (
	// ErrPreset means that a preset does not exist.
	ErrPreset = errors.New("unknown preset")
	// ErrRatio means that a ratio is outside (0, 1], or smaller than the units that may be dropped allow.
	ErrRatio = errors.New("ratio out of reach")
	// ErrText means that there is too little calibration text.
	ErrText = errors.New("too little calibration text")
)

// Preset names a way to choose and repair: one of the paper's or its rivals' methods, on equal terms.
type Preset string

// The presets. All but FLAPGlobal, Allocated and Depth give every layer the same share of its channels. Those that rank by
// statistics take them layer by layer from inputs that have passed what was cut before, but for FLAPGlobal and Taylor, which
// need those of all layers at once.
const (
	PaperInit  Preset = "paper-init"  // the paper's Phi, no repair
	FLAP       Preset = "flap"        // fluctuation, with bias (arXiv 2312.11983)
	FLAPGlobal Preset = "flap-global" // as FLAP, with widths by standardised fluctuation, at least a quarter of each layer
	WandaSP    Preset = "wanda-sp"    // activation-weighted magnitude, no repair
	OBS        Preset = "obs"         // brain surgeon and exact re-fit (as ZipLM, OSSCAR)
	Allocated  Preset = "allocated"   // as OBS, with widths by measured sensitivity and a pulled re-fit toward the dense states
	Taylor     Preset = "taylor"      // first-order loss change, no repair (LLM-Pruner)
	Depth      Preset = "depth"       // whole layers, the one whose absence costs least at a time (SLEB, arXiv 2402.09025)
	Random     Preset = "random"      // units drawn by chance, no repair
)

// Presets lists all presets.
func Presets() []Preset {
	return []Preset{PaperInit, FLAP, FLAPGlobal, WandaSP, OBS, Allocated, Taylor, Depth, Random}
}

// Widths says how the units to drop are shared out over the layers.
type Widths int

// The ways to share out.
const (
	Uniform   Widths = iota // the same share everywhere
	Global                  // by scores standardised within each layer
	Sensitive               // where the model's loss grows least
)

// Goal says what a re-fitted matrix should reproduce.
type Goal int

// The goals.
const (
	// Own is what the original weights say on the inputs that the subnet really has.
	Own Goal = iota
	// DenseOutput is what the same matrix says in the dense model.
	DenseOutput
	// DenseState is the hidden state of the dense model after the block: what the block adds then also makes up for the
	// errors of the layers before. Where blocks norm what they say, it is Own.
	DenseState
)

// Recipe is how a preset chooses and repairs.
type Recipe struct {
	Method     importance.Method // how units are ranked; "" by chance
	Widths     Widths
	Floor      float64 // share of its channels that every layer keeps; widths that are uniform do not look at it
	Attention  bool    // KV groups are dropped too; otherwise MLP channels alone
	Sequential bool    // units are ranked on the subnet's own inputs; otherwise on the dense model's
	Layers     bool    // whole layers are dropped and nothing else
	Solve      Options
	Goal       Goal
	// Share is how far the target goes from Own to Goal, over 0 and up to 1; 0 is 1. All of the way, the fit follows the
	// errors of the layers before on the calibration text too closely.
	Share float64
	// Damped takes less of Share where there is little text for the columns to fit: T/(T + 10·n) of it with T tokens and n
	// columns.
	Damped bool
	// Whole has the W_O re-fitted of attention blocks that nothing is dropped from, where the goal is DenseState and
	// something was dropped before them. Without it they stay as they are.
	Whole bool
	// UpSteps is by how many steps of conjugate gradients the W_U of an MLP's kept channels is re-fitted, after its W_D and
	// before that is re-fitted once more; 0 leaves W_U as it is. It goes with exact re-fits without a bias, and not with the goal
	// DenseOutput; its own goal is always Own.
	UpSteps int
	// Relative weighs each token by the size of its hidden state: the next norm sees an error beside that. Without it,
	// the few tokens with very large states decide. It has no effect with DenseOutput, nor where
	// a bias is found, which is the same for all tokens.
	Relative bool
}

// refitsUp says whether W_U of a module is re-fitted.
func (r Recipe) refitsUp(m subnet.Module) bool {
	return m == subnet.MLP && r.UpSteps > 0 && r.Goal != DenseOutput && (r.Solve.Method == "" || r.Solve.Method == Exact) && !r.Solve.Bias
}

func (r Recipe) relative() bool { return r.Relative && r.Goal != DenseOutput && !r.Solve.Bias }

func (r Recipe) share() float64 {
	if r.Share == 0 {
		return 1
	}
	return r.Share
}

// shareTokens is how many tokens a column [Recipe.Damped] takes half of the share with.
const shareTokens = 10

// damped is the recipe with the share that so much text is worth.
func (r Recipe) damped(tokens, columns int) Recipe {
	if r.Damped && tokens > 0 {
		r.Share = r.share() * float64(tokens) / float64(tokens+shareTokens*columns)
	}
	return r
}

// Recipe returns what a preset does.
func (p Preset) Recipe() (Recipe, error) {
	none := Options{Method: None}
	switch p {
	case PaperInit:
		return Recipe{Method: importance.Phi, Sequential: true, Solve: none}, nil
	case FLAP:
		return Recipe{Method: importance.FLAP, Sequential: true, Solve: Options{Method: None, Bias: true}}, nil
	case FLAPGlobal:
		return Recipe{Method: importance.FLAP, Widths: Global, Floor: 0.25, Solve: Options{Method: None, Bias: true}}, nil
	case WandaSP:
		return Recipe{Method: importance.Wanda, Sequential: true, Solve: none}, nil
	case OBS:
		return Recipe{Method: importance.OBS, Sequential: true}, nil
	case Allocated:
		return Recipe{
			Method: importance.OBS, Sequential: true, Widths: Sensitive,
			Solve: Options{Lambdas: []float64{0.01, 0.03, 0.1, 0.3}, Pull: true}, Relative: true,
			Goal: DenseState, Share: 0.6, Damped: true, Whole: true,
		}, nil
	case Taylor:
		return Recipe{Method: importance.Taylor, Solve: none}, nil
	case Depth:
		return Recipe{Layers: true, Solve: none}, nil
	case Random:
		return Recipe{Solve: none}, nil
	}
	return Recipe{}, fmt.Errorf("%q: %w", p, ErrPreset)
}

// Config says how OneShot makes a subnet. The zero value is the preset "allocated" with its own settings.
type Config struct {
	Preset Preset
	// Recipe replaces what the preset does; nil leaves it.
	Recipe *Recipe
	// Granularity is the step of MLP widths, 0 is mask.DefaultGranularity.
	Granularity int
	// Seed is for what is drawn by chance.
	Seed uint64
	// HeldOut is the share of the windows that ridges are chosen on, 0 is a quarter. With fewer than four windows, or
	// one ridge to choose from, none are held out.
	HeldOut float64
	// Rechoose has Refit pick the units anew, layer by layer on the subnet's own inputs; the masks then say how many each
	// module keeps.
	Rechoose bool
	// Progress, where not nil, is called from one goroutine after every step.
	Progress func(Event)
}

// Phase is a part of the work.
type Phase string

// The phases, in the order they come in; not every preset has all.
const (
	Surveying Phase = "survey"  // statistics of the dense model
	Measuring Phase = "measure" // loss of cuts in single layers
	Reforming Phase = "reform"  // choosing and re-fitting, layer by layer
)

// Event reports progress: Done of Total steps of a phase are over. While reforming it tells of the module just done.
type Event struct {
	Phase       Phase
	Done, Total int
	Module      *ModuleReport // nil but while reforming
}

// ModuleReport says what happened to one module of one layer.
type ModuleReport struct {
	Layer     int     `json:"layer"`
	Module    string  `json:"module"`
	Kept      int     `json:"kept"` // columns of the output matrix
	Of        int     `json:"of"`
	ErrBefore float64 `json:"error_before"` // shares of the wanted outputs' energy, see Result
	ErrAfter  float64 `json:"error_after"`
	HeldOut   float64 `json:"error_held_out,omitempty"`
	Lambda    float64 `json:"ridge,omitempty"`
	Raised    bool    `json:"ridge_raised,omitempty"`
	// Curve is ADMM's error after each step.
	Curve   []float64 `json:"curve,omitempty"`
	Warning string    `json:"warning,omitempty"`
}

// Report says what OneShot or Refit did.
type Report struct {
	Preset  Preset  `json:"preset,omitempty"`
	Target  float64 `json:"target,omitempty"`
	Ratio   float64 `json:"ratio"`  // inheriting ratio over the block matrices
	Tokens  int     `json:"tokens"` // of calibration text
	Seconds float64 `json:"seconds"`
	// Predicted is the rise of the loss, in nats per token, that the widths were chosen by; 0 where they were not.
	Predicted float64        `json:"predicted,omitempty"`
	Modules   []ModuleReport `json:"modules"`
	Warnings  []string       `json:"warnings,omitempty"`
}

func moduleName(layer int, m subnet.Module) string { return fmt.Sprintf("layer %d %s", layer, m) }
