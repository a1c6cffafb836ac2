package search

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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

// Save writes a file beside the old one, flushes it to the disk and renames it
// over the old one.
func (f FileStore) Save(data []byte) error {
	path := string(f)
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("search: checkpoint: %w", err)
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(tmp.Name()) // the error that counts is the one above
		return fmt.Errorf("search: checkpoint: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir last through a power cut, where the system has
// folders that can be flushed.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil // the file is whole either way
	}
	_ = d.Sync()
	return d.Close()
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
