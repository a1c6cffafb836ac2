package search

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/lathe-llm/lathe/infer/durable"
)

// Store keeps the checkpoint of one search.
type Store interface {
	// Save replaces the checkpoint, entirely or not at all.
	Save(data []byte) error
	// Load returns the last one saved, or [ErrNoCheckpoint].
	Load() ([]byte, error)
}

// maxCheckpoint bounds what is read as a checkpoint, in bytes.
const maxCheckpoint = 1 << 30

// FileStore keeps the checkpoint in the file of that name.
type FileStore string

// Save replaces the file durably.
func (f FileStore) Save(data []byte) error {
	if err := durable.WriteFile(string(f), data, 0o600); err != nil {
		return fmt.Errorf("search: checkpoint: %w", err)
	}
	return nil
}

// Load reads the file.
func (f FileStore) Load() ([]byte, error) {
	file, err := os.Open(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoCheckpoint
	}
	if err != nil {
		return nil, fmt.Errorf("search: checkpoint: %w", err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxCheckpoint+1))
	if err != nil {
		return nil, fmt.Errorf("search: checkpoint: %w", err)
	}
	if len(data) > maxCheckpoint {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrDamaged, string(f), maxCheckpoint)
	}
	return data, nil
}
