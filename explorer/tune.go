package explorer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/infer/gguf"
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
	Seed    uint64  `json:"seed,omitempty"`
}

// On reports whether there is anything to tune for.
func (t Tuning) On() bool { return t.Seconds > 0 || t.Steps > 0 }

// Tuned is what tuning did to a subnet.
type Tuned struct {
	Steps   int     `json:"steps"`
	Tokens  int     `json:"tokens"` // of all steps, repetitions counted
	Numbers int     `json:"numbers"`
	Rate    float64 `json:"rate"`
	Bias    bool    `json:"bias"`
	Seed    uint64  `json:"seed"`
	Seconds float64 `json:"seconds"`
	// Before and After are divergences from the dense model on held-out windows, in nats per token, with Best the step of After.
	Before float64      `json:"divergence_before"`
	After  float64      `json:"divergence"`
	Best   int          `json:"best_step"`
	Curve  []TunedPoint `json:"curve,omitempty"`
	// Stopped is why the run ended before its budget, or "".
	Stopped string `json:"stopped,omitempty"`
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
	if err := errors.Join(c.Calibration.check(), c.Tuning.check()); err != nil {
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
	case !t.On():
		return fmt.Errorf("%w: tuning needs a time or a number of steps", ErrInvalid)
	}
	return nil
}

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
	made, err := e.model.Tune(ctx, subject, c, e.folder("tuning"), m)
	if err != nil {
		return err
	}
	tuned := made.Method.Tune
	text := made.Method
	if made.Method = n.Method; !made.Method.Text.named() {
		made.Method.Text, made.Method.Windows, made.Method.Seq = text.Text, text.Windows, text.Seq
		made.Method.Mix, made.Method.Draw, made.Method.Drawn = text.Mix, text.Draw, text.Drawn
	}
	made.Method.Tune, made.Method.Backend = tuned, text.Backend
	if tuned.Best == 0 {
		why := cmp.Or(tuned.Stopped, "the divergence on held-out text did not fall")
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

// named reports whether the reference names a text.
func (t TextRef) named() bool { return t.Path != "" || t.SHA256 != "" }
