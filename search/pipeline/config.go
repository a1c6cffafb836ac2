package pipeline

import (
	"context"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/score"
)

// A Request describes a run.
type Request struct {
	Strategy string // as in [search.New]; "" is ladder, or uniform where files of the model hold equal widths only
	Target   search.Target
	Fitness  score.Fitness // "" is [score.KL], or [score.Perplexity] with the paper's strategies
	Seed     uint64
	// Set holds options of the strategy, as for [search.Set].
	Set string
	// Budget limits the search, but for its Time, which limits the whole run.
	Budget search.Budget
	// Windows is how many windows of text to use, 0 for as many as the time allows.
	Windows int
	// LevelsSpace is how many bytes of disk the levels may take, 0 for no bound.
	LevelsSpace int64
	// UpSteps is how many steps of the last re-fit change W_U; nil leaves them to the plan.
	UpSteps *int
	// Granularity is the step of MLP widths, 0 for that of the strategy.
	Granularity int
	// Change, unless nil, changes how the result is re-fitted. It is called before the search too, to find errors.
	Change func(reform.Recipe) (reform.Recipe, error)
	// Resume continues from what an earlier run of the same request left in the folder.
	Resume bool
	// Retarget is the target to change to when the search is resumed, the zero value for that of the checkpoint. Target remains
	// what the levels were made for.
	Retarget search.Target
}

// A RequestError is a request that cannot be carried out.
type RequestError struct{ Err error }

// Error returns the message of the wrapped error.
func (e *RequestError) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *RequestError) Unwrap() error { return e.Err }

// refused makes err a [RequestError], unless it is nil.
func refused(err error) error {
	if err == nil {
		return nil
	}
	return &RequestError{err}
}

// Text is calibration text.
type Text struct {
	Windows [][]int32 // of equal lengths
	ID      string    // identifies the text that they are from, such as a hash
}

// A Source provides what a run works with. Its functions are called once each, from the goroutine of [Run].
type Source struct {
	Geometry *subnet.Geometry
	// Identity identifies the model; checkpoints are bound to it.
	Identity func(context.Context) (string, error)
	// Text returns so many windows of calibration text; as many as there are, up to that number, if atMost is set. 0 is the
	// default number.
	Text func(ctx context.Context, windows int, atMost bool) (Text, error)
	// Prices returns what a target is measured by, and for a target in time measures it where that is necessary. What it returns for
	// one target is valid for those before. Unlike the others it is called for each target. It may be nil where all targets are ratios.
	Prices func(context.Context, search.Target) (search.Prices, error)
	// Model loads the model.
	Model func(context.Context) (*decoder.Model, error)
	// Levels takes over the store of the levels, which the run reads until it ends. It must not close it before.
	Levels func(*levels.Store) error
	// HandOut, unless nil, returns an evaluator that has candidates scored elsewhere. The run closes it when the search has ended.
	HandOut func(context.Context, Scoring) (Handed, error)
	// HandOutLevels, unless nil, has levels made elsewhere, see [levels.Options].
	HandOutLevels func(context.Context, levels.Deliveries) (levels.Fitter, error)
	// Types, unless nil, has types of matrices and the vocabulary searched too.
	Types *Types
	// Predict predicts by how much masks raise the loss, in nats per token, from statistics; nil where there are none, so that
	// losses are measured.
	Predict func(subnet.Masks) float64
}

// Scoring is what the scores of a search depend on besides the candidates.
type Scoring struct {
	Model   string        // as Identity returned it
	Levels  *levels.Store // nil for strategies without levels
	Windows [][]int32     // that candidates are scored on
	Local   *score.Evaluator
	Dense   search.Candidate
}

// Handed is an evaluator that hands candidates out.
type Handed interface {
	search.Evaluator
	// Probe measures modules elsewhere, see [score.Others].
	Probe(ctx context.Context, slots []int, texts int, measured func(slot int, fitness float64) error) error
	// Revision rises when there is something new about those who score.
	Revision() uint64
	Close() error
}

// A Monitor is informed about a run. Its methods may be called at the same time.
type Monitor interface {
	// Progress reports done of total units of a step; a total of 0 is unknown.
	Progress(done, total float64, unit, step string)
	// Note reports something noteworthy that is not an error, in one line.
	Note(text string)
	// Gate blocks while the run is paused. It returns ctx's error when ctx ends.
	Gate(ctx context.Context) error
	// Persist calls write until the disk has room for what it writes, and returns any other error of it.
	Persist(ctx context.Context, write func() error) error
}

// A View is the search at one moment.
type View struct {
	*search.Snapshot
	Strategy        string
	Fitness         score.Fitness
	DensePerplexity float64        // of the dense model on all of the text that candidates are scored on
	LevelsBytes     int64          // size of the levels on the disk
	Plain           []search.Plain // the dense model in plain types, where types are searched
	BytesPerToken   float64        // of text, where types are searched
	Reused          float64        // share of layers that were not computed because of a common prefix
}

// Config configures a run.
type Config struct {
	Request
	Source
	Monitor Monitor
	Dir     string // folder that keeps levels and checkpoints; "" keeps none
	Scratch string // folder for temporary files, "" for the system's
	// Show, unless nil, is called when the search has changed, and once at its end.
	Show func(View)
	// Phase, unless nil, is called as phases begin and go on.
	Phase func(Phase)
	// Command, unless nil, is called several times a second while the search runs, and may command it. hold stops the search until release
	// is called. ctx ends with the search.
	Command func(ctx context.Context, job Running, hold func(context.Context) (release func(), err error))
	// Prepared, unless nil, is called when something was measured of a module before the search.
	Prepared func(Prepared)
	// Refitting, unless nil, is called after each module of the last re-fit.
	Refitting func(oneshot.Event)
	// Now is the clock, time.Now if nil.
	Now func() time.Time
}
