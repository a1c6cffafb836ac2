package oneshot

import (
	"errors"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/importance"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// ErrRatio means that a ratio is outside (0, 1], or smaller than the units that may be dropped allow.
var ErrRatio = errors.New("ratio out of reach")

// Config configures OneShot and Refit. The zero value is the preset "allocated" with its own settings.
type Config struct {
	Preset preset.Preset // "" is the default
	// Recipe replaces what the preset does; nil leaves it.
	Recipe *Recipe
	// Granularity is the step of MLP widths, 0 is subnet.DefaultGranularity. Others must divide the MLP widths of the model.
	Granularity int
	// Attention is whether KV groups are dropped too. nil leaves it to the recipe, except that they are where MLP channels alone
	// do not reach the ratio.
	Attention *bool
	// Within replaces the ratio: it returns nil for masks that are small enough, and otherwise an error that names the nearest
	// possible. OneShot then ignores its ratio and drops as little as Within allows.
	Within func(subnet.Masks) error
	// Cost, with Within, is what it compares, such as bytes with a KV cache or seconds: units whose loss is compared across modules
	// are dropped where they lose least for what they save of it. nil is the number of parameters.
	Cost func(subnet.Masks) float64
	// Seed is for random choices.
	Seed uint64
	// HeldOut is as in reform.Config.
	HeldOut float64
	// Rechoose has Refit choose the units too, layer by layer on the subnet's own inputs; the masks then only determine how
	// many units each module keeps.
	Rechoose bool
	// Progress, unless nil, is called from one goroutine after every step.
	Progress func(Event)
}

// resolve fills in the defaults and returns the recipe.
func (c *Config) resolve() (Recipe, error) {
	if c.Preset == "" {
		c.Preset = preset.Default
	}
	if c.Recipe != nil {
		return *c.Recipe, nil
	}
	return RecipeOf(c.Preset)
}

func (c *Config) report(e Event) {
	if c.Progress != nil {
		c.Progress(e)
	}
}

// refit returns the configuration for package reform. chooser may be nil.
func (c *Config) refit(r Recipe, chooser reform.Chooser) reform.Config {
	return reform.Config{Recipe: r.Refit, Chooser: chooser, HeldOut: c.HeldOut, Progress: func(done, total int, m reform.ModuleReport) {
		c.report(Event{Phase: Reforming, Done: done, Total: total, Module: &m})
	}}
}

// Phase is a phase of the work.
type Phase string

// The phases, in the order in which they run; not every preset has all.
const (
	Surveying Phase = "survey"   // statistics of the dense model
	Measuring Phase = "measure"  // loss of cuts in single layers
	Typing    Phase = "types"    // loss of types in single groups of matrices
	Rounding  Phase = "rounding" // compensation of rounding errors
	Reforming Phase = "reform"   // choosing and re-fitting, layer by layer
)

// Phases returns the phases of a cut by a recipe, in the order in which they run. Their events are reported if they have something to do.
func (r Recipe) Phases() []Phase {
	units := r.Layers == NoLayers && r.Method != ""
	byDense := units && !r.Sequential // units are chosen before the pass that re-fits
	var out []Phase
	if r.Layers == ByCosine || byDense && r.Method != importance.Taylor {
		out = append(out, Surveying)
	}
	if r.Layers == ByLoss || byDense && r.Method == importance.Taylor || units && r.Widths == Sensitive {
		out = append(out, Measuring)
	}
	if r.Refit.Solve.Method != reform.None || r.Refit.Solve.Bias || units && r.Sequential {
		out = append(out, Reforming)
	}
	return out
}

// Event reports progress: Done of Total steps of a phase are finished.
type Event struct {
	Phase       Phase
	Done, Total int
	Module      *reform.ModuleReport // the module just re-fitted, while reforming
}

// Report reports what OneShot or Refit did.
type Report struct {
	Preset preset.Preset `json:"preset,omitempty"`
	Target float64       `json:"target,omitempty"` // requested inheriting ratio
	// Granularity is the step of MLP widths, 0 where none were chosen.
	Granularity int `json:"granularity,omitempty"`
	// Attention reports whether KV groups could be dropped too.
	Attention bool `json:"attention,omitempty"`
	// Predicted is the rise of the loss, in nats per token, by which the widths were chosen; 0 where they were not.
	Predicted float64 `json:"predicted,omitempty"`
	// Size is the choice of Sized, nil for others.
	Size *SizeReport `json:"size,omitempty"`
	reform.Report
}
