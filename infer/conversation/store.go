package conversation

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lathe-llm/lathe/infer/durable"
)

// version of the prompts, the sampling and the filter; what another one wrote is generated again.
const version = 1

// maxStored bounds a file of conversations, in bytes.
const maxStored = 64 << 20

// ErrDamaged is wrapped where a file of conversations cannot be read as one.
var ErrDamaged = errors.New("damaged conversations")

// stored is the content of such a file.
type stored struct {
	Version   int      `json:"version"`
	Model     string   `json:"model"` // hash of its file
	Documents []string `json:"documents"`
}

// Path returns the path of the conversations of a model in a folder.
func Path(dir, model string) string { return filepath.Join(dir, model+".json") }

// Load returns the conversations of a model that are kept in a folder. Its error wraps [fs.ErrNotExist] where there are none of this
// version, and [ErrDamaged] where the file is none of ours.
func Load(dir, model string) ([]string, error) {
	path := Path(dir, model)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	limited := &io.LimitedReader{R: f, N: maxStored + 1}
	var s stored
	switch err := json.NewDecoder(limited).Decode(&s); {
	case limited.N <= 0:
		return nil, fmt.Errorf("%s: %w: more than %d bytes", path, ErrDamaged, int64(maxStored))
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %w", path, ErrDamaged, err)
	case s.Version != version:
		return nil, fmt.Errorf("%s: of version %d: %w", path, s.Version, fs.ErrNotExist)
	case s.Model != model:
		return nil, fmt.Errorf("%s: %w: model is %.12q, not %.12q", path, ErrDamaged, s.Model, model)
	case strings.TrimSpace(strings.Join(s.Documents, "")) == "":
		return nil, fmt.Errorf("%s: %w: documents is empty", path, ErrDamaged)
	}
	return s.Documents, nil
}

// Save keeps the conversations of a model in a folder, durably, and returns those that are there afterwards: where another process
// has kept some in the meantime, those.
func Save(dir, model string, documents []string) ([]string, error) {
	if there, err := Load(dir, model); err == nil {
		return there, nil
	}
	data, err := json.MarshalIndent(stored{version, model, documents}, "", " ")
	if err == nil {
		err = durable.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = durable.WriteFile(Path(dir, model), data, 0o644)
	}
	return documents, err
}
