package workspace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/lathe-llm/lathe/explorer/internal/fault"

	"github.com/lathe-llm/lathe/infer/durable"
)

// Names within a workspace folder.
const (
	JournalFile   = "journal"
	WeightsFolder = "weights"
	ScratchFolder = "scratch"
	cardFile      = "workspace.json"
	lockFile      = "lock"
)

// format is the version of the folder's layout and of the journal's records.
const format = 1

// A Model is what a workspace knows of the model that it belongs to.
type Model struct{ Path, Name, Fingerprint string }

// card is the content of cardFile: the model that the workspace belongs to.
type card struct {
	Format      int       `json:"format"`
	Model       string    `json:"model"` // path when the workspace was created
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	Created     time.Time `json:"created"`
}

// Open opens or creates the folder for a model. A folder that another process holds, or that cannot be written to, is
// opened read-only: lock is nil and holder is the reason.
func Open(path string, m Model, readOnly bool, now time.Time) (lock *os.File, holder string, err error) {
	if readOnly {
		if _, err := os.Stat(filepath.Join(path, cardFile)); errors.Is(err, os.ErrNotExist) {
			return nil, "opened read-only", nil
		}
		return nil, "opened read-only", checkCard(path, m)
	}
	if err := durable.MkdirAll(path, 0o755); err != nil {
		return nil, "", fmt.Errorf("workspace: %w", err)
	}
	lock, holder, err = takeLock(filepath.Join(path, lockFile))
	if err != nil {
		return nil, "", fmt.Errorf("workspace %s: %w", path, err)
	}
	err = checkCard(path, m)
	if errors.Is(err, os.ErrNotExist) && lock != nil {
		err = durable.Write(filepath.Join(path, cardFile), 0o600, func(w io.Writer) error {
			encoder := json.NewEncoder(w)
			encoder.SetIndent("", "  ")
			return encoder.Encode(card{format, m.Path, m.Name, m.Fingerprint, now})
		})
	}
	if err != nil {
		if lock != nil {
			err = errors.Join(err, lock.Close())
		}
		return nil, "", err
	}
	return lock, holder, nil
}

// checkCard checks that the workspace belongs to this model and has a format that this program reads.
func checkCard(path string, m Model) error {
	file := filepath.Join(path, cardFile)
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read from
	var c card
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&c); err != nil {
		return fmt.Errorf("%s: %w: %w", file, fault.ErrDamaged, err)
	}
	if c.Format != format {
		return fmt.Errorf("%s: format %d, this program reads %d: %w", file, c.Format, format, fault.ErrUnsupported)
	}
	if c.Fingerprint != m.Fingerprint {
		return fmt.Errorf("%s: %w: the workspace is of another model, %s (%.12s, not %.12s)", file, fault.ErrInvalid, c.Name, c.Fingerprint, m.Fingerprint)
	}
	return nil
}
