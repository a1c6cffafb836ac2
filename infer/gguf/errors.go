package gguf

import (
	"errors"

	"github.com/lathe-llm/lathe/infer/subnet"
)

var (
	// ErrFormat is wrapped by errors about a file that is not GGUF, is truncated, or whose header contradicts itself.
	ErrFormat = errors.New("not a valid GGUF file")
	// ErrArchitecture is wrapped by errors about a model family that this package cannot read or cut.
	ErrArchitecture = errors.New("unsupported architecture")
	// ErrType is wrapped by errors about a tensor type that is unknown or that cannot be converted.
	ErrType = subnet.ErrType
	// ErrMissing is wrapped by errors about a tensor or metadata key that the file lacks.
	ErrMissing = errors.New("missing")
	// ErrSource is wrapped by errors about a file that is not a subnet of the model at hand.
	ErrSource = errors.New("not a subnet of the model")
	// ErrSubnet is wrapped by errors about masks or re-fitted weights that do not fit the model, or that no file can hold.
	ErrSubnet = errors.New("subnet does not fit")
)
