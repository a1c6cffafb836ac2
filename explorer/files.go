package explorer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"
)

// Subnets leave the library as files of models and come back from them. Recipes are in recipe.go.

func (c Export) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	s := e.Snapshot()
	if _, err := s.Masks(c.Subnet); err != nil {
		return Receipt{}, err
	}
	if c.Path == "" {
		return Receipt{}, fmt.Errorf("%w: no file to export to", ErrInvalid)
	}
	if c.As != "" && c.As != AsGGUF && c.As != AsFolder {
		return Receipt{}, fmt.Errorf("%w: export as %q, not %s or %s", ErrInvalid, c.As, AsGGUF, AsFolder)
	}
	if err := errors.Join(c.Vocab.optional(s.Model.Geometry), e.checkCalibration(c.Calibration)); err != nil {
		return Receipt{}, err
	}
	title := fmt.Sprintf("export %s to %s", s.label(c.Subnet), filepath.Base(c.Path))
	to := destination{path: c.Path, folder: c.As == AsFolder, replace: c.Replace}
	return e.launchTo(a, to, JobExport, title, func(ctx context.Context, m *monitor) error {
		m.noWait = c.NoWait
		return e.export(ctx, c, m)
	})
}

func (c ImportFile) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	if err := e.model.CheckFile(c.Path); err != nil {
		return Receipt{}, err
	}
	title := "import " + filepath.Base(c.Path)
	return e.launch(a, jobs.Foreground, JobImport, title, func(ctx context.Context, m *monitor) error {
		m.noWait = c.NoWait
		return e.importFile(ctx, a, c, m)
	})
}

func (e *Exploration) export(ctx context.Context, c Export, m *monitor) error {
	subject, err := e.loadSubnet(ctx, c.Subnet)
	if err != nil {
		return err
	}
	if n, ok := e.Snapshot().Subnet(c.Subnet); ok {
		subject.Provenance = n.provenance()
	}
	var method Method
	if c.Vocab.On() {
		if err := e.trim(ctx, &subject, &method, c.Vocab, c.Calibration, m); err != nil {
			return err
		}
	}
	write := e.model.Write
	if c.As == AsFolder {
		write = e.model.WriteFolder
	}
	report, err := write(ctx, subject, c.Path, c.Type, m)
	if err != nil {
		return err
	}
	e.warnUnfitted(c.Subnet, m)
	m.show(func(j *Job) { j.Output, j.Report, j.Vocab = report.Path, &report, method.Vocab })
	return nil
}

// warnUnfitted notes that a subnet that leaves the library has original weights, where another one has the same masks re-fitted.
func (e *Exploration) warnUnfitted(id SubnetID, m *monitor) {
	s := e.Snapshot()
	n, ok := s.Subnet(id)
	if !ok {
		return
	}
	if other, ok := s.Refitted(n); ok {
		m.Note(fmt.Sprintf("%s is not re-fitted; %s (%s) has the same masks with re-fitted weights", n.Name, other.ID, other.Name))
	}
}

// provenance returns the metadata of an exported file on how it was made, besides the writer's own on masks and source.
func (n *Subnet) provenance() map[string]any {
	p := map[string]any{"name": n.Name, "origin": string(n.Origin), "created": n.Created.Format(time.RFC3339)}
	for key, value := range map[string]string{
		"method": n.Method.Preset, "reformation": n.Method.Reform, "calibration": baseName(n.Method.Text.Path), "calibration.sha256": n.Method.Text.SHA256,
	} {
		if value != "" {
			p[key] = value
		}
	}
	if len(n.Method.Mix) > 0 {
		if mix, err := json.Marshal(n.Method.Mix); err == nil {
			p["calibration.mix"] = string(mix)
		}
	}
	return p
}

// baseName returns the name of a file without the folders of this machine, "" for none.
func baseName(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}

func (e *Exploration) importFile(ctx context.Context, a Actor, c ImportFile, m *monitor) error {
	subnet, err := e.model.Read(ctx, c.Path)
	if err != nil {
		return err
	}
	name := c.Name
	if name == "" {
		name = filepath.Base(c.Path)
	}
	return m.Persist(ctx, func() error {
		return e.keep(a, m, Made{Subnet: subnet}, Subnet{Name: name, Origin: Imported, Note: "from " + filepath.Base(c.Path)})
	})
}
