package infer

import (
	"math"
	"time"
)

// KV-cache types of LoadOptions.KVType.
const (
	KVF16 = "f16"
	KVQ80 = "q8_0"
	KVQ40 = "q4_0"
)

// AllLayers as LoadOptions.GPULayers puts as many layers on the GPU as its memory holds.
const AllLayers = -1

// LoadOptions says which file to load and how. [Defaults] fills it in well.
type LoadOptions struct {
	Path    string
	Context int // tokens of the context; 0 means DefaultContext, or the model's own where that is smaller
	Threads int // processor threads; 0 means one for each physical core
	Batch   int // tokens computed at once while a prompt is read; 0 means DefaultBatch

	// GPULayers is the number of layers put on the GPU: 0 for none, AllLayers for as many as fit. It is ignored where
	// there is no GPU.
	GPULayers int

	// FlashAttention computes attention without the matrix of scores. Only with it does the cache of a cut model shrink
	// layer by layer for V as it does for K, and only with it may the cache be quantised.
	FlashAttention bool

	KVType string // KVF16 (also for ""), KVQ80 or KVQ40

	// IgnoreMemory loads although the check says that memory does not suffice.
	IgnoreMemory bool
}

// What LoadOptions fields mean at zero.
const (
	DefaultContext = 4096
	DefaultBatch   = 512
)

// Defaults is how a model is loaded where nobody chose otherwise: flash attention, an f16 cache, all layers on the GPU
// where there is one.
func Defaults(path string) LoadOptions {
	return LoadOptions{Path: path, GPULayers: AllLayers, FlashAttention: true}
}

// Info describes a loaded model.
type Info struct {
	Path         string
	Name         string // the model's own, or the file's
	Arch         string // "llama", "deci", …
	Type         string // of the weights, as llama.cpp names it: "Q4_1", "F16", "mostly Q4_K - Medium"
	FileBytes    int64
	Params       int64
	Layers       int
	Hidden       int
	Vocab        int
	TrainContext int // longest text the model was made for, in tokens
	BOS, EOS     int32
	AddBOS       bool // Tokenize with special puts BOS in front

	Context        int // tokens of the context in use
	Threads        int
	GPULayers      int
	FlashAttention bool
	KVType         string
	ChatTemplate   string // Jinja source; "" where the file has none
	Engine         string
	LoadTime       time.Duration
	Needed         Memory // as estimated before loading
}

// Roles of messages.
const (
	System    = "system"
	User      = "user"
	Assistant = "assistant"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Prompt is a conversation as the model reads it.
type Prompt struct {
	Text     string
	Tokens   []int32
	Fallback string // why the model's own template was not used; "" when it was
}

// Sampling says how tokens are drawn and when to stop. The zero value takes the most likely token until the model ends
// its answer or the context is full.
//
// Filters work in llama.cpp's order: repetition penalty, top-k, top-p, min-p, then temperature.
type Sampling struct {
	Temperature float64 // 0 takes the most likely token
	TopK        int     // keep the TopK most likely; 0 keeps all
	TopP        float64 // keep the most likely tokens until their probabilities reach TopP; 0 or 1 keeps all
	MinP        float64 // keep tokens at least MinP times as likely as the most likely one; 0 keeps all

	// RepeatPenalty divides the logits, where they are positive (and multiplies them where negative), of tokens among the
	// last RepeatLast; 0 or 1 is no penalty. RepeatLast 0 means 64.
	RepeatPenalty float64
	RepeatLast    int

	Seed      uint64 // equal seeds give equal text
	MaxTokens int    // 0 is no limit but the context
	Stop      []string

	LogProbs    bool // fill in Token.LogProb
	TopLogProbs int  // fill in Token.Top with this many; implies LogProbs
}

// Token is one generated token.
type Token struct {
	ID int32

	// Text is what this token adds to the answer, in whole runes: bytes of an unfinished rune, or that may begin a stop
	// string, come with a later token. It may be empty.
	Text string

	// Where log-probabilities are asked for: the token's own text, perhaps a part of a rune, and its log-probability in
	// nats by the model's own distribution, before any filter; and the most likely tokens, best first.
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
	StopAborted = "aborted" // the caller's context or callback ended it
)

// GenStats measures one generation.
type GenStats struct {
	PromptTokens    int // of the prompt, reused ones included
	ReusedTokens    int // of the prompt, taken from the cache
	Tokens          int // generated
	ContextUsed     int // tokens in the context at the end
	Context         int // tokens that fit
	FirstToken      time.Duration
	Total           time.Duration
	PromptPerSecond float64 // prompt tokens computed per second; 0 when none were
	TokensPerSecond float64 // of generation, after the first token; 0 with fewer than two
	Stop            string
	Fallback        string // as Prompt.Fallback, in Chat
}

// Progress counts work done out of all of it, in tokens.
type Progress struct{ Done, Total int }

// DistributionOptions says what Distributions fills in. With both fields empty it is Score.
type DistributionOptions struct {
	// Top is how many of the most likely tokens of each position to give (at most MaxTop).
	Top int

	// From is the first position scored of each window, at least 1; nil means 1 for all. What lies before is only read,
	// and not even that where the window before begins the same: ask for the answers to one question in a row.
	From []int

	// At asks for the log-probabilities of given tokens: At[w][i] are ids for the i-th scored position of window w. Nil
	// asks for none; otherwise there is one slice for each position.
	At [][][]int32

	Progress func(Progress)
}

// FromOf is the first position scored of window w.
func (o DistributionOptions) FromOf(w int) int {
	if o.From == nil {
		return 1
	}
	return o.From[w]
}

// MaxTop bounds Top: no use needs more, and a vocabulary times a window would be hundreds of megabytes.
const MaxTop = 1024

// Position is the distribution at one position of a scored window.
type Position struct {
	NLL      float32   // of the token that is there, in nats
	Greedy   bool      // it is the most likely token
	Top      []int32   // the most likely tokens, best first
	TopProbs []float32 // their natural log-probabilities
	At       []float32 // natural log-probabilities of the tokens asked for, in that order
}

// BenchOptions says what Bench measures.
type BenchOptions struct {
	Prompt  []int // prompt sizes in tokens ("pp512")
	Gen     []int // numbers of tokens to generate ("tg128")
	Depth   int   // tokens already in the context
	Repeats int   // 0 means 5
	// Progress is called before every run with its name and how many runs of all are done.
	Progress func(test string, p Progress)
}

// BenchResult is what Bench measured.
type BenchResult struct {
	Rows   []BenchRow
	Load   time.Duration
	Memory Memory
}

// BenchRow is one line of a benchmark.
type BenchRow struct {
	Test    string // "pp512", "tg128", with "@d1024" at a depth
	Tokens  int
	Threads int
	Samples []float64 // tokens per second, in the order of the runs
}

// Mean is the mean of the samples in tokens per second.
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

// StdDev is the sample standard deviation, as llama-bench gives it.
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

// Memory says in bytes what a model takes or needs. An estimate leaves Resident and Peak at zero.
type Memory struct {
	Weights  int64
	KVCache  int64 // for the whole context
	Compute  int64 // buffers of intermediate results
	Resident int64 // of the engine's process, weights mapped from the file included
	Peak     int64 // most that Resident has been
	Devices  []Device
}

// Total is what weights, cache and buffers add up to.
func (m Memory) Total() int64 { return m.Weights + m.KVCache + m.Compute }

// Device is something a model can run on.
type Device struct {
	Name        string // "CPU", "CUDA0"
	Description string
	GPU         bool
	Free, Total int64 // bytes
}
