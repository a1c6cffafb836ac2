package infer

import "context"

// Engine opens models. Implementations are safe for concurrent use.
type Engine interface {
	// Name returns the engine's name and version for display.
	Name() string

	// Devices lists the devices that models can run on, processors included, with the memory that is free now.
	Devices(ctx context.Context) ([]Device, error)

	// Load opens the file o.Path. It checks options, file and memory first, and fails with ErrInvalid, ErrBadModel or
	// ErrNoMemory before anything is loaded; a file that cannot be opened is an error of package io/fs. Cancelling ctx
	// stops the load and frees what it took; once Load has returned, ctx has no effect. progress, which may be nil, is
	// called from one goroutine with the share loaded, from 0 to 1 and never decreasing, and not after Load returns.
	Load(ctx context.Context, o LoadOptions, progress func(float64)) (Model, error)

	// Close closes the engine and every model it loaded. Closing twice is not an error.
	Close() error
}

// Model is a loaded model. It is safe for concurrent use and computes for one caller at a time, in the order of [Queue].
//
// All token ids are indices in the model's vocabulary: 0 <= id < Info().Vocab; others are ErrBadToken. Callbacks may be
// nil. They are called from the goroutine of the call, one at a time, in order, and not after the call has returned. A
// callback must not call a method of its model that takes a context: the model is busy.
type Model interface {
	// Info describes the loaded model. It does not wait, and works after Close.
	Info() Info

	// Tokenize converts text to tokens. With special, the model's start token is prepended where Info().AddBOS is set, and
	// special tokens spelled out in the text, such as <|im_end|>, become single tokens; without, they are plain text. An
	// empty text without special has no tokens.
	Tokenize(ctx context.Context, text string, special bool) ([]int32, error)

	// Detokenize returns the text of tokens, special ones spelled out. Bytes that are not valid UTF-8 are kept. The text
	// of a tokenized text is that text, but for spaces that some tokenizers add at its start and after special tokens.
	Detokenize(ctx context.Context, tokens []int32) (string, error)

	// Pieces returns the text of each token separately, which may be a part of a rune. Joined they are Detokenize.
	Pieces(ctx context.Context, tokens []int32) ([]string, error)

	// Control reports of each token whether it is a control token, which structures the text and is no part of it: Token.Text
	// has nothing of it.
	Control(ctx context.Context, tokens []int32) ([]bool, error)

	// Prompt renders messages with the model's own chat template, ready for the assistant's answer. ErrTemplate is the error
	// of a template that refuses the conversation or cannot be used. A file without a template gets a built-in format of its
	// family; Prompt.Warning names it. Control tokens that messages spell are text: only the template's own become tokens.
	Prompt(ctx context.Context, messages []Message) (Prompt, error)

	// PromptWith is Prompt for a conversation with tools, documents, calls of tools and their results. ErrTemplate is also the
	// error of a template that renders nothing of the tools or documents, and of a built-in format, which has none.
	PromptWith(ctx context.Context, c Conversation) (Prompt, error)

	// Generate continues a prompt of at least one token, calling emit for every token as it is sampled. It stops at one of
	// the model's end tokens, at one of s.Stop, after s.MaxTokens, when the context is full, when ctx is done, or with
	// emit's error. Logits that are NaN or infinite are ErrNotFinite, here and in scoring. An end token is emitted as well, with the text held back until then, but not counted. The statistics
	// are those of the tokens so far, also beside an error, where Stop is StopAborted. The prefix that the prompt shares
	// with the tokens in the cache is not computed again.
	Generate(ctx context.Context, prompt []int32, s Sampling, emit func(Token) error) (GenStats, error)

	// Chat is Prompt followed by Generate, in one turn of the queue.
	Chat(ctx context.Context, messages []Message, s Sampling, emit func(Token) error) (GenStats, error)

	// Score returns the negative log-likelihood in nats of each token of each window given those before it in the window:
	// nll[w][i] is that of windows[w][i+1], so a window of n tokens has n-1 values. Windows are independent, may differ
	// in length and hold up to Info().Context tokens. Each window is a turn of the queue.
	Score(ctx context.Context, windows [][]int32, progress func(Progress)) (nll [][]float32, err error)

	// Distributions is Score with more of the distribution at each position, as o describes: result [w][i] is about
	// token windows[w][from+i], where from is o.FromOf(w).
	Distributions(ctx context.Context, windows [][]int32, o DistributionOptions) ([][]Position, error)

	// Bench measures speed as llama-bench does: every test of o on a cleared cache, after a warm-up, o.Repeats times.
	// A model that computes NaN is ErrNotFinite.
	Bench(ctx context.Context, o BenchOptions) (BenchResult, error)

	// Memory returns what the model uses now.
	Memory(ctx context.Context) (Memory, error)

	// SetThreads sets the number of processor threads of later work, as LoadOptions.Threads; running work changes at its
	// next token or batch. It does not wait, and may be called from a callback.
	SetThreads(n int) error

	// Queue returns what computes and what waits. It does not wait.
	Queue() QueueState

	// Close ends running and waiting calls with ErrClosed and frees the model. Closing twice is not an error.
	Close() error
}
