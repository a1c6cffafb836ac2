package explorer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/durable"
)

// The newest re-fit is kept in the workspace as it was shown at its end, so that its errors by layer outlive the process.
const (
	reformFolder   = "reform"
	reformVersion  = 1
	maxReformBytes = 64 << 20
)

// reformView is the content of the file.
type reformView struct {
	Version int
	Model   string // fingerprint
	Reform  Reform
}

// keepReform writes the re-fit that is shown, which a job has ended. That it cannot be written is a message: the subnet is kept.
func (e *Exploration) keepReform(m *monitor) {
	s := e.Snapshot()
	dir := e.folder(reformFolder)
	if dir == "" || s.Reform.Job != m.id {
		return
	}
	data, err := json.Marshal(reformView{reformVersion, s.Model.Fingerprint, s.Reform})
	if err == nil {
		err = durable.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = durable.WriteFile(filepath.Join(dir, viewFile), data, 0o600)
	}
	if err != nil {
		m.Note(fmt.Sprintf("the errors of the re-fit by layer could not be written: %v", err))
	}
}

// restoreReform reads the re-fit that was kept, if there is one of this model. It returns why one is not shown.
func (e *Exploration) restoreReform(now *Snapshot) (note string) {
	path := filepath.Join(now.Workspace.Path, reformFolder, viewFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	var found Reform
	if err == nil {
		found, err = readReform(f, now.Model)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Sprintf("the last re-fit is not shown: %s: %v", path, err)
	}
	now.Reform = found
	return ""
}

// readReform reads what keepReform has written. Its errors name the field.
func readReform(r io.Reader, m ModelInfo) (Reform, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxReformBytes+1))
	if err != nil {
		return Reform{}, err
	}
	if len(data) > maxReformBytes {
		return Reform{}, fmt.Errorf("it has more than %d bytes", maxReformBytes)
	}
	var v reformView
	if err := json.Unmarshal(data, &v); err != nil {
		return Reform{}, err
	}
	switch {
	case v.Version != reformVersion:
		return Reform{}, fmt.Errorf("field Version is %d, this program reads %d", v.Version, reformVersion)
	case v.Model != m.Fingerprint:
		return Reform{}, errors.New("Model is another one")
	case len(v.Reform.Layers) != 0 && len(v.Reform.Layers) != m.Layers:
		return Reform{}, fmt.Errorf("field Layers has %d entries for %d layers", len(v.Reform.Layers), m.Layers)
	}
	for i, l := range v.Reform.Layers {
		for _, b := range []*LayerProgress{l.Attention, l.MLP} {
			if b != nil && (b.Layer != i || b.Kept < 0 || b.Kept > b.Of) {
				return Reform{}, fmt.Errorf("field Layers: entry %d has layer %d with %d of %d units", i, b.Layer, b.Kept, b.Of)
			}
		}
	}
	v.Reform.Job = "" // of an earlier process
	return v.Reform, nil
}
