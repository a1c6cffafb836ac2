package explorer

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"

	"github.com/lathe-llm/lathe/explorer/internal/workspace"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// launch checks a command that starts a job, as far as that is quick, and queues the job.
func (e *Exploration) launch(ctx context.Context, a Actor, c Command) (Receipt, error) {
	s := e.Snapshot()
	if s.Workspace.ReadOnly {
		switch c.(type) {
		case Export, ExportRecipe, StartBench, Measure: // their results last as long as the process
		default:
			return Receipt{}, fmt.Errorf("%w (%s)", ErrReadOnly, s.Workspace.Holder)
		}
	}
	job := Job{Author: a.Name, CanPause: true}
	var run func(context.Context, *monitor) error
	on := jobs.Foreground
	switch c := c.(type) {
	case GatherStatistics:
		if err := checkCalibration(c.Calibration); err != nil {
			return Receipt{}, err
		}
		on = jobs.Idle
		job.Kind, job.Title = JobStatistics, "statistics"
		run = func(ctx context.Context, m *monitor) error { return e.gather(ctx, c, m) }
	case Cut:
		if err := checkRatio("ratio", c.Target); err != nil {
			return Receipt{}, err
		}
		if err := checkCalibration(c.Calibration); err != nil {
			return Receipt{}, err
		}
		if !IsPreset(c.Preset) {
			return Receipt{}, fmt.Errorf("%w: method %q is not one of %s", ErrInvalid, c.Preset, strings.Join(Presets(), ", "))
		}
		job.Kind, job.Title = JobCut, fmt.Sprintf("cut to %.2f", c.Target)
		run = func(ctx context.Context, m *monitor) error { return e.cut(ctx, a, c, m) }
	case Refit:
		if _, err := s.Masks(c.Subnet); err != nil {
			return Receipt{}, err
		}
		if err := checkCalibration(c.Calibration); err != nil {
			return Receipt{}, err
		}
		if !IsPreset(c.Preset) {
			return Receipt{}, fmt.Errorf("%w: method %q is not one of %s", ErrInvalid, c.Preset, strings.Join(Presets(), ", "))
		}
		job.Kind, job.Title = JobReform, "re-fit "+s.label(c.Subnet)
		run = func(ctx context.Context, m *monitor) error { return e.refit(ctx, a, c, m) }
	case Measure:
		if _, err := s.Masks(c.Subnet); err != nil {
			return Receipt{}, err
		}
		if c.Seq < 0 || c.Windows < 0 || c.Seq == 1 {
			return Receipt{}, fmt.Errorf("%w: %d windows of %d tokens", ErrInvalid, c.Windows, c.Seq)
		}
		if c.Engine != "" && c.Engine != EngineDecoder && c.Engine != EngineLlama {
			return Receipt{}, fmt.Errorf("%w: engine %q, not %s or %s", ErrInvalid, c.Engine, EngineDecoder, EngineLlama)
		}
		job.Kind, job.Title = JobMeasure, "perplexity of "+s.label(c.Subnet)
		run = func(ctx context.Context, m *monitor) error { return e.measure(ctx, a, c, m) }
	case StartSearch:
		if err := checkRatio("target", c.Target); err != nil {
			return Receipt{}, err
		}
		if err := checkCalibration(c.Calibration); err != nil {
			return Receipt{}, err
		}
		on = jobs.Background
		job.Kind, job.Title = JobSearch, fmt.Sprintf("search at %.2f", c.Target)
		run = func(ctx context.Context, m *monitor) error { return e.search(ctx, a, c, m) }
	case Export:
		if _, err := s.Masks(c.Subnet); err != nil {
			return Receipt{}, err
		}
		if c.Path == "" {
			return Receipt{}, fmt.Errorf("%w: no file to export to", ErrInvalid)
		}
		job.Kind, job.Title = JobExport, fmt.Sprintf("export %s to %s", s.label(c.Subnet), filepath.Base(c.Path))
		run = func(ctx context.Context, m *monitor) error { return e.export(ctx, c, m) }
	case ExportRecipe:
		if n, ok := s.Subnet(c.Subnet); !ok {
			return Receipt{}, fmt.Errorf("subnet %s: %w", c.Subnet, ErrNotFound)
		} else if !rebuildable(n) {
			return Receipt{}, fmt.Errorf("%w: it is not known how the weights of %s were re-fitted (%s)", ErrUnsupported, n.Name, n.Origin)
		}
		if c.Path == "" {
			return Receipt{}, fmt.Errorf("%w: no file to write the recipe to", ErrInvalid)
		}
		job.Kind, job.Title = JobRecipe, fmt.Sprintf("recipe of %s to %s", s.label(c.Subnet), filepath.Base(c.Path))
		run = func(ctx context.Context, m *monitor) error { return e.exportRecipe(ctx, c, m) }
	case BuildRecipe:
		job.Kind, job.Title = JobRecipe, "build "+filepath.Base(c.Path)
		run = func(ctx context.Context, m *monitor) error { return e.buildRecipe(ctx, a, c, m) }
	case StartBench:
		return e.launchBench(ctx, a, c)
	case ImportFile:
		job.Kind, job.Title = JobImport, "import "+filepath.Base(c.Path)
		run = func(ctx context.Context, m *monitor) error { return e.importFile(ctx, a, c, m) }
	default:
		return Receipt{}, fmt.Errorf("%w: unknown command %T", ErrInvalid, c)
	}
	id, err := e.start(on, job, run)
	return Receipt{Job: id}, err
}

func checkRatio(what string, r float64) error {
	if math.IsNaN(r) || r <= 0 || r > 1 {
		return fmt.Errorf("%w: %s %g is not in (0, 1]", ErrInvalid, what, r)
	}
	return nil
}

func checkCalibration(c Calibration) error {
	if c.Windows < 0 || c.Seq < 0 || c.Seq == 1 {
		return fmt.Errorf("%w: calibration on %d windows of %d tokens", ErrInvalid, c.Windows, c.Seq)
	}
	return nil
}

// label is what people call a subnet.
func (s *Snapshot) label(id SubnetID) string {
	switch id {
	case DenseID:
		return "dense"
	case DraftID:
		return "draft"
	}
	if n, ok := s.Subnet(id); ok {
		return n.Name
	}
	return string(id)
}

// gather runs the statistics pass.
func (e *Exploration) gather(ctx context.Context, c GatherStatistics, m *monitor) error {
	stats, err := e.model.Gather(ctx, c.Calibration, e.folder("statistics"), m)
	if err != nil {
		return err
	}
	e.refresh()
	e.update(SectionStatistics, func(s *Snapshot) { s.Statistics = stats })
	if err := e.compareAll(ctx); err != nil {
		return err
	}
	e.estimate()
	return nil
}

// begin shows a cut or a re-fitting in the snapshot's Reform before its first layer.
func (e *Exploration) begin(m *monitor, of SubnetID, method Method) {
	e.update(SectionReform, func(s *Snapshot) { s.Reform = Reform{Job: m.id, Of: of, Method: method} })
}

func (e *Exploration) cut(ctx context.Context, a Actor, c Cut, m *monitor) error {
	e.begin(m, DenseID, Method{Preset: c.Preset, Target: c.Target, Reform: c.Reform.Method})
	made, err := e.model.Cut(ctx, c, m)
	if err != nil {
		return err
	}
	return e.keep(a, m, made, Subnet{Name: c.Name, Origin: OneShot})
}

func (e *Exploration) refit(ctx context.Context, a Actor, c Refit, m *monitor) error {
	s := e.Snapshot()
	masks, err := s.Masks(c.Subnet)
	if err != nil {
		return err
	}
	parent := c.Subnet
	if parent == DraftID {
		parent = s.Draft.Base
	}
	e.begin(m, c.Subnet, Method{Reform: c.Reform.Method})
	made, err := e.model.Refit(ctx, masks, c, m)
	if err != nil {
		return err
	}
	name := c.Name
	if name == "" {
		name = s.label(c.Subnet) + " re-fitted"
	}
	return e.keep(a, m, made, Subnet{Name: name, Origin: Reformed, Parent: parent})
}

// keep puts what a job made into the library, its weights on the disk first. also is recorded with it, both or neither.
func (e *Exploration) keep(a Actor, m *monitor, made Made, n Subnet, also ...record) error {
	e.refresh()
	n.Author, n.Masks, n.Method = a.Name, made.Subnet.Masks, made.Method
	n.HeldOut = HeldOut{Unfitted: made.Before, Perplexity: made.After}
	if hasRefit(made.Subnet) {
		file, bytes, err := e.weights.Save(made.Subnet)
		if err != nil {
			return err
		}
		n.Refit, n.RefitBytes = file, bytes
	}
	var id SubnetID
	err := e.record(context.Background(), a, func(*Snapshot) ([]record, error) {
		r, err := e.newSubnet(n)
		if err != nil {
			return nil, err
		}
		id = r.Subnet.ID
		return append([]record{r}, also...), nil
	})
	if err != nil {
		return err
	}
	m.show(func(j *Job) { j.Result = id })
	if path := e.Snapshot().Workspace.Path; path != "" {
		bytes := workspace.Bytes(path)
		e.update(SectionWorkspace, func(s *Snapshot) { s.Workspace.Bytes = bytes })
	}
	e.update(SectionReform, func(s *Snapshot) {
		if s.Reform.Job == m.id {
			s.Reform.Result, s.Reform.Method, s.Reform.Before, s.Reform.After, s.Reform.General = id, made.Method, made.Before, made.After, made.General
		}
	})
	return nil
}

func hasRefit(s gguf.Subnet) bool {
	for _, r := range s.Refit {
		if r.WO != nil || r.WD != nil || r.BO != nil || r.BD != nil || r.WU != nil {
			return true
		}
	}
	return false
}

// subject is the subnet of an id, ready to be run, scored or written.
func (e *Exploration) subject(ctx context.Context, id SubnetID) (gguf.Subnet, error) {
	s := e.Snapshot()
	masks, err := s.Masks(id)
	if err != nil {
		return gguf.Subnet{}, err
	}
	n, ok := s.Subnet(id)
	if id == DraftID {
		n, ok = s.Subnet(s.Draft.Base)
	}
	if !ok || n.Refit == "" {
		return gguf.Subnet{Masks: masks}, nil
	}
	fitted, err := e.weights.Load(ctx, n.Refit, s.Model.Geometry)
	if err != nil {
		return gguf.Subnet{}, fmt.Errorf("re-fitted weights of %s: %w", n.Name, err)
	}
	if fitted.Masks.Equal(masks) {
		fitted.Masks = masks
		return fitted, nil
	}
	return e.model.Carry(ctx, fitted, masks)
}

func (e *Exploration) export(ctx context.Context, c Export, m *monitor) error {
	subject, err := e.subject(ctx, c.Subnet)
	if err != nil {
		return err
	}
	subject.Provenance = e.provenance(c.Subnet)
	report, err := e.model.Write(ctx, subject, c.Path, c.Type, m)
	if err != nil {
		return err
	}
	m.show(func(j *Job) { j.Output, j.Report = report.Path, &report })
	return nil
}

// provenance is what an exported file says of how it was made, besides what the writer adds of masks and source.
func (e *Exploration) provenance(id SubnetID) map[string]any {
	n, ok := e.Snapshot().Subnet(id)
	if !ok {
		return nil
	}
	p := map[string]any{"name": n.Name, "origin": string(n.Origin), "created": n.Created.Format(time.RFC3339)}
	for key, value := range map[string]string{
		"method": n.Method.Preset, "reformation": n.Method.Reform, "calibration": n.Method.Text.Path, "calibration.sha256": n.Method.Text.SHA256,
	} {
		if value != "" {
			p[key] = value
		}
	}
	return p
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
	return e.keep(a, m, Made{Subnet: subnet}, Subnet{Name: name, Origin: Imported, Note: "from " + filepath.Base(c.Path)})
}
