package explorer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/lathe-llm/lathe/infer/durable"
)

// Names within a workspace folder.
const (
	cardFile      = "workspace.json"
	journalFile   = "journal"
	lockFile      = "lock"
	weightsFolder = "weights"
	scratchFolder = "scratch"
)

// workspaceFormat is the version of the folder's layout and of the journal's records.
const workspaceFormat = 1

// card says whose workspace a folder is.
type card struct {
	Format      int       `json:"format"`
	Model       string    `json:"model"` // path when the workspace was made
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	Created     time.Time `json:"created"`
}

// DefaultWorkspace is the folder below root that a model's workspace is kept in where nobody chose one. It follows the
// content of the model and not its path: a file that was moved keeps its workspace.
func DefaultWorkspace(root string, m ModelInfo) string {
	name := make([]rune, 0, len(m.Name))
	for _, r := range m.Name {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' {
			name = append(name, r)
		} else {
			name = append(name, '-')
		}
	}
	return filepath.Join(root, fmt.Sprintf("%.60s-%.12s", string(name), m.Fingerprint))
}

// openWorkspace opens or makes the folder for a model. A folder that another process holds, or that cannot be written to,
// is opened read-only with holder saying why.
func openWorkspace(path string, m ModelInfo, readOnly bool, now time.Time) (lock *os.File, holder string, err error) {
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
			return encoder.Encode(card{workspaceFormat, m.Path, m.Name, m.Fingerprint, now})
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

// checkCard makes sure that the workspace is one of this model and of a format that this program reads.
func checkCard(path string, m ModelInfo) error {
	file := filepath.Join(path, cardFile)
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read from
	var c card
	if err := json.NewDecoder(io.LimitReader(f, 1<<20)).Decode(&c); err != nil {
		return fmt.Errorf("%s: %w: %w", file, ErrDamaged, err)
	}
	if c.Format != workspaceFormat {
		return fmt.Errorf("%s: format %d, this program reads %d: %w", file, c.Format, workspaceFormat, ErrUnsupported)
	}
	if c.Fingerprint != m.Fingerprint {
		return fmt.Errorf("%s: %w: the workspace is of another model, %s (%.12s, not %.12s)", file, ErrInvalid, c.Name, c.Fingerprint, m.Fingerprint)
	}
	return nil
}
