// Package scratch creates folders for files that need not outlive the process. The process removes its own when it is done with
// them, and the next process removes those of processes that were killed.
package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/internal/owner"
)

// Folder is a folder of this process.
type Folder struct {
	path string
	mark *os.File // nil where the file system has no locks
}

// New creates a folder in parent, "" for the system's temporary folder. purpose, a word of a to z, becomes part of its name. It
// removes folders of processes that were killed from parent first.
func New(parent, purpose string) (*Folder, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("scratch folder: %w", err)
	}
	return create(parent, owner.Scratch+purpose+"-")
}

// Beside creates a hidden folder in the folder of path, for what will be renamed to path.
func Beside(path string) (*Folder, error) {
	return create(filepath.Dir(filepath.Clean(path)), owner.NewFolder)
}

// attempts is how often a folder is created again because another process has just removed it as one without an owner.
const attempts = 10

func create(parent, begins string) (*Folder, error) {
	owner.Sweep(parent)
	for range attempts {
		f := &Folder{path: filepath.Join(parent, begins+owner.Random())}
		if err := os.Mkdir(f.path, 0o700); err != nil {
			return nil, fmt.Errorf("scratch folder: %w", err)
		}
		dir, err := os.Open(f.path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("scratch folder: %w", err), os.Remove(f.path))
		}
		var exists bool
		f.mark, exists = owner.Mark(dir)
		_ = dir.Close() // only opened for the mark
		if exists {
			return f, nil
		}
	}
	return nil, fmt.Errorf("scratch folder: others remove what is created in %s", parent)
}

// Path returns the folder's path.
func (f *Folder) Path() string { return f.path }

// Join returns the path of a file in the folder.
func (f *Folder) Join(name string) string { return filepath.Join(f.path, name) }

// Remove removes the folder and all that is in it, or does nothing if the folder was renamed. Removing twice is not an error.
func (f *Folder) Remove() error {
	err := os.RemoveAll(f.path)
	if f.mark != nil {
		_ = f.mark.Close() // nothing is written to it
		f.mark = nil
	}
	return err
}
