package explorer

import (
	"context"

	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/search"
)

// Role is what an actor may do. The zero value may only look.
type Role int

// The roles: a viewer looks, an editor changes and runs things, an owner may also delete for good and stop the server.
const (
	RoleViewer Role = iota
	RoleEditor
	RoleOwner
)

// An Actor is the person who gives a command.
type Actor struct {
	Name string
	Role Role
}

// A Command is a change that an actor asks for. The types below are all there are.
type Command interface {
	needs() needs
	// do carries the command out and returns as soon as it took effect.
	do(ctx context.Context, e *Exploration, a Actor) (Receipt, error)
}

// needs is what has to hold for a command to be carried out.
type needs struct {
	role      Role // the least that may give it
	workspace bool // it writes to the workspace, which must not be read-only
	runtime   bool // it runs the model, which the engine must be able to do
}

// What most commands need.
var (
	aViewer  = needs{role: RoleViewer}
	anEditor = needs{role: RoleEditor}
	aChange  = needs{role: RoleEditor, workspace: true}
	aRun     = needs{role: RoleEditor, runtime: true}
)

// A Receipt is what a command led to; fields that do not apply are zero.
type Receipt struct {
	Job     JobID
	Subnet  SubnetID
	Chat    ChatID
	Bench   BenchID
	Version uint64 // of the draft, after a command that changed it
}

// Commands on the draft. Version is the version of the draft that the command was made on: if the draft has changed since,
// the command fails with ErrStale. 0 means the present version.
type (
	// Edit applies mutations as one undoable step.
	Edit struct {
		Version   uint64
		Mutations []draft.Mutation
	}
	// Undo undoes the last step.
	Undo struct{ Version uint64 }
	// Redo applies the last undone step again.
	Redo struct{ Version uint64 }
	// Checkout starts over from a subnet of the library (or DenseID). Steps made so far are forgotten, unless Keep is set:
	// then the subnet's masks come in as one more undoable step.
	Checkout struct {
		Version uint64
		Subnet  SubnetID
		Keep    bool
	}
	// SaveDraft adds the draft to the library.
	SaveDraft struct {
		Version uint64
		Name    string
	}
)

// Commands on the library.
type (
	// RenameSubnet gives a subnet another name.
	RenameSubnet struct {
		Subnet SubnetID
		Name   string
	}
	// AnnotateSubnet replaces a subnet's note.
	AnnotateSubnet struct {
		Subnet SubnetID
		Note   string
	}
	// DuplicateSubnet makes a copy under another name.
	DuplicateSubnet struct {
		Subnet SubnetID
		Name   string
	}
	// DeleteSubnet moves a subnet to the trash.
	DeleteSubnet struct{ Subnet SubnetID }
	// RestoreSubnet takes it out of the trash.
	RestoreSubnet struct{ Subnet SubnetID }
	// EmptyTrash deletes what is in the trash for good, weights included.
	EmptyTrash struct{}
	// AddSubnet adds masks made elsewhere to the library.
	AddSubnet struct {
		Name   string
		Origin Origin
		Masks  string // text form
		Note   string
	}
)

// Commands that start a job.
type (
	// GatherStatistics runs the calibration text through the model and scores every unit.
	GatherStatistics struct {
		Calibration Calibration
		// Machines is where layers are gathered besides this process; the zero value is nowhere.
		Machines Machines `json:",omitzero"`
	}
	// Cut makes a subnet at once, without a search.
	Cut struct {
		Preset string  // "" is the default preset
		Target float64 // inheriting ratio over block parameters, in (0, 1]
		// Within is the target instead of Target; the zero value leaves it.
		Within      search.Target `json:",omitzero"`
		Attention   *bool         // whether KV groups are dropped too; nil leaves it to the preset
		Granularity int           // step of MLP widths; 0 is the default
		Calibration Calibration
		Reform      ReformOptions
		Seed        uint64
		Name        string
		Vocab       VocabSize `json:",omitzero"` // of the vocabulary; the zero value keeps all
		Tuning      Tuning    `json:",omitzero"` // of the result, on the same texts; the zero value leaves it
	}
	// Refit makes a subnet with the masks of another and re-fitted weights.
	Refit struct {
		Subnet      SubnetID
		Preset      string // one-shot method whose way of re-fitting is taken; "" is the default preset
		Calibration Calibration
		Reform      ReformOptions
		Name        string
	}
	// Measure takes the perplexity of a subnet. Text "" is the calibration text's held-out end.
	Measure struct {
		Subnet  SubnetID
		Text    string
		Seq     int
		Windows int
		Engine  string // EngineDecoder or EngineLlama; "" is EngineDecoder
		Type    string // tensor type of the file that EngineLlama scores; "" as the source
		BOS     string // where start tokens are: BOSAuto, BOSAutoFirst, BOSEvery, BOSFirst or BOSNone; "" is BOSAuto
		Stride  int    // tokens from one window to the next; 0 is all of a window
		Against string // what to measure the Distance from: AgainstDense or the path of a model file; "" is nothing
	}
	// MeasureAll takes several measurements in one job. What is measured is kept, also where others fail.
	MeasureAll struct {
		Of []Measure
		// Machines is where they are taken; the zero value is this process.
		Machines Machines `json:",omitzero"`
	}
	// StartSearch starts a search, or resumes that of the workspace from its checkpoint when Resume is set. A resumed search
	// has its own settings: those that are zero are taken from it, and only the budget, Up and the target may differ.
	StartSearch struct {
		Strategy    string // "" is the default strategy
		Target      search.Target
		Budget      Budget
		Calibration Calibration
		// Types are those that matrices may get besides their own, AutoTypeName for all that fit; nil searches none. Vocab is the size of the
		// vocabulary, or that it is searched too.
		Types       []string  `json:",omitempty"`
		Vocab       VocabSize `json:",omitzero"`
		Fitness     string
		Up          *int // steps by which W_U of what is found is re-fitted, 0 leaves it; nil where there is much time
		Seed        uint64
		Set         string `json:",omitempty"` // options of the strategy, such as "population=20,alpha=0.9"
		Granularity int    `json:",omitempty"` // step of MLP widths; 0 is the strategy's own
		Reform      ReformOptions
		Resume      bool
		LevelsSpace int64 `json:",omitempty"` // the most bytes of disk that levels may take; 0 is half of what is free
		// Retarget is the target to change to when the search is resumed; the zero value keeps that of the checkpoint. It is set
		// from Target, which remains the one that the search was started with.
		Retarget search.Target `json:",omitzero"`
		// Machines is where candidates are scored besides this process; the zero value is nowhere.
		Machines Machines `json:",omitzero"`
		// Prompt is what each new best candidate answers while the search runs; "" has none of them answer.
		Prompt string `json:",omitempty"`
	}
	// Export writes a subnet as a GGUF file, or as a folder of Hugging Face's transformers.
	Export struct {
		Subnet SubnetID
		Path   string
		Type   string // tensor type; "" as the source
		As     string `json:",omitempty"` // AsGGUF or AsFolder; "" is AsGGUF
		NoWait bool   `json:",omitempty"` // fail where the disk is full instead of waiting for room
		// Replace replaces an existing file; without it that is ErrExists. A folder is written where there is none, or an empty one.
		Replace bool `json:",omitempty"`
		// Vocab is the size of the file's vocabulary, chosen on the texts of Calibration; the zero value keeps that of the subnet.
		Vocab       VocabSize   `json:",omitzero"`
		Calibration Calibration `json:",omitzero"`
	}
	// ExportRecipe writes what is needed to make a subnet's file again elsewhere: no weights.
	ExportRecipe struct {
		Subnet SubnetID
		Path   string
		Type   string // tensor type of the file to make; "" as the source
		// Replace replaces an existing file, as for Export.
		Replace bool `json:",omitempty"`
	}
	// BuildRecipe makes the subnet and the file of a recipe.
	BuildRecipe struct {
		Path string    // the recipe
		Text string    // calibration text, where it is not at the path that the recipe names
		Mix  []MixText // the same for a recipe with a mix: paths of some of its texts
		To   string    // GGUF file to write; "" only adds the subnet to the library
		// Replace replaces an existing file, as for Export.
		Replace bool `json:",omitempty"`
	}
	// StartBench measures speed and memory.
	StartBench struct{ Settings BenchSettings }
	// ImportFile takes a model file that was cut from this model elsewhere into the library.
	ImportFile struct {
		Path   string
		Name   string
		NoWait bool `json:",omitempty"` // as for Export
	}
)

// ReformOptions say how surviving weights are re-fitted. Zero fields leave it to the preset.
type ReformOptions struct {
	Method string   `json:",omitempty"` // "exact", "admm" (as in the paper, unless other fields change it), "none"
	Target string   `json:",omitempty"` // one of FitTargets: what re-fitted matrices reproduce
	Lambda *float64 `json:",omitempty"` // ridge, as a share of the mean diagonal of the inputs' second moments
	Pull   *bool    `json:",omitempty"` // toward the original weights instead of zero
	Bias   *bool    `json:",omitempty"` // a bias compensates for the means of dropped units
	// Bridge fits W_D of the last MLP before dropped layers to the dense model's hidden states behind them, and all output matrices after.
	Bridge *bool   `json:",omitempty"`
	Weigh  string  `json:",omitempty"` // one of Weighings: what tokens count by
	Rho    float64 `json:",omitempty"` // ADMM's penalty, relative as the ridge
	Steps  int     `json:",omitempty"` // ADMM's
	Up     *int    `json:",omitempty"` // steps of conjugate gradients by which W_U is re-fitted, 0 leaves it
	// Gradient is the most steps by which all matrices of modules that have lost units are re-fitted by gradient, 0 for none.
	Gradient *int `json:",omitempty"`
	// OwnRidge has admm solve the preset's own problem, ridge included, as recipes from before the paper's was the default do.
	OwnRidge bool `json:"-"`
}

// Budget limits a search; the first limit reached ends it. Zero fields do not limit. Unlike [search.Budget], the journal stores it.
type Budget struct {
	Seconds     float64
	Evaluations int
	Tokens      int64
}

// The forms of [Export].
const (
	AsGGUF   = "gguf"
	AsFolder = "hf"
)

// Commands on jobs and on the running search.
type (
	// PauseJob pauses a job.
	PauseJob struct{ Job JobID }
	// ResumeJob resumes a paused job.
	ResumeJob struct{ Job JobID }
	// StopJob ends a job; a search keeps what it has found.
	StopJob struct{ Job JobID }
	// Retarget changes what the running search aims at.
	Retarget struct{ Target search.Target }
	// DrainWorker has a worker of the running search or another job finish its task and leave.
	DrainWorker struct{ Worker string }
	// SetPrompt changes what new best candidates of the running search answer; "" has none of them answer.
	SetPrompt struct{ Prompt string }
	// Inject adds a subnet to the population of the running search.
	Inject struct{ Subnet SubnetID }
	// Adopt adds a candidate of the search to the library. Candidate 0 is the best so far or, with a target, the best of the front that
	// meets it.
	Adopt struct {
		Candidate int
		Target    search.Target
		Name      string
	}
	// FindFit finds the best of the dense model, the library and the front of the newest search that is within a target, also one in
	// time. The job has the result.
	FindFit struct{ Target search.Target }
)

// Commands on chats.
type (
	// OpenChat starts a chat with the subnets as columns.
	OpenChat struct {
		Name     string
		Subnets  []SubnetID
		System   string
		Sampling *infer.Sampling // nil: the defaults
		Blind    bool
	}
	// Say sends a prompt to all columns.
	Say struct {
		Chat ChatID
		Text string
	}
	// Probe opens a chat with the subnets as columns that asks each of some prompts by itself.
	Probe struct {
		Subnets  []SubnetID
		Prompts  []string        // nil: the built-in ones
		Sampling *infer.Sampling // nil: ProbeSampling
	}
	// StopReply stops the running replies.
	StopReply struct{ Chat ChatID }
	// Regenerate generates the last reply again, with the next seed.
	Regenerate struct{ Chat ChatID }
	// EditPrompt replaces the last prompt and generates its replies again.
	EditPrompt struct {
		Chat ChatID
		Text string
	}
	// ConfigureChat changes what follows; nil fields stay as they are.
	ConfigureChat struct {
		Chat     ChatID
		Name     *string
		System   *string
		Sampling *infer.Sampling
		Blind    *bool
		GPU      *string // as Chat.GPU
	}
	// SetColumns changes who takes part; columns that stay keep their replies.
	SetColumns struct {
		Chat    ChatID
		Subnets []SubnetID
	}
	// Vote counts a choice between the columns of a chat.
	Vote struct {
		Chat   ChatID
		Column int
	}
	// DeleteChat removes a chat.
	DeleteChat struct{ Chat ChatID }
)

// Commands on presence.
type (
	// Attach announces the actor as a viewer, or that it looks at something else now.
	Attach struct{ Where string }
	// Detach takes the announcement back.
	Detach struct{}
)

func (Edit) needs() needs             { return aChange }
func (Undo) needs() needs             { return aChange }
func (Redo) needs() needs             { return aChange }
func (Checkout) needs() needs         { return aChange }
func (SaveDraft) needs() needs        { return aChange }
func (RenameSubnet) needs() needs     { return aChange }
func (AnnotateSubnet) needs() needs   { return aChange }
func (DuplicateSubnet) needs() needs  { return aChange }
func (DeleteSubnet) needs() needs     { return aChange }
func (RestoreSubnet) needs() needs    { return aChange }
func (EmptyTrash) needs() needs       { return needs{role: RoleOwner, workspace: true} }
func (AddSubnet) needs() needs        { return aChange }
func (GatherStatistics) needs() needs { return aChange }
func (Cut) needs() needs              { return aChange }
func (Refit) needs() needs            { return aChange }
func (Tune) needs() needs             { return aChange }
func (c Measure) needs() needs        { return needs{role: RoleEditor, runtime: c.Engine == EngineLlama} }
func (c MeasureAll) needs() needs {
	n := needs{role: RoleEditor}
	for _, of := range c.Of {
		n.runtime = n.runtime || of.needs().runtime
	}
	return n
}
func (StartSearch) needs() needs  { return aChange }
func (Export) needs() needs       { return anEditor }
func (ExportRecipe) needs() needs { return anEditor }
func (BuildRecipe) needs() needs  { return aChange }
func (StartBench) needs() needs   { return aRun }
func (ImportFile) needs() needs   { return aChange }
func (PauseJob) needs() needs     { return anEditor }
func (ResumeJob) needs() needs    { return anEditor }
func (StopJob) needs() needs      { return anEditor }
func (Retarget) needs() needs     { return anEditor }
func (DrainWorker) needs() needs  { return anEditor }
func (SetPrompt) needs() needs    { return anEditor }
func (Inject) needs() needs       { return anEditor }
func (Adopt) needs() needs        { return aChange }
func (c FindFit) needs() needs {
	return needs{role: RoleEditor, runtime: c.Target.Timed(), workspace: c.Target.Timed()} // times are kept
}
func (OpenChat) needs() needs      { return aRun }
func (Say) needs() needs           { return aRun }
func (Probe) needs() needs         { return aRun }
func (StopReply) needs() needs     { return anEditor }
func (Regenerate) needs() needs    { return aRun }
func (EditPrompt) needs() needs    { return aRun }
func (ConfigureChat) needs() needs { return anEditor }
func (SetColumns) needs() needs    { return anEditor }
func (Vote) needs() needs          { return anEditor }
func (DeleteChat) needs() needs    { return anEditor }
func (Attach) needs() needs        { return aViewer }
func (Detach) needs() needs        { return aViewer }
