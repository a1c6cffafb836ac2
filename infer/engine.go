package infer

import "context"

// Engine opens models. Implementations are safe for concurrent use.
type Engine interface {
	// Name says which engine this is and its version, for people.
	Name() string

	// Devices lists what models can be put on, processors included, with the memory that is free now.
	Devices(ctx context.Context) ([]Device, error)

	// Load opens the file that o names. It checks the file and the memory it needs first and then fails with ErrBadModel
	// or ErrNoMemory before anything is loaded. Cancelling ctx stops a load half way and frees what it took; after Load
	// has returned, ctx no longer matters. progress, which may be nil, is called from one goroutine with the share
	// loaded, from 0 to 1, never after Load returns.
	Load(ctx context.Context, o LoadOptions, progress func(float64)) (Model, error)

	// Close closes the engine and every model it loaded.
	Close() error
}

// Model is a loaded model. It is safe for concurrent use and computes for one caller at a time, in order of arrival.
//
// All token ids are indices in the model's vocabulary: 0 <= id < Info().Vocab. Callbacks are called from the goroutine
// that made the call, one at a time, in order, and never after the call has returned; they may be nil. A callback must not
// call the model it is called from, which is busy.
type Model interface {
	// Info describes the loaded model. It costs nothing.
	Info() Info

	// Tokenize cuts text into tokens. With special, the model's start token goes in front where the model wants one, and
	// special tokens written out in the text, such as <|im_end|>, become single tokens; without, they are plain text.
	Tokenize(ctx context.Context, text string, special bool) ([]int32, error)

	// Detokenize is the text of tokens, special ones written out. Bytes that form no rune are kept as they are.
	Detokenize(ctx context.Context, tokens []int32) (string, error)

	// Pieces is the text of each token by itself, which may be a part of a rune.
	Pieces(ctx context.Context, tokens []int32) ([]string, error)

	// Prompt renders messages with the model's own chat template, ready for the assistant's answer. A template that does
	// not work is replaced by ChatML, and Prompt.Fallback says why.
	Prompt(ctx context.Context, messages []Message) (Prompt, error)

	// Generate continues prompt, calling emit for every token as it comes. It stops at the model's end tokens, at one of
	// s.Stop, after s.MaxTokens, when the context is full, when ctx is done, or with emit's error; the statistics are
	// those of the tokens until then, also beside an error. Work on the prefix that the prompt shares with the one
	// before it is not repeated.
	Generate(ctx context.Context, prompt []int32, s Sampling, emit func(Token) error) (GenStats, error)

	// Chat is Prompt followed by Generate.
	Chat(ctx context.Context, messages []Message, s Sampling, emit func(Token) error) (GenStats, error)

	// Score is the negative log-likelihood in nats of each token of each window given those before it in the window:
	// NLL[w][i] is that of windows[w][i+1], so a window of n tokens gives n-1 values. Windows are independent, may differ
	// in length and hold up to Info().Context tokens. Other callers get their turn between windows.
	Score(ctx context.Context, windows [][]int32, progress func(Progress)) (nll [][]float32, err error)

	// Distributions is Score with more of the distribution at each position, as o says: result [w][i] tells of token
	// windows[w][from+i], where from is o.FromOf(w).
	Distributions(ctx context.Context, windows [][]int32, o DistributionOptions) ([][]Position, error)

	// Bench measures speed the way llama-bench does: every size on a cleared cache, warmed up, o.Repeats times.
	Bench(ctx context.Context, o BenchOptions) (BenchResult, error)

	// Memory is what the model takes now.
	Memory(ctx context.Context) (Memory, error)

	// SetThreads changes how many processor threads later work uses, as LoadOptions.Threads; work under way changes at its
	// next token or batch. It waits for nobody.
	SetThreads(n int) error

	// Queue says who computes and how many wait.
	Queue() QueueState

	// Close ends running calls with ErrClosed and frees the model. Closing twice is no error.
	Close() error
}
