package infer

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// KV-cache types of LoadOptions.KVType.
const (
	KVF16 = "f16"
	KVQ80 = "q8_0"
	KVQ40 = "q4_0"
)

// AllLayers is the value of LoadOptions.GPULayers that puts as many layers on the GPU as fit in its memory.
const AllLayers = -1

// LoadOptions describe which file to load and how. [Defaults] returns those of most callers.
type LoadOptions struct {
	Path    string
	Context int // tokens of the context; 0 means DefaultContext, or the model's training context where that is smaller
	Threads int // processor threads; 0 means one per physical core
	Batch   int // prompt tokens computed at once; 0 means DefaultBatch

	// GPULayers is the number of layers on GPUs: 0 for none, so that nothing is computed there, and AllLayers for as many as
	// fit. A number without a GPU is ErrNoGPU.
	GPULayers int

	// FlashAttention computes attention without storing the matrix of scores. Only with it does a subnet's V cache shrink
	// layer by layer as its K cache does, and only with it can the cache be quantised.
	FlashAttention bool

	KVType string // KVF16 (also for ""), KVQ80 or KVQ40

	// IgnoreMemory skips the check that the model fits in memory.
	IgnoreMemory bool
}

// Defaults of LoadOptions.
const (
	DefaultContext = 4096
	DefaultBatch   = 512
)

// Defaults returns options with flash attention, an f16 cache and all layers on the GPU, if there is one.
func Defaults(path string) LoadOptions {
	return LoadOptions{Path: path, GPULayers: AllLayers, FlashAttention: true}
}

// Validate returns ErrInvalid if a field is out of range, or fields exclude one another. It does not look at the file.
func (o LoadOptions) Validate() error {
	const mostContext, mostBatch = 1 << 24, 1 << 16
	switch {
	case o.Context < 0 || o.Context > mostContext:
		return fmt.Errorf("context of %d tokens: %w", o.Context, ErrInvalid)
	case o.Batch < 0 || o.Batch > mostBatch:
		return fmt.Errorf("batch of %d tokens: %w", o.Batch, ErrInvalid)
	}
	if err := ValidateThreads(o.Threads); err != nil {
		return err
	}
	switch o.KVType {
	case "", KVF16:
	case KVQ80, KVQ40:
		if !o.FlashAttention {
			return fmt.Errorf("cache type %s needs flash attention: %w", o.KVType, ErrInvalid)
		}
	default:
		return fmt.Errorf("cache type %q is not %s, %s or %s: %w", o.KVType, KVF16, KVQ80, KVQ40, ErrInvalid)
	}
	return nil
}

// ValidateThreads returns ErrInvalid if n is not a number of threads that LoadOptions and SetThreads accept.
func ValidateThreads(n int) error {
	const most = 512
	if n < 0 || n > most {
		return fmt.Errorf("%d threads: %w", n, ErrInvalid)
	}
	return nil
}

// Info describes a loaded model.
type Info struct {
	Path         string
	Name         string // from the metadata, or of the file
	Arch         string // "llama", "deci", …
	Type         string // of the weights, in llama.cpp's words: "Q4_1", "F16", "mostly Q4_K - Medium"
	FileBytes    int64
	Params       int64
	Layers       int
	Hidden       int
	Vocab        int
	TrainContext int // longest text that the model was trained on, in tokens
	BOS, EOS     int32
	AddBOS       bool // Tokenize with special prepends BOS
	LongestToken int  // bytes that a token has at most

	Context        int // tokens of the context in use
	Threads        int
	GPULayers      int
	FlashAttention bool
	KVType         string
	ChatTemplate   string // Jinja source; "" where the file has none
	Engine         string
	LoadTime       time.Duration
	Needed         Memory // as estimated before loading

	Placement string // what computes the layers: "CPU", "31 of 31 layers on CUDA0 (NVIDIA H200)"
	Fallback  string // why the model runs with fewer layers on a GPU than LoadOptions asked for; or ""
}

// Roles of messages.
const (
	System    = "system"
	User      = "user"
	Assistant = "assistant"
	Tool      = "tool" // the result of a call
)

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`

	// Of conversations with tools: the calls of an assistant's message; the call that a tool's message answers, and the tool's name.
	Calls  []ToolCall `json:"calls,omitempty"`
	CallID string     `json:"call_id,omitempty"`
	Name   string     `json:"name,omitempty"`
}

// ToolCall is a call of a function. Arguments are a JSON object.
type ToolCall struct {
	ID, Name  string
	Arguments json.RawMessage
}

// Conversation is what a chat template renders. Tools and documents are JSON objects, whose fields templates read.
type Conversation struct {
	Messages         []Message
	Tools, Documents []json.RawMessage
}

// Prompt is a rendered conversation.
type Prompt struct {
	Text    string
	Tokens  []int32
	Warning string // how the text differs from the messages as the model's own template renders them, and why; or ""
}

// Sampling describes how tokens are sampled and when generation stops. The zero value takes the most likely token until
// the model ends its answer or the context is full.
//
// Filters apply in llama.cpp's order: repetition penalty, top-k, top-p, min-p, then temperature.
type Sampling struct {
	Temperature float64 // 0 takes the most likely token (greedy)
	TopK        int     // keep the TopK most likely; 0 keeps all
	TopP        float64 // keep the most likely tokens until their probabilities reach TopP; 0 or 1 keeps all
	MinP        float64 // keep tokens at least MinP times as likely as the most likely one; 0 keeps all

	// RepeatPenalty divides the logits, where they are positive (and multiplies them where negative), of tokens among the
	// last RepeatLast; 0 or 1 is no penalty. RepeatLast 0 means 64.
	RepeatPenalty float64
	RepeatLast    int

	Seed      uint64 // equal seeds give equal tokens
	MaxTokens int    // 0 means no limit but the context
	Stop      []string

	LogProbs    bool // fill in Token.LogProb
	TopLogProbs int  // fill in Token.Top with this many (at most MaxTop); implies LogProbs
}

// Token is one generated token.
type Token struct {
	ID int32

	// Text is what this token adds to the answer, in whole runes: bytes of an unfinished rune, or that may begin a stop
	// string, are held back for a later token. Invalid bytes are replaced by U+FFFD. It may be empty, and contains no control
	// tokens.
	Text string

	// Control reports whether this is a control token. One that is spelled out in Sampling.Stop ends the generation.
	Control bool

	// With log-probabilities: the token's own text, perhaps a part of a rune, its natural log-probability in the model's
	// distribution before any filter, and the most likely tokens, best first.
	Piece   string
	LogProb float64
	Top     []TokenProb
}

// TokenProb is a token with its natural log-probability.
type TokenProb struct {
	ID      int32
	Text    string
	LogProb float64
}

// Reasons for the end of a generation, in GenStats.Stop.
const (
	StopEnd     = "end"     // the model ended its answer
	StopString  = "stop"    // one of Sampling.Stop appeared
	StopLength  = "length"  // Sampling.MaxTokens
	StopContext = "context" // the context is full
	StopAborted = "aborted" // an error, or the caller's context or callback, ended it
)

// GenStats measures one generation.
type GenStats struct {
	PromptTokens    int // of the prompt, including reused ones
	ReusedTokens    int // of the prompt, found in the cache; at least one is computed
	Tokens          int // generated
	ContextUsed     int // tokens in the cache at the end; the last one generated need not be
	Context         int // tokens that fit in the cache
	FirstToken      time.Duration
	Total           time.Duration
	PromptPerSecond float64 // prompt tokens computed per second; 0 if not known
	TokensPerSecond float64 // of generation, after the first token; 0 with fewer than two
	Stop            string
	Warning         string // as Prompt.Warning, in Chat
}

// Progress is work done out of all work, in tokens or, in Bench, in runs.
type Progress struct{ Done, Total int }

// DistributionOptions describe what Distributions fills in. With the zero value it computes what Score does.
type DistributionOptions struct {
	// Top is how many of the most likely tokens of each position to return (at most MaxTop).
	Top int

	// From is the first scored position of each window, at least 1; nil means 1 for all. Earlier tokens are context only,
	// and are not computed again where they are still in the cache: pass the answers to one question in a row.
	From []int

	// At requests the log-probabilities of given tokens: At[w][i] are ids for the i-th scored position of window w. Nil
	// requests none; otherwise there is one slice for each scored position.
	At [][][]int32

	Progress func(Progress)
}

// FromOf returns the first scored position of window w.
func (o DistributionOptions) FromOf(w int) int {
	if o.From == nil {
		return 1
	}
	return o.From[w]
}

// Validate returns ErrInvalid if o does not fit the windows.
func (o DistributionOptions) Validate(windows [][]int32) error {
	if o.From != nil && len(o.From) != len(windows) {
		return fmt.Errorf("%d first positions for %d windows: %w", len(o.From), len(windows), ErrInvalid)
	}
	if o.At != nil && len(o.At) != len(windows) {
		return fmt.Errorf("requested tokens for %d of %d windows: %w", len(o.At), len(windows), ErrInvalid)
	}
	for w, window := range windows {
		if o.FromOf(w) < 1 {
			return fmt.Errorf("window %d: first scored position %d, the first token has no context: %w", w, o.FromOf(w), ErrInvalid)
		}
		if n := max(0, len(window)-o.FromOf(w)); len(o.At) > 0 && len(o.At[w]) != n {
			return fmt.Errorf("window %d: requested tokens for %d of %d positions: %w", w, len(o.At[w]), n, ErrInvalid)
		}
	}
	return nil
}

// MaxTop bounds Top: the whole vocabulary at every position of a window would be hundreds of megabytes.
const MaxTop = 1024

// Position is the distribution at one position of a scored window.
type Position struct {
	NLL      float32   // of the window's token, in nats
	Greedy   bool      // the window's token is the most likely one
	Top      []int32   // the most likely tokens, best first
	TopProbs []float32 // their natural log-probabilities
	At       []float32 // natural log-probabilities of the requested tokens, in their order
}

// BenchOptions describe what Bench measures.
type BenchOptions struct {
	Prompt  []int // prompt sizes in tokens ("pp512")
	Gen     []int // numbers of tokens to generate ("tg128")
	Depth   int   // tokens already in the context
	Repeats int   // 0 means DefaultRepeats

	// Progress is called before every run with the name of its test and the runs done so far.
	Progress func(test string, p Progress)
}

// DefaultRepeats is llama-bench's.
const DefaultRepeats = 5

// BenchTest is one test of a benchmark: Prompt tokens read in batches, or Gen tokens generated one by one.
type BenchTest struct {
	Prompt int
	Gen    int
	Depth  int // tokens already in the context
}

// String returns the test's name as llama-bench writes it.
func (t BenchTest) String() string {
	name := fmt.Sprintf("pp%d", t.Prompt)
	if t.Gen > 0 {
		name = fmt.Sprintf("tg%d", t.Gen)
	}
	if t.Depth > 0 {
		name += fmt.Sprintf("@d%d", t.Depth)
	}
	return name
}

// Tests returns the tests of o, prompts first. It returns ErrInvalid for sizes below 1 and ErrContextFull for tests that
// need more than context tokens.
func (o BenchOptions) Tests(context int) ([]BenchTest, error) {
	var tests []BenchTest
	for _, n := range o.Prompt {
		tests = append(tests, BenchTest{Prompt: n, Depth: o.Depth})
	}
	for _, n := range o.Gen {
		tests = append(tests, BenchTest{Gen: n, Depth: o.Depth})
	}
	for _, t := range tests {
		n := t.Prompt + t.Gen
		if n < 1 || t.Depth < 0 {
			return nil, fmt.Errorf("test of %d tokens at depth %d: %w", n, t.Depth, ErrInvalid)
		}
		if n > context-t.Depth {
			return nil, fmt.Errorf("%s: %d tokens, context of %d: %w", t, n+t.Depth, context, ErrContextFull)
		}
	}
	return tests, nil
}

// BenchResult holds what Bench measured: a row for each test, in the order of [BenchOptions.Tests].
type BenchResult struct {
	Rows   []BenchRow
	Load   time.Duration
	Memory Memory
}

// BenchRow is one test of a benchmark.
type BenchRow struct {
	Test    string // "pp512", "tg128", with "@d1024" at a depth
	Tokens  int
	Threads int
	Samples []float64 // tokens per second, in the order of the runs
}

// Mean returns the mean of the samples in tokens per second, 0 without samples.
func (r BenchRow) Mean() float64 {
	if len(r.Samples) == 0 {
		return 0
	}
	sum := 0.0
	for _, s := range r.Samples {
		sum += s
	}
	return sum / float64(len(r.Samples))
}

// StdDev returns the sample standard deviation, as llama-bench does; 0 with fewer than two samples.
func (r BenchRow) StdDev() float64 {
	if len(r.Samples) < 2 {
		return 0
	}
	mean, sum := r.Mean(), 0.0
	for _, s := range r.Samples {
		sum += (s - mean) * (s - mean)
	}
	return math.Sqrt(sum / float64(len(r.Samples)-1))
}

// Memory is what a model uses or needs, in bytes. An estimate leaves Resident and Peak at zero.
type Memory struct {
	Weights  int64
	KVCache  int64 // for the whole context
	Compute  int64 // buffers of intermediate results
	GPU      int64 // of these three, what the engine reports in the memory of GPUs; 0 without one
	Resident int64 // of the engine's process, including weights mapped from the file; 0 if not known
	Peak     int64 // highest Resident so far
	Devices  []Device
}

// Total returns the sum of weights, cache and buffers.
func (m Memory) Total() int64 { return m.Weights + m.KVCache + m.Compute }

// Device is a processor or GPU that a model can run on.
type Device struct {
	Name        string // "CPU", "CUDA0"
	Description string
	GPU         bool
	Free, Total int64 // bytes

	ID         string // PCI address, such as "0000:01:00.0"; "" if not known
	Integrated bool   // a GPU whose memory is the machine's
	Software   bool   // a GPU that the processor emulates
	Unused     string // why models do not use this GPU: "CUDA0 is the same card"; or ""

	// Of one model, in Model.Memory: its layers on this device, and the bytes of its weights, cache and buffers there.
	Layers int
	Used   int64
}

// HostMemory reports whether the device's memory is the machine's.
func (d Device) HostMemory() bool { return !d.GPU || d.Integrated || d.Software }
