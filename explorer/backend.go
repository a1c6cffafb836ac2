package explorer

import (
	"context"

	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// A Backend opens models. It is the only way from the domain to what computes.
type Backend interface {
	// Open reads a model's header and checks it. It is quick: no weights are read. Errors name the file and the field.
	Open(ctx context.Context, path string) (Model, error)
}

// A Model is an opened dense model and everything that can be done with it. Its methods may be called from any goroutine,
// but an Exploration calls those that compute (all but Info, Predict and Load) one at a time.
//
// Methods that take a [Monitor] report to it as they go and call its Gate between pieces of work, so that a job can be
// paused; they return ctx's error soon after ctx is done.
type Model interface {
	Info() ModelInfo
	// SHA256 is the hash of the model's file, hexadecimal. It reads the whole file the first time.
	SHA256(ctx context.Context) (string, error)
	Statistician
	Cutter
	Tuner
	Trimmer
	Scorer
	Searcher
	Exporter
	Runner
	Close() error
}

// A Monitor receives the progress of a running job.
type Monitor interface {
	// Progress reports done of total units ("layers", "tokens", …) and what is being worked on. A total of 0 is unknown.
	Progress(done, total float64, unit, step string)
	// Phase reports in which phase the job is, and how much time is left of all of it. Jobs of one phase do not call it.
	Phase(Phase)
	// Layer reports that a layer's module was cut or re-fitted.
	Layer(LayerProgress)
	// Note shows a message that is not a failure: a fallback that was taken, a warning. One line.
	Note(text string)
	// Gate returns at once while the job may run, and blocks while it is paused. It returns ctx's error when ctx ends.
	Gate(ctx context.Context) error
	// Workers shows the workers of the job, and again when there is news of them.
	Workers(c Crew)
	// Persist calls write, and again until it succeeds while the disk is full: the job is shown as paused with the error as the
	// reason. It returns any other error of write, and ctx's error when ctx ends.
	Persist(ctx context.Context, write func() error) error
}

// A Statistician gathers what importance and estimates come from.
type Statistician interface {
	// Gather runs the calibration text through the dense model. What it gathers it keeps in dir ("" keeps nothing), and it
	// takes from there what an earlier pass over the same text left. Workers have no effect on the result.
	Gather(ctx context.Context, c GatherStatistics, dir string, m Monitor) (Statistics, error)
	// CheckTexts returns why the texts of a calibration cannot be read, where the file system shows that: one is missing. It is quick.
	CheckTexts(c Calibration) error
	// Norms ranks the units of each layer by the norms of their weights alone: no text, no loaded model, as fast as its file can be read.
	Norms(ctx context.Context) ([]draft.Importance, error)
	// Predict estimates the rise of the loss, in nats per token, that masks cause once the weights that stay are re-fitted,
	// from gathered statistics. It is quick (well under a frame) and false before Gather.
	Predict(s Statistics, masks subnet.Masks) (loss float64, ok bool)
	// Bound returns an interval that the rise of the loss of masks that drop whole modules is in for 9 of 10 such masks. It is
	// false for other masks.
	Bound(s Statistics, masks subnet.Masks) (low, high float64, ok bool)
}

// A Made is the result of a cut, a re-fit or a search.
type Made struct {
	Subnet gguf.Subnet
	Method Method
	// Before and After are perplexities on the last [HeldOutTokens] tokens of the calibration text, which were not calibrated
	// on, with the original and the re-fitted weights, 0 if not measured.
	Before, After float64
	// Dense is the perplexity of the dense model on those tokens, 0 if not measured.
	Dense float64
	// Rejected is the perplexity with re-fitted weights that were worse and are not in Subnet; 0 if they are in it.
	Rejected float64
	// General is the effect on the default text where another one was calibrated on.
	General Effect
}

// A Cutter chooses masks at once and re-fits weights.
type Cutter interface {
	Cut(ctx context.Context, c Cut, m Monitor) (Made, error)
	Refit(ctx context.Context, masks subnet.Masks, c Refit, m Monitor) (Made, error)
	// Identify returns the text that a calibration has, and of a mix its texts, with the hashes of their contents. Of conversations
	// that are not written yet it has the model write them.
	Identify(ctx context.Context, c Calibration, m Monitor) (TextRef, []MixPart, error)
	// Quantize makes a subnet of a size of the masks of from, or with c.Widths of the dense model, with types chosen by losses, which it keeps in
	// dir ("" keeps nothing) for other sizes. Sizes that cannot be reached are ErrInvalid and name the smallest.
	//
	// CheckSize returns that error where the file's header shows it. It is quick.
	CheckSize(masks subnet.Masks, c Quantize) error
	Quantize(ctx context.Context, from gguf.Subnet, c Quantize, dir string, m Monitor) (Made, error)
	// Carry takes re-fitted weights over to other masks of the same model: columns kept in both stay as they were fitted,
	// columns added come from the dense model, layers without re-fitted weights stay without.
	Carry(ctx context.Context, from gguf.Subnet, to subnet.Masks) (gguf.Subnet, error)
}

// A Scorer takes the perplexity of a subnet: the text is tokenised once as a whole and cut into consecutive windows, of
// which the first token is not scored.
type Scorer interface {
	Score(ctx context.Context, s gguf.Subnet, r ScoreRequest, m Monitor) (Measurement, error)
	// ScoreAll scores several subnets, which load returns, by workers. done is called with each score, which is that of Score, and its Seconds,
	// or with the error of Score; an error of done ends the work.
	ScoreAll(ctx context.Context, load func(ctx context.Context, i int) (gguf.Subnet, error), r []ScoreRequest, on Machines, m Monitor, done func(i int, got Measurement, err error) error) error
}

// A ScoreRequest is the text that a subnet is scored on, and by what.
type ScoreRequest struct {
	Text    string // file; "" is the default text
	Seq     int    // tokens per window
	Windows int    // from the start; 0 is all
	HeldOut bool   // take windows from the end of the text, which calibration does not reach
	Span    int64  // bytes of the text to score, all of them, so that the last window may be shorter, instead of so many windows; 0 is no limit
	Engine  string // EngineDecoder or EngineLlama; "" is EngineDecoder
	Type    string // tensor type of the file that EngineLlama scores; "" as the source
	BOS     string // where start tokens are: BOSAuto, BOSAutoFirst, BOSEvery, BOSFirst or BOSNone; "" is BOSAuto
	Stride  int    // tokens from one window to the next; 0 is all of a window
	// Against is what to compare the distributions with: AgainstDense for the model as it is, or the path of a model file with the same
	// vocabulary; "" compares with nothing.
	Against string
}

// AgainstDense compares with the dense model.
const AgainstDense = string(DenseID)

// What can score a subnet: the graphs that search and reform compute with, or the engine that runs exported files.
const (
	EngineDecoder = "decoder"
	EngineLlama   = "llama.cpp"
)

// A Searcher runs searches.
type Searcher interface {
	// Search runs until its budget is spent or ctx is done. It keeps its checkpoints in dir ("" keeps none), publishes
	// states as values and takes orders between candidates. What it returns is the best subnet, also when ctx ended it.
	Search(ctx context.Context, r StartSearch, dir string, o Orders, m Monitor) (Made, error)
	// Assemble returns a candidate with its re-fitted weights, from what the search that found it keeps in dir, also while that
	// search is paused at a gate. A search without re-fitted weights returns the masks alone.
	Assemble(ctx context.Context, c Candidate, dir string) (gguf.Subnet, error)
	// Prices returns what a target is measured by. For a target in time it measures, unless dir, the folder of searches, has the times of
	// this machine: it then takes as long as a benchmark.
	Prices(ctx context.Context, t search.Target, dir string, m Monitor) (search.Prices, error)
}

// Orders connects a running search with its viewers.
type Orders interface {
	// Publish shows the search's present state. The value and what it refers to must not change afterwards.
	Publish(Search)
	// Prepare shows what was measured of a module before candidates are scored. Modules are those of all layers, attention before MLP.
	Prepare(module int, p Prepared)
	// Next returns the next order, if there is one.
	Next() (Order, bool)
}

// An Order changes a running search: a [Retarget], an [Injection] or a [DrainWorker].
type Order interface{ order() }

func (Retarget) order()    {}
func (Injection) order()   {}
func (DrainWorker) order() {}

// An Injection is an order to add masks to the population.
type Injection struct {
	Name   string
	Subnet gguf.Subnet
}

// An Exporter writes subnets to model files.
type Exporter interface {
	// Write writes the subnet to path, atomically: the file is whole or not there. typ "" is the source's types.
	Write(ctx context.Context, s gguf.Subnet, path, typ string, m Monitor) (gguf.Report, error)
	// WriteFolder writes the subnet as a folder in the layout of Hugging Face's transformers. typ is F32, F16 or BF16, "" for the
	// one nearest to the source. Subnets that the layout does not hold are refused with the reason.
	WriteFolder(ctx context.Context, s gguf.Subnet, path, typ string, m Monitor) (gguf.Report, error)
	// CheckFile returns why Read cannot read a file, where its header shows that: it is missing or no model file. It is quick.
	CheckFile(path string) error
	// Read opens a model file that was cut from this model and finds its masks.
	Read(ctx context.Context, path string) (gguf.Subnet, error)
}

// A Runner loads model files into an engine for chat and benchmarks.
type Runner interface {
	Load(ctx context.Context, o infer.LoadOptions, progress func(float64)) (infer.Model, error)
	// Others returns how many processors other programs keep busy now, and how many there are. It may take a second. known is
	// false where the system does not report it, and once ctx is done.
	Others(ctx context.Context) (busy float64, of int, known bool)
}
