package tune

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/reform/adam"
)

// ErrText is returned where there is too little text to tune on and to hold out.
var ErrText = errors.New("tuning: too little text")

// Config is how a subnet is tuned. Steps or Time must be positive.
type Config struct {
	Steps int           // most steps, 0 for as many as Time allows
	Time  time.Duration // most time to compute, 0 for as long as Steps take
	Rate  float64       // Adam's step at first, 0 is DefaultRate; it falls to zero by half a cosine
	Batch int           // windows in a step, 0 is DefaultBatch
	Seed  uint64        // of the order of the windows and of what Rank draws
	Bias  bool          // tune output biases, too
	Rank  int           // of what is added to the matrices, see [decoder.Tuning]; 0 leaves them as they are
	// Until, unless 0, is the step whose numbers are the result: the run repeats one of Steps or of Marks until there, instead of choosing a
	// step by held-out checks.
	Until int
	// Marks are those of the report of a run with a Time, which Until repeats; Time must be 0.
	Marks []int
	// Progress, unless nil, is called from one goroutine before the first step and after each. Its time does not count.
	Progress func(Event)
	// Load returns what Save got last, nil for nothing; Save stores the state of the run durably. Either may be nil. A state of
	// another run is ignored.
	Load func() ([]byte, error)
	Save func(state []byte) error
	// Now is time.Now where nil.
	Now func() time.Time
}

// DefaultRate is Adam's step where none is given.
const DefaultRate = 3e-3

// DefaultBatch is how many windows a step has where no number is given.
const DefaultBatch = 2

// Event is the progress of a run.
type Event struct {
	Step    int
	Share   float64       // of the run that is done
	Elapsed time.Duration // of computing
	Loss    float64       // divergence on the windows of the step, in nats per token
	HeldOut float64       // divergence on held-out text at the last check
}

// Point is a held-out check.
type Point struct {
	Step    int     `json:"step"`
	Loss    float64 `json:"loss"`     // mean divergence on the windows of the steps since the last check, in nats per token
	HeldOut float64 `json:"held_out"` // divergence on held-out text, in nats per token
}

// Report is what came of tuning.
type Report struct {
	Steps   int     `json:"steps"`
	Tokens  int     `json:"tokens"` // that all steps saw, repetitions counted
	Numbers int     `json:"numbers"`
	Seconds float64 `json:"seconds"`
	Before  float64 `json:"divergence_before"` // on held-out text, in nats per token
	After   float64 `json:"divergence_after"`
	Best    int     `json:"best_step"` // 0 where the subnet stays as it was
	Curve   []Point `json:"curve"`
	// Marks are the steps before which each part of Time had passed, which the rates of the steps depend on; nil where only Steps limit.
	Marks []int `json:"marks,omitempty"`
	// Stopped is why the run ended before its budget, or "".
	Stopped string `json:"stopped,omitempty"`
}

const (
	checks      = 12               // held-out checks of a run
	patience    = 4                // checks without a gain after which the run ends
	saveEvery   = 30 * time.Second // for every million numbers, and at every check
	mostHeldOut = 4                // windows
	divergedAt  = 2.               // times the first held-out divergence
	parts       = 64               // of Time: the rate falls after each, so that few numbers repeat a run
	epsilon     = 1e-10
)

// Tune tunes a subnet of a model on windows of text. The windows should be short: the states between all blocks are kept for one of
// them. Where nothing better is found it returns spec itself.
func Tune(ctx context.Context, m *decoder.Model, spec gguf.Subnet, windows [][]int32, c Config) (gguf.Subnet, Report, error) {
	if c.Steps <= 0 && c.Time <= 0 && len(c.Marks) == 0 {
		return spec, Report{}, errors.New("tuning: neither steps nor time")
	}
	if c.Until < 0 || c.Until > 0 && c.Time > 0 || c.Until == 0 && c.Marks != nil || !slices.IsSorted(c.Marks) || len(c.Marks) > parts {
		return spec, Report{}, fmt.Errorf("tuning: until step %d of a run with marks %v and %v", c.Until, c.Marks, c.Time)
	}
	if c.Steps < 0 || c.Time < 0 || c.Rank < 0 || c.Rate < 0 || math.IsNaN(c.Rate) || math.IsInf(c.Rate, 0) || c.Batch < 0 {
		return spec, Report{}, fmt.Errorf("tuning: %d steps, %v, rank %d, rate %g, %d windows in a step", c.Steps, c.Time, c.Rank, c.Rate, c.Batch)
	}
	if c.Rate == 0 {
		c.Rate = DefaultRate
	}
	if c.Batch == 0 {
		c.Batch = DefaultBatch
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if len(windows) < 2 {
		return spec, Report{}, fmt.Errorf("%w: %d windows", ErrText, len(windows))
	}
	sub, err := m.Subnet(ctx, spec)
	if err != nil {
		return spec, Report{}, err
	}
	defer sub.Close()
	r := &run{c: c}
	r.split(windows)
	if r.tuning, err = m.NewTuning(ctx, sub, r.train[0], decoder.TuningOptions{Bias: c.Bias, Rank: c.Rank, Seed: c.Seed}); err != nil {
		return spec, Report{}, err
	}
	defer r.tuning.Close()
	if r.tuning.Len() == 0 {
		return spec, Report{Stopped: "the subnet has nothing to tune"}, nil
	}
	if err := r.begin(ctx, runKey(spec, windows, c)); err != nil {
		return spec, Report{}, err
	}
	if err := r.steps(ctx); err != nil {
		return spec, Report{}, err
	}
	report := r.report()
	if r.s.BestStep == 0 {
		return spec, report, nil
	}
	out, err := r.tuning.Fold(ctx, spec, r.s.Best)
	return out, report, err
}

// run is one run of Adam.
type run struct {
	c           Config
	tuning      *decoder.Tuning
	train, held [][]int32
	s           state
	saved       time.Duration
	order       []int
	epoch       int // what order is of
}

// split holds out windows spread over the text.
func (r *run) split(windows [][]int32) {
	held := max(1, min(mostHeldOut, len(windows)/4))
	for i, w := range windows {
		if (i+1)*held/len(windows) > i*held/len(windows) {
			r.held = append(r.held, w)
		} else {
			r.train = append(r.train, w)
		}
	}
}

// begin takes up the stored state or makes the first one.
func (r *run) begin(ctx context.Context, key string) error {
	from := r.c.Now()
	if err := r.tuning.Hold(ctx, r.held); err != nil {
		return err
	}
	held := r.c.Now().Sub(from)
	if r.c.Load != nil {
		data, err := r.c.Load()
		if err != nil {
			return err
		}
		if s, ok := decodeState(data, key, r.tuning.Len()); ok {
			r.s = s
			r.saved = s.Elapsed
			r.s.Elapsed += held
			r.mark()
			r.event(0)
			return nil
		}
	}
	n := r.tuning.Len()
	r.s = state{Key: key, Values: make([]float32, n), First: make([]float64, n), Second: make([]float64, n)}
	kl, err := r.tuning.Divergence(ctx, r.s.Values, r.held)
	if err != nil {
		return err
	}
	r.s.Elapsed += r.c.Now().Sub(from)
	r.s.Before, r.s.BestHeldOut = kl, kl
	r.s.Curve = []Point{{HeldOut: kl, Loss: kl}}
	r.mark()
	r.event(0)
	return nil
}

// share is how much of the run is done, which rates and checks depend on: time counts in whole parts.
func (r *run) share() float64 {
	share, marks := 0., r.s.Marks
	if r.c.Steps > 0 {
		share = float64(r.s.Step) / float64(r.c.Steps)
	}
	if r.c.Until > 0 {
		marks = r.c.Marks
	}
	passed, _ := slices.BinarySearch(marks, r.s.Step+1)
	return min(1, max(share, float64(passed)/parts))
}

// mark records the parts of the time that have passed before the next step.
func (r *run) mark() {
	if r.c.Time <= 0 {
		return
	}
	for passed := min(parts, int(parts*r.s.Elapsed/r.c.Time)); len(r.s.Marks) < passed; {
		r.s.Marks = append(r.s.Marks, r.s.Step)
	}
}

// progress is share for people.
func (r *run) progress() float64 {
	if r.c.Until > 0 {
		return min(1, float64(r.s.Step)/float64(r.c.Until))
	}
	share := r.share()
	if r.c.Time > 0 {
		share = max(share, float64(r.s.Elapsed)/float64(r.c.Time))
	}
	return min(1, share)
}

// ended reports whether all steps were made.
func (r *run) ended() bool { return r.share() == 1 || r.c.Until > 0 && r.s.Step >= r.c.Until }

// steps runs until the budget is spent or nothing is to be gained.
func (r *run) steps(ctx context.Context) error {
	for r.s.Stopped == "" && !r.ended() {
		from := r.c.Now()
		loss, gradient, err := r.tuning.Gradient(ctx, r.s.Values, r.batch())
		if err != nil {
			return err
		}
		if math.IsNaN(loss) || math.IsInf(loss, 0) {
			r.s.Stopped = fmt.Sprintf("the divergence is %v after step %d", loss, r.s.Step)
			return r.save()
		}
		adam.Step(r.s.Values, r.s.First, r.s.Second, gradient, r.s.Step, r.rate(), epsilon)
		r.s.Step++
		r.s.Sum, r.s.Count = r.s.Sum+loss, r.s.Count+1
		r.s.Elapsed += r.c.Now().Sub(from)
		r.mark()
		share := r.share()
		checked := int(share*checks) > r.s.Checks || share == 1
		if r.c.Until > 0 {
			checked = r.s.Step == r.c.Until
		}
		if checked {
			r.s.Checks = int(share * checks)
			if err := r.check(ctx); err != nil {
				return err
			}
			r.mark() // the time of the check counts too
		}
		if checked || r.s.Elapsed-r.saved >= saveEvery*time.Duration(1+r.tuning.Len()/1e6) || r.ended() {
			if err := r.save(); err != nil {
				return err
			}
		}
		r.event(loss)
	}
	return nil
}

// rate is the length of the next step.
func (r *run) rate() float64 {
	return adam.Rate(r.c.Rate, r.share(), r.s.Step)
}

// batch returns the windows of the next step: each window once before any comes again, in an order of its own each time.
func (r *run) batch() [][]int32 {
	var out [][]int32
	for i := range r.c.Batch {
		at := r.s.Step*r.c.Batch + i
		epoch, place := at/len(r.train), at%len(r.train)
		if r.order == nil || epoch != r.epoch {
			r.order, r.epoch = rand.New(rand.NewPCG(r.c.Seed, uint64(epoch))).Perm(len(r.train)), epoch
		}
		out = append(out, r.train[r.order[place]])
	}
	return out
}

// check measures the numbers on held-out text, keeps the best, and ends a run that diverges or gains nothing.
func (r *run) check(ctx context.Context) error {
	from := r.c.Now()
	kl, err := r.tuning.Divergence(ctx, r.s.Values, r.held)
	if err != nil {
		return err
	}
	r.s.Elapsed += r.c.Now().Sub(from)
	if math.IsNaN(kl) || math.IsInf(kl, 0) { // which no curve has
		r.s.Stopped = fmt.Sprintf("the held-out divergence is %v after step %d", kl, r.s.Step)
		return nil
	}
	r.s.Curve = append(r.s.Curve, Point{Step: r.s.Step, Loss: r.s.Sum / float64(max(1, r.s.Count)), HeldOut: kl})
	r.s.Sum, r.s.Count = 0, 0
	switch {
	case kl > divergedAt*r.s.Before:
		r.s.Stopped = fmt.Sprintf("the held-out divergence grew from %.3f to %.3f nats per token", r.s.Before, kl)
	case kl < r.s.BestHeldOut:
		r.s.Best, r.s.BestStep, r.s.BestHeldOut, r.s.Worse = append([]float32(nil), r.s.Values...), r.s.Step, kl, 0
	default:
		if r.s.Worse++; r.s.Worse == patience {
			r.s.Stopped = fmt.Sprintf("no gain on held-out text since step %d", r.s.BestStep)
		}
	}
	return nil
}

func (r *run) save() error {
	if r.c.Save == nil {
		return nil
	}
	data, err := r.s.encode()
	if err != nil {
		return err
	}
	r.saved = r.s.Elapsed
	return r.c.Save(data)
}

func (r *run) event(loss float64) {
	if r.c.Progress == nil {
		return
	}
	e := Event{Step: r.s.Step, Share: r.progress(), Elapsed: r.s.Elapsed, Loss: loss}
	e.HeldOut = r.s.Curve[len(r.s.Curve)-1].HeldOut
	r.c.Progress(e)
}

func (r *run) report() Report {
	tokens := 0
	for _, w := range r.train {
		tokens += len(w)
	}
	return Report{
		Steps: r.s.Step, Tokens: r.s.Step * r.c.Batch * tokens / len(r.train), Numbers: r.tuning.Len(), Seconds: r.s.Elapsed.Seconds(),
		Before: r.s.Before, After: r.s.BestHeldOut, Best: r.s.BestStep, Curve: r.s.Curve, Marks: r.s.Marks, Stopped: r.s.Stopped,
	}
}
