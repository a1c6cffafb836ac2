package infer

import "errors"

var (
	// ErrClosed is returned by every call on a closed engine or model.
	ErrClosed = errors.New("closed")

	// ErrEngineCrashed means that the process behind the model ended during the call. The text holds the last lines of
	// its log. The model stays usable: its next call starts a new process and loads the file again.
	ErrEngineCrashed = errors.New("the engine crashed")

	// ErrBadModel means that the file is not a model that this engine can run: not a model file, damaged, or of an
	// unknown architecture.
	ErrBadModel = errors.New("not a model this engine can run")

	// ErrNoGPU means that layers were to be on a GPU, and there is none that the engine can use.
	ErrNoGPU = errors.New("no GPU that the engine can use")

	// ErrNoMemory means that weights, cache and buffers need more memory than is free. Nothing was loaded.
	ErrNoMemory = errors.New("not enough memory")

	// ErrContextFull means that a prompt, window or benchmark has more tokens than the context of the model.
	ErrContextFull = errors.New("longer than the context")

	// ErrTemplate means that the model's chat template refuses a conversation, fails on it, exceeds its bounds, or cannot be
	// parsed. The text contains the reason. Other conversations are not affected.
	ErrTemplate = errors.New("chat template")

	// ErrNotFinite means that the model computes NaN or infinite numbers: weights of the file are, or overflow. The text names
	// the token concerned.
	ErrNotFinite = errors.New("the model computes NaN or infinite numbers")

	// ErrBadToken means that a token id is outside the model's vocabulary.
	ErrBadToken = errors.New("token outside the vocabulary")

	// ErrInvalid means that options or arguments are out of range, or do not fit together.
	ErrInvalid = errors.New("invalid setting")

	// ErrUnavailable means that this build contains no engine (it was built without cgo).
	ErrUnavailable = errors.New("no engine in this build")
)
