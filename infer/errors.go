package infer

import "errors"

var (
	// ErrClosed is returned by every call on a closed engine or model.
	ErrClosed = errors.New("closed")

	// ErrEngineCrashed means that the process behind the model ended in the middle of the call. The text holds the last
	// lines of its log. The model stays usable: its next call starts the process again and loads the file again.
	ErrEngineCrashed = errors.New("the engine crashed")

	// ErrBadModel means that the file is no model this engine can run: foreign, damaged or of an unknown architecture.
	ErrBadModel = errors.New("not a model this engine can run")

	// ErrNoMemory means that weights, cache and buffers need more memory than there is. Nothing was loaded.
	ErrNoMemory = errors.New("not enough memory")

	// ErrContextFull means that a prompt or window has more tokens than the context the model was loaded with.
	ErrContextFull = errors.New("longer than the context")

	// ErrBadToken means that a token id is outside the model's vocabulary.
	ErrBadToken = errors.New("token outside the vocabulary")

	// ErrUnavailable means that this build holds no engine (it was built without cgo).
	ErrUnavailable = errors.New("no engine in this build")
)
