package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// Cut implements [explorer.Cutter].
func (m *model) Cut(ctx context.Context, c explorer.Cut, mon explorer.Monitor) (explorer.Made, error) {
	method := explorer.Method{Preset: c.Preset, Seed: c.Seed}.AimedAt(cmp.Or(c.Within, search.Ratio(c.Target)))
	within, cost, err := m.within(ctx, c, mon)
	if err != nil {
		return explorer.Made{}, err
	}
	if c.Calibration.Seed == 0 {
		c.Calibration.Seed = c.Seed
	}
	reach := func(config *oneshot.Config) error {
		config.Attention, config.Granularity, config.Within, config.Cost = c.Attention, c.Granularity, within, cost
		return oneshot.Reach(m.geometry(), c.Target, *config)
	}
	job := making{calibration: c.Calibration, reform: c.Reform, method: method, begin: reach, phases: oneshot.Recipe.Phases, run: func(w work) (gguf.Subnet, oneshot.Report, error) {
		return oneshot.OneShot(ctx, w.dm, w.text.windows, c.Target, w.config)
	}}
	if c.Tuning.On() {
		job.after = 1
	}
	return m.make(ctx, job, mon)
}

// within returns what decides whether a cut is small enough, and what it compares: nil where the ratio decides.
func (m *model) within(ctx context.Context, c explorer.Cut, mon explorer.Monitor) (enough func(subnet.Masks) error, cost func(subnet.Masks) float64, err error) {
	if c.Within == (search.Target{}) {
		return nil, nil, nil
	}
	recipe, err := recipeOf(c.Preset, c.Reform)
	if err != nil {
		return nil, nil, err
	}
	all, err := m.Prices(ctx, c.Within, "", mon)
	if err != nil {
		return nil, nil, err
	}
	if p, ok := all.(*prices); ok && recipe.Refit.Solve.Bias {
		all = biased{p}
	}
	var vocab subnet.Set
	if c.Vocab.On() { // trimmed afterwards
		if vocab, _, err = m.TrimVocab(ctx, c.Vocab, c.Calibration, mon); err != nil {
			return nil, nil, err
		}
	}
	cost = func(masks subnet.Masks) float64 { return c.Within.Cost(masks, all) }
	enough = func(masks subnet.Masks) (err error) {
		if c.Vocab.On() {
			if masks, err = masks.WithVocab(vocab); err != nil {
				return err
			}
		}
		size := cost(masks)
		if c.Within.Measure == search.Bytes {
			size += metadataRoom
		}
		return c.Within.Within(size)
	}
	return enough, cost, nil
}

// metadataRoom is how many bytes files of cuts have, beyond those of other masks with as many units, for which units they keep and how
// they were made.
const metadataRoom = 2048

// biased are the prices of subnets with output biases.
type biased struct{ *prices }

func (b biased) Bytes(m subnet.Masks, typ string) (file, tensors int64, err error) {
	size, err := b.files.Of(m, gguf.Refitted{Outputs: true, Biases: true}, typ)
	return size.File, size.Tensors, err
}

// Refit implements [explorer.Cutter].
func (m *model) Refit(ctx context.Context, masks subnet.Masks, c explorer.Refit, mon explorer.Monitor) (explorer.Made, error) {
	return m.make(ctx, making{
		calibration: c.Calibration, reform: c.Reform, method: explorer.Method{Preset: c.Preset, Seed: c.Calibration.Seed},
		phases: func(oneshot.Recipe) []oneshot.Phase { return []oneshot.Phase{oneshot.Reforming} },
		run: func(w work) (gguf.Subnet, oneshot.Report, error) {
			return oneshot.Refit(ctx, w.dm, w.text.windows, masks, w.config)
		},
	}, mon)
}

// A making is a subnet that is to be made.
type making struct {
	calibration explorer.Calibration
	reform      explorer.ReformOptions
	method      explorer.Method
	phases      func(oneshot.Recipe) []oneshot.Phase // of run
	before      []string                             // phases of the job before the text is prepared
	between     []string                             // those of run after the others
	after       int                                  // how many follow
	// begin, unless nil, completes the configuration before text is prepared, which may take minutes, and refuses what cannot be made.
	begin func(*oneshot.Config) error
	run   func(work) (gguf.Subnet, oneshot.Report, error)
}

// make prepares calibration, lets a function of package oneshot work, and measures what came out.
func (m *model) make(ctx context.Context, job making, mon explorer.Monitor) (explorer.Made, error) {
	return withRoom(ctx, m, room{calibration: job.calibration}, mon, func(bool) (explorer.Made, error) { return m.makeOnce(ctx, job, mon) })
}

// recipeFor returns the recipe of a making. equal is whether its widths are equal since files of the model need it.
func (m *model) recipeFor(job making) (r oneshot.Recipe, equal bool, err error) {
	if r, err = recipeOf(job.method.Preset, job.reform); err == nil && r.Widths != oneshot.Uniform && !m.geometry().Limits().PerLayer {
		r.Widths, r.Attention, equal = oneshot.Uniform, false, true
	}
	return r, equal, err
}

func (m *model) makeOnce(ctx context.Context, job making, mon explorer.Monitor) (explorer.Made, error) {
	c, method := job.calibration, job.method
	recipe, equal, err := m.recipeFor(job)
	if err != nil {
		return explorer.Made{}, err
	}
	if equal {
		mon.Note(fmt.Sprintf("files of %s models have the same widths in all layers, so all keep the same share", m.geometry().Arch))
	}
	phase, err := m.stagesOf(job, mon)
	if err != nil {
		return explorer.Made{}, err
	}
	var paused atomic.Int64 // nanoseconds, taken out of the time that the work took
	w := work{phase: phase, config: oneshot.Config{Preset: preset.Preset(method.Preset), Recipe: &recipe, Seed: method.Seed, Progress: func(e oneshot.Event) {
		came := time.Now()
		name, _ := phaseWords(e.Phase)
		phase.begin(name)
		reportAndGate(ctx, mon, e)
		paused.Add(int64(time.Since(came)))
	}}}
	if job.begin != nil {
		if err := job.begin(&w.config); err != nil {
			return explorer.Made{}, translate(err)
		}
	}
	phase.begin(textPhase)
	mon.Progress(0, 0, "layers", "tokenising")
	if w.text, err = m.calibration(ctx, c, orDefault(c.Windows, explorer.FitWindows), c.Windows == 0, mon); err != nil {
		return explorer.Made{}, err
	}
	mon.Progress(0, 0, "layers", "loading the model")
	if w.dm, err = m.weights(ctx); err != nil {
		return explorer.Made{}, err
	}
	var sub gguf.Subnet
	var report oneshot.Report
	err = mon.Persist(ctx, func() (err error) { // its temporary files are as large as the text's states
		paused.Store(0) // it may run again
		sub, report, err = job.run(w)
		return err
	})
	if err != nil {
		return explorer.Made{}, translate(err)
	}
	for _, warning := range report.Warnings {
		mon.Note(warning)
	}
	made := explorer.Made{Subnet: sub, Method: method}
	if method.Preset == "" {
		made.Method.Preset = string(report.Preset)
	}
	made.Method.Attention, made.Method.Granularity = report.Attention, report.Granularity
	made.Method.Typed = typed(report.Size)
	recordRefit(&made.Method, sub, recipe.Refit, m.geometry())
	w.text.describe(&made.Method, len(w.text.windows))
	made.Method.Seq = len(w.text.windows[0])
	made.Method.Seconds = max(report.Seconds-time.Duration(paused.Load()).Seconds(), 0)
	m.recordCompute(&made.Method)
	phase.free()
	phase.begin(scoringPhase)
	return made, m.judge(ctx, w.text, &made, mon)
}

// recordCompute records what computed.
func (m *model) recordCompute(me *explorer.Method) {
	info := m.Info()
	me.Backend, me.Algebra = info.Compute, info.Algebra
	with := m.loadedWith()
	if me.AtOnce = with.atOnce; with.half {
		me.ComputeType = explorer.HalfFloats
	}
}

// recordRefit records how a subnet was re-fitted.
func recordRefit(me *explorer.Method, s gguf.Subnet, r reform.Recipe, g *subnet.Geometry) {
	solve := r.Solve
	if r.Target == reform.DenseResidual && !explorer.FitsResidual(g) {
		r.Target = reform.LocalOutput
	}
	me.Reform = string(cmp.Or(solve.Method, reform.Exact))
	me.Bias, me.Up = solve.Bias, upSteps(s, r)
	if solve.Method == reform.None {
		return
	}
	me.Gradient = r.GradientSteps
	me.Pull, me.FitTarget = solve.Pull, r.Target.String()
	me.Bridge, me.Weigh = r.Bridge && r.Target == reform.DenseResidual, weighing(r)
	switch len(solve.Lambdas) {
	case 0:
		lambda := reform.DefaultLambda
		me.Lambda = &lambda
	case 1:
		me.Lambda = &solve.Lambdas[0]
	}
	if solve.Method == reform.ADMM {
		me.Rho, me.Steps = cmp.Or(solve.Rho, reform.DefaultRho), cmp.Or(solve.Steps, reform.DefaultSteps)
	}
}

// weighing returns what tokens count by in a re-fit.
func weighing(r reform.Recipe) string {
	list := explorer.Weighings()
	switch {
	case r.Target == reform.DenseOutput || r.Solve.Bias || !r.Relative && !r.ByGradient:
		return list[0]
	case r.ByGradient:
		return list[2]
	}
	return list[1]
}

// upSteps is by how many steps W_U of a subnet was re-fitted.
func upSteps(s gguf.Subnet, r reform.Recipe) int {
	if slices.ContainsFunc(s.Refit, func(f gguf.Refit) bool { return f.WU != nil }) {
		return r.UpSteps
	}
	return 0
}

// work is what making a subnet works with.
type work struct {
	phase  *stages
	dm     *decoder.Model
	text   passage
	config oneshot.Config
}

// quickSeq is how many tokens at the end of the calibration text show the effect of a re-fitting.
const quickSeq = explorer.HeldOutTokens

// judge measures what was made on text that was not calibrated on, beside the dense model, and on the default text where
// another one was calibrated on. Re-fitted weights that are worse there than the original ones are dropped.
func (m *model) judge(ctx context.Context, p passage, made *explorer.Made, mon explorer.Monitor) error {
	var err error
	if t := made.Method.Typed; t != nil && len(p.end) > 0 {
		made.Before, made.After, t.Measured, err = m.quickTyped(ctx, p, made.Subnet, mon)
	} else {
		made.Before, made.After, err = m.quick(ctx, p, made.Subnet, mon)
	}
	if err != nil {
		return err
	}
	dense := gguf.Subnet{Masks: subnet.Dense(m.geometry())}
	if made.Before > 0 {
		if made.Dense, _, err = m.quick(ctx, p, dense, mon); err != nil {
			return err
		}
	}
	limit := explorer.WorseBy * max(made.Before, made.Dense)
	if made.Method.Typed != nil { // whole matrices may be copied without it, which cost nothing
		limit = made.Before
	}
	if made.Subnet.Refit != nil && made.Before > 0 && !(made.After <= limit) {
		mon.Note(fmt.Sprintf("the re-fit made the subnet worse (perplexity %.2f instead of %.2f on held-out text): the original weights are kept", made.After, made.Before))
		made.Rejected, made.After, made.Method.Kept = made.After, made.Before, explorer.KeptOriginal
		made.Subnet.Refit = nil
		if t := made.Method.Typed; t != nil {
			if _, _, t.Measured, err = m.quickTyped(ctx, p, made.Subnet, mon); err != nil {
				return err
			}
		}
	}
	return m.general(ctx, p, made, mon)
}

// general measures what was made on the default text, where another one was calibrated on.
func (m *model) general(ctx context.Context, p passage, made *explorer.Made, mon explorer.Monitor) error {
	general := m.engine.options.Text
	if general == "" || !p.other {
		return nil
	}
	end, err := m.end(ctx, general, 1)
	if err != nil {
		return err
	}
	if made.General.Dense, _, err = m.quick(ctx, end, gguf.Subnet{Masks: subnet.Dense(m.geometry())}, mon); err != nil {
		return err
	}
	_, made.General.After, err = m.quick(ctx, end, made.Subnet, mon)
	return err
}

// quick takes the perplexity of a subnet, without and with its re-fitted weights, on the ends of texts that were not calibrated on. A
// passage without one gives 0.
func (m *model) quick(ctx context.Context, p passage, s gguf.Subnet, mon explorer.Monitor) (before, after float64, err error) {
	if len(p.end) == 0 {
		return 0, 0, nil
	}
	p.windows = p.end
	if after, err = m.perplexity(ctx, s, p, mon); err != nil || s.Refit == nil {
		return after, after, err
	}
	s.Refit = nil
	before, err = m.perplexity(ctx, s, p, mon)
	return before, after, err
}

func (m *model) perplexity(ctx context.Context, s gguf.Subnet, p passage, mon explorer.Monitor) (float64, error) {
	q, _, err := m.scoreDecoder(ctx, s, "", p, mon)
	return q.Perplexity, err
}

// recipeOf returns what a preset does, changed by the options of a command.
func recipeOf(name string, o explorer.ReformOptions) (oneshot.Recipe, error) {
	if name == "" {
		name = string(preset.Default)
	}
	r, err := oneshot.RecipeOf(preset.Preset(name))
	if err != nil {
		return r, fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	r.Refit, err = changed(r.Refit, o)
	return r, err
}

// changed returns a recipe changed by the options of a command. Options that have no effect on it are errors.
func changed(r reform.Recipe, o explorer.ReformOptions) (reform.Recipe, error) {
	method := reform.Method(o.Method)
	switch method {
	case "":
	case reform.ADMM:
		if o.OwnRidge {
			r.Solve.Method, r.Target = method, reform.LocalOutput
		} else if r.Solve.Method != reform.ADMM {
			r = reform.Paper()
		}
	case reform.Exact:
		r.Solve.Method = method
	case reform.None:
		r.Solve.Method, r.Target = method, reform.LocalOutput
	default:
		return r, fmt.Errorf("%w: re-fitting by %q, not %s", explorer.ErrInvalid, o.Method, strings.Join(explorer.FitMethods(), ", "))
	}
	if o.Bridge != nil {
		if r.Bridge = *o.Bridge; r.Bridge {
			r = bridged(r, o)
		}
	}
	if o.Target != "" {
		target, err := reform.ParseTarget(o.Target)
		if err != nil {
			return r, fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
		}
		r.Target = target
	}
	if o.Lambda != nil {
		r.Solve.Lambdas = []float64{*o.Lambda}
	}
	if o.Pull != nil {
		r.Solve.Pull = *o.Pull
	}
	if o.Bias != nil {
		r.Solve.Bias = *o.Bias
	}
	if o.Weigh != "" {
		r.Relative, r.ByGradient = o.Weigh == explorer.Weighings()[1], o.Weigh == explorer.Weighings()[2]
		if r.ByGradient && o.Up == nil {
			r.UpSteps = 0
		}
	}
	r.Solve.Rho, r.Solve.Steps = cmp.Or(o.Rho, r.Solve.Rho), cmp.Or(o.Steps, r.Solve.Steps)
	if o.Up != nil {
		r.UpSteps = *o.Up
	}
	if o.Gradient != nil {
		r.GradientSteps = *o.Gradient
	}
	return r, withoutEffect(r, o)
}

// bridged returns a recipe that fits modules before dropped layers to what is behind them. One that re-fits nothing gets the re-fit of the
// default preset.
func bridged(r reform.Recipe, o explorer.ReformOptions) reform.Recipe {
	if r.Solve.Method == reform.None && !r.Solve.Bias && o.Method == "" {
		if d, err := oneshot.RecipeOf(preset.Default); err == nil {
			r = d.Refit
		}
	}
	r.Bridge, r.Target = true, reform.DenseResidual
	return r
}

// withoutEffect returns an error that names an option which a recipe does not use.
func withoutEffect(r reform.Recipe, o explorer.ReformOptions) error {
	method := cmp.Or(r.Solve.Method, reform.Exact)
	refused := func(option, needs string) error {
		return fmt.Errorf("%w: %s has no effect: it needs %s, and the re-fit is %s", explorer.ErrInvalid, option, needs, method)
	}
	weights := "one that changes weights (exact or admm)"
	switch none := method == reform.None; {
	case o.Rho != 0 && method != reform.ADMM:
		return refused("rho", "admm")
	case o.Steps != 0 && method != reform.ADMM:
		return refused("steps", "admm")
	case o.Lambda != nil && none:
		return refused("lambda", weights)
	case o.Pull != nil && *o.Pull && none:
		return refused("pull", weights)
	case o.Target != "" && none && !r.Solve.Bias:
		return refused("a target", weights)
	case (r.Relative || r.ByGradient) && o.Weigh != "" && (none || r.Solve.Bias || r.Target == reform.DenseOutput):
		return refused("weigh", weights+" without a bias, to another target than dense")
	case r.Bridge && (none || r.Target != reform.DenseResidual):
		return refused("bridge", weights+" to the target residual")
	case r.GradientSteps > 0 && !r.RefitsByGradient():
		return refused("gradient-refit", "an exact re-fit without a bias and without steps of W_U, to another target than dense, with tokens not weighed by gradients")
	case o.Up != nil && *o.Up > 0 && !r.RefitsUp():
		return refused("up", "an exact re-fit without a bias, to another target than dense")
	}
	return nil
}

// reportAndGate reports an event and blocks while the job is paused. The caller's computation finds that ctx has ended.
func reportAndGate(ctx context.Context, mon explorer.Monitor, e oneshot.Event) {
	report(mon, e)
	_ = mon.Gate(ctx)
}

// report reports an event.
func report(mon explorer.Monitor, e oneshot.Event) {
	_, step := phaseWords(e.Phase)
	unit := "layers"
	if r := e.Module; r != nil {
		unit = "blocks"
		step = fmt.Sprintf("layer %d · %s", r.Layer, r.Module)
		part := draft.MLP
		if r.Module == subnet.Attention.String() {
			part = draft.Attention
		}
		mon.Layer(explorer.LayerProgress{
			Layer: r.Layer, Module: part, Kept: r.Kept, Of: r.Of, ErrBefore: r.ErrBefore, ErrAfter: r.ErrAfter,
			HeldOut: r.HeldOut, Ridge: r.Lambda, Raised: r.Raised, Curve: r.Curve, Gradient: (*explorer.Gradient)(r.Gradient),
		})
	}
	mon.Progress(float64(e.Done), float64(e.Total), unit, step)
}

// translate gives errors of packages oneshot and reform the sentinels of the explorer.
func translate(err error) error {
	switch {
	case errors.Is(err, search.ErrTarget) && !errors.Is(err, explorer.ErrInvalid):
		return fmt.Errorf("%w: %w", explorer.ErrUnsupported, err)
	case errors.Is(err, oneshot.ErrSize):
		return fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	case errors.Is(err, oneshot.ErrRatio), errors.Is(err, oneshot.ErrPreset), errors.Is(err, subnet.ErrInvalid):
		return fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	case errors.Is(err, reform.ErrText):
		return fmt.Errorf("%w: %w", explorer.ErrText, err)
	}
	return err
}
