package explorer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// Tune trains the norms, the channel scales and, where files hold them, the output biases of a subnet of the library end to end on
// the divergence from the dense model. Its matrices stay as they are. The result is another subnet of the library.
type Tune struct {
	Subnet      SubnetID
	Name        string
	Calibration Calibration
	Tuning      Tuning
}

// Tuning is how long and how a subnet is tuned. Seconds or Steps must be positive.
type Tuning struct {
	Seconds float64 `json:"seconds,omitempty"` // most time to compute
	Steps   int     `json:"steps,omitempty"`   // most steps
	Rate    float64 `json:"rate,omitempty"`    // Adam's step at first, 0 is the default
	Bias    *bool   `json:"bias,omitempty"`    // tune output biases; nil where files of the model hold them
	Rank    int     `json:"rank,omitempty"`    // of what is added to the matrices, 0 leaves them as they are
	Seed    uint64  `json:"seed,omitempty"`
	// Optional leaves a subnet as it is, with a note, where the text is too short to tune on, which is an error otherwise.
	Optional bool `json:"optional,omitempty"`
	// Until and Marks repeat an earlier run up to its best step: [Tuned.Best] and [Tuned.Marks]. Steps is then [Tuned.Of].
	Until int   `json:"until,omitempty"`
	Marks []int `json:"marks,omitempty"`
}

// DefaultTuneSteps is how long a cut is tuned by default.
const DefaultTuneSteps = 40

// DefaultTuning returns the tuning of a cut for which none is asked: [DefaultTuneSteps] after the default method with its re-fit and the default
// number of windows, and none after a method that was published without it or where another number of windows, and so another time, is asked for.
func DefaultTuning(c Cut) Tuning {
	if c.Preset != "" && c.Preset != string(preset.Default) || c.Reform.Method == "none" || c.Calibration.Windows > 0 {
		return Tuning{}
	}
	return Tuning{Steps: DefaultTuneSteps, Seed: 1, Optional: true}
}

// On reports whether there is anything to tune for.
func (t Tuning) On() bool { return t.Seconds > 0 || t.Steps > 0 }

// Tuned is what tuning did to a subnet: with the text at hand it can be done again.
type Tuned struct {
	Steps   int     `json:"steps"`
	Of      int     `json:"of_steps,omitempty"` // that were asked for, 0 for a time alone
	Tokens  int     `json:"tokens"`             // of all steps, repetitions counted
	Numbers int     `json:"numbers"`
	Rate    float64 `json:"rate"`
	Bias    bool    `json:"bias"`
	Rank    int     `json:"rank,omitempty"` // of what was added to the matrices, 0 for nothing
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`
	// Before and After are divergences from the dense model on held-out windows, in nats per token, with Best the step of After.
	Before float64      `json:"divergence_before"`
	After  float64      `json:"divergence"`
	Best   int          `json:"best_step"`
	Curve  []TunedPoint `json:"curve,omitempty"`
	// Stopped is why the run ended before its budget, or "".
	Stopped string `json:"stopped,omitempty"`
	// Marks are the steps before which each 64th of the time had passed, which the rates of the steps depend on; nil without a time.
	Marks []int `json:"marks,omitempty"`
	// Text and the fields after it are what the subnet was tuned on, as in [Method]; in entries from before they were recorded they are zero.
	Text     TextRef   `json:"text,omitzero"`
	Mix      []MixPart `json:"mix,omitempty"`
	Draw     string    `json:"draw,omitempty"`
	Windows  int       `json:"windows,omitempty"`
	Drawn    int       `json:"drawn,omitempty"`
	Seq      int       `json:"seq,omitempty"`
	DrawSeed uint64    `json:"draw_seed,omitempty"` // of the windows
	// Prior is an earlier tuning of the same subnet, nil for none.
	Prior *Tuned `json:"prior,omitempty"`
}

// TunedPoint is a check of a run on held-out windows.
type TunedPoint struct {
	Step    int     `json:"step"`
	Loss    float64 `json:"loss"`     // on the windows trained on since the last check, in nats per token
	HeldOut float64 `json:"held_out"` // in nats per token
}

// A Tuner tunes subnets.
type Tuner interface {
	// Tune tunes a subnet and returns it with its method, of which Tune is set. It keeps the state of the run in dir ("" keeps
	// nothing), where the same run continues after an interruption. Where tuning gains nothing it returns the subnet as it was.
	Tune(ctx context.Context, s gguf.Subnet, c Tune, dir string, m Monitor) (Made, error)
}

func (c Tune) do(_ context.Context, e *Exploration, a Actor) (Receipt, error) {
	s := e.Snapshot()
	if _, err := s.Masks(c.Subnet); err != nil {
		return Receipt{}, err
	}
	if c.Subnet == DenseID {
		return Receipt{}, fmt.Errorf("%w: the dense model does not diverge from itself: tune a subnet", ErrInvalid)
	}
	if err := errors.Join(e.checkCalibration(c.Calibration), c.Tuning.check()); err != nil {
		return Receipt{}, err
	}
	title := "tune " + s.label(c.Subnet)
	return e.launch(a, jobs.Foreground, JobTune, title, func(ctx context.Context, m *monitor) error { return e.tune(ctx, a, c, m) })
}

func (t Tuning) check() error {
	switch {
	case math.IsNaN(t.Seconds) || t.Seconds < 0 || t.Seconds > 1e7:
		return fmt.Errorf("%w: tuning for %g seconds, not in [0, 1e7]", ErrInvalid, t.Seconds)
	case t.Steps < 0 || t.Steps > 1e6:
		return fmt.Errorf("%w: tuning by %d steps, not in [0, 1000000]", ErrInvalid, t.Steps)
	case math.IsNaN(t.Rate) || t.Rate < 0 || t.Rate > 1:
		return fmt.Errorf("%w: tuning rate %g, not in [0, 1]", ErrInvalid, t.Rate)
	case !RankRange().Has(float64(t.Rank)):
		return fmt.Errorf("%w: tuning with a rank of %d, not in %v", ErrInvalid, t.Rank, RankRange())
	case t.Until < 0 || t.Until > 1e6 || t.Until == 0 && t.Marks != nil || t.Until > 0 && (t.Seconds > 0 || t.Steps > 0 && t.Until > t.Steps):
		return fmt.Errorf("%w: tuning until step %d of %d", ErrInvalid, t.Until, t.Steps)
	case len(t.Marks) > maxMarks || !slices.IsSorted(t.Marks) || len(t.Marks) > 0 && (t.Marks[0] < 0 || t.Marks[len(t.Marks)-1] > 1e6):
		return fmt.Errorf("%w: the marks of tuning are %v, not up to %d steps in their order", ErrInvalid, t.Marks, maxMarks)
	case t.Until > 0 && (t.Steps > 0 || len(t.Marks) > 0):
		return nil
	case !t.On():
		return fmt.Errorf("%w: tuning needs a time or a number of steps", ErrInvalid)
	}
	return nil
}

// maxMarks is how many marks a run has at most.
const maxMarks = 64

func (e *Exploration) tune(ctx context.Context, a Actor, c Tune, m *monitor) error {
	before := e.Snapshot()
	subject, err := e.loadSubnet(ctx, c.Subnet)
	if err != nil {
		return err
	}
	parent := c.Subnet
	if parent == DraftID {
		parent = before.Draft.Base
	}
	n, _ := before.Subnet(parent)
	e.begin(m, c.Subnet, n.Method)
	base := n.Method
	switch {
	case !hasRefit(subject): // whatever was recorded of other weights
		base.Reform, base.Bias, base.Tune = "none", false, nil
	case c.Subnet == DraftID && !n.Masks.Equal(subject.Masks): // its weights were carried over, which a recipe does not repeat
		base.Reform = ""
	}
	made, err := e.tuned(ctx, subject, base, c, m)
	if err != nil {
		return err
	}
	if why := made.Method.Tune.gainless(); why != "" {
		if c.Subnet == DraftID {
			return fmt.Errorf("tuning the draft gained nothing: %s", why)
		}
		m.show(func(j *Job) { j.Result = c.Subnet })
		e.notify(Warning, a.Name, fmt.Sprintf("tuning gained nothing, and %s stays as it was: %s", before.label(c.Subnet), why))
		return nil
	}
	name := c.Name
	if name == "" {
		name = before.label(c.Subnet) + " tuned"
	}
	return m.Persist(ctx, func() error { return e.keep(a, m, made, Subnet{Name: name, Origin: Reformed, Parent: parent}) })
}

// tuned tunes a subnet that was made by a method, and returns it with the method that includes the tuning.
func (e *Exploration) tuned(ctx context.Context, s gguf.Subnet, by Method, c Tune, m *monitor) (Made, error) {
	made, err := e.model.Tune(ctx, s, c, e.folder("tuning"), m)
	if err != nil {
		return Made{}, err
	}
	on, tuned := made.Method, made.Method.Tune
	if tuned.Of = c.Tuning.Steps; c.Tuning.Until > 0 {
		tuned.Marks = c.Tuning.Marks
	}
	tuned.Text, tuned.Mix, tuned.Draw, tuned.Windows, tuned.Drawn, tuned.Seq = on.Text, on.Mix, on.Draw, on.Windows, on.Drawn, on.Seq
	tuned.DrawSeed, tuned.Prior = max(c.Calibration.Seed, 1), by.Tune
	if made.Method = by; !by.Text.named() {
		made.Method.Text, made.Method.Windows, made.Method.Seq = on.Text, on.Windows, on.Seq
		made.Method.Mix, made.Method.Draw, made.Method.Drawn = on.Mix, on.Draw, on.Drawn
	}
	made.Method.Tune, made.Method.Backend, made.Method.Kept = tuned, on.Backend, ""
	made.Method.ComputeType, made.Method.AtOnce = on.ComputeType, on.AtOnce
	return made, nil
}

// tuneMade tunes what a job has made, on the same texts. Where tuning gains nothing it stays as it was, with a note.
func (e *Exploration) tuneMade(ctx context.Context, made Made, c Calibration, t Tuning, m *monitor) (Made, error) {
	c.Windows, c.Seq, c.Of = 0, 0, 0 // windows of tuning are shorter and more
	base := made.Method
	if !hasRefit(made.Subnet) {
		base.Reform, base.Bias = "none", false
	}
	tuned, err := e.tuned(ctx, made.Subnet, base, Tune{Calibration: c, Tuning: t}, m)
	if t.Optional && errors.Is(err, ErrText) {
		m.Note("not tuned: " + err.Error())
		return made, nil
	}
	if err != nil {
		return Made{}, fmt.Errorf("tuning: %w", err)
	}
	if why := tuned.Method.Tune.gainless(); why != "" {
		m.Note("tuning gained nothing, and the subnet stays as it was: " + why)
		return made, nil
	}
	tuned.Method.Seconds += tuned.Method.Tune.Seconds
	return tuned, nil
}

// ParseTuning reads a limit of tuning: a duration such as 10m or a number of steps such as 60steps or 60.
func ParseTuning(text string) (Tuning, error) {
	number, steps := strings.CutSuffix(text, "steps")
	if _, err := strconv.Atoi(text); steps || err == nil {
		n, err := strconv.Atoi(strings.TrimSpace(number))
		if err != nil || n < 1 {
			return Tuning{}, fmt.Errorf("%q is not a number of steps such as 60steps", text)
		}
		return Tuning{Steps: n}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return Tuning{}, fmt.Errorf("%q is neither a duration such as 10m nor a number of steps such as 60steps", text)
	}
	return Tuning{Seconds: d.Seconds()}, nil
}

// gainless returns why a tuning has left the subnet as it was, "" where it has not.
func (t *Tuned) gainless() string {
	if t.Best > 0 {
		return ""
	}
	return cmp.Or(t.Stopped, "the divergence on held-out text did not fall")
}

// again returns the settings that repeat a tuning up to its best step.
func (t *Tuned) again() Tuning {
	return Tuning{Steps: t.Of, Rate: t.Rate, Bias: &t.Bias, Rank: t.Rank, Seed: t.Seed, Until: t.Best, Marks: t.Marks}
}

// learned returns a method with the text of the tuning.
func (t *Tuned) learned() Method {
	return Method{Text: t.Text, Mix: t.Mix, Draw: t.Draw, Windows: t.Windows, Drawn: t.Drawn, Seq: t.Seq, Seed: t.DrawSeed}
}

// portable returns the tuning with the names of texts, without the folders of this machine.
func (t *Tuned) portable() *Tuned {
	if t == nil {
		return nil
	}
	out := *t
	out.Text.Path, out.Prior = baseName(t.Text.Path), t.Prior.portable()
	return &out
}

// runs returns the tunings of a subnet in their order.
func (t *Tuned) runs() []*Tuned {
	var out []*Tuned
	for ; t != nil; t = t.Prior {
		out = append(out, t)
	}
	slices.Reverse(out)
	return out
}

// repeatable returns why a tuning cannot be repeated, nil where it can.
func (t *Tuned) repeatable() error {
	runs := t.runs()
	if len(runs) > maxTunings {
		return fmt.Errorf("%w: it was tuned %d times, more than %d", ErrUnsupported, len(runs), maxTunings)
	}
	for _, r := range runs {
		if !r.Text.named() {
			return fmt.Errorf("%w: it was tuned before recipes held tuning, and its text is not known: tune it again, or export it as a file", ErrUnsupported)
		}
	}
	return nil
}

// TuningPhase is the name of the phase in which a subnet is tuned, the last one of a cut that is tuned.
const TuningPhase = "tuning"

// TuningUnit is the unit that the progress of a tuning is counted in: all of it is 1.
const TuningUnit = "of the tuning"

// TuningStep describes the progress of a tuning: the divergence on the windows of a step and that on held-out text, of which the first is left
// out before it is measured.
func TuningStep(step int, loss, heldOut float64) string {
	if loss == 0 {
		return fmt.Sprintf("step %d · held out %.4f", step, heldOut)
	}
	return fmt.Sprintf("step %d · divergence %.4f · held out %.4f", step, loss, heldOut)
}

// maxTunings is how many tunings of one subnet a recipe repeats.
const maxTunings = 16

// named reports whether the reference names a text.
func (t TextRef) named() bool { return t.Path != "" || t.SHA256 != "" }
