package gguf

import (
	"errors"

	"github.com/lathe-llm/lathe/infer/subnet"
)

var (
	// ErrFormat is wrapped by errors about a file that is not GGUF, is truncated, or contradicts itself.
	ErrFormat = errors.New("not a valid GGUF file")
	// ErrArchitecture is wrapped by errors about a model family, or a variant of one, that this package does not read.
	ErrArchitecture = errors.New("unsupported architecture")
	// ErrType is wrapped by errors about a tensor type that is unknown or that cannot be converted.
	ErrType = subnet.ErrType
	// ErrMissing is wrapped by errors about a tensor or a metadata key that the file does not have.
	ErrMissing = errors.New("missing")
	// ErrSource is wrapped by errors about a file that is not a subnet of the model at hand.
	ErrSource = errors.New("not a subnet of the model")
	// ErrSubnet is wrapped by errors about masks or re-fitted weights that do not fit the model or any file.
	ErrSubnet = errors.New("subnet does not fit")
)
