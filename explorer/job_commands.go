package explorer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/search"
)

// The commands that start a job check what is quick to check, and queue the job.

// checkCalibration reports a calibration that cannot be used, a text that is missing included.
func (e *Exploration) checkCalibration(c Calibration) error {
	if err := c.check(); err != nil {
		return err
	}
	return e.model.CheckTexts(c)
}

func (c GatherStatistics) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	if err := errors.Join(e.checkCalibration(c.Calibration), c.Machines.checkPieces()); err != nil {
		return Receipt{}, err
	}
	return e.launch(a, jobs.Idle, JobStatistics, "statistics", func(ctx context.Context, m *monitor) error { return e.gather(ctx, c, m) })
}

func (c Cut) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	g := e.Snapshot().Model.Geometry
	if err := errors.Join(c.checkTarget(), e.checkCalibration(c.Calibration), checkPreset(c.Preset), c.Reform.check(), c.Reform.checkTarget(g), c.checkWidths(g)); err != nil {
		return Receipt{}, err
	}
	if err := c.Vocab.optional(g); err != nil {
		return Receipt{}, err
	}
	if err := c.Tuning.check(); c.Tuning.On() && err != nil {
		return Receipt{}, err
	}
	title := "cut to " + TargetName(c.target())
	return e.launch(a, jobs.Foreground, JobCut, title, func(ctx context.Context, m *monitor) error { return e.cut(ctx, a, c, m) })
}

// target returns what the cut aims at.
func (c Cut) target() search.Target { return cmp.Or(c.Within, search.Ratio(c.Target)) }

func (c Cut) checkTarget() error {
	if c.Within == (search.Target{}) {
		return checkRatio("ratio", c.Target)
	}
	if c.Target != 0 {
		return fmt.Errorf("%w: a cut to a ratio of %g and within %s: give one of them", ErrInvalid, c.Target, c.Within.Text())
	}
	return checkTarget(c.Within)
}

func (c Refit) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	s := e.Snapshot()
	if _, err := s.Masks(c.Subnet); err != nil {
		return Receipt{}, err
	}
	if n, ok := s.Subnet(c.Subnet); ok && n.Types != nil {
		return Receipt{}, fmt.Errorf("%w: the matrices of %s have types of their own: quantize re-fits to rounded matrices", ErrUnsupported, n.Name)
	}
	if err := errors.Join(e.checkCalibration(c.Calibration), checkPreset(c.Preset), c.Reform.check(), c.Reform.checkBias(s.Model.Arch), c.Reform.checkTarget(s.Model.Geometry)); err != nil {
		return Receipt{}, err
	}
	title := "re-fit " + s.label(c.Subnet)
	return e.launch(a, jobs.Foreground, JobReform, title, func(ctx context.Context, m *monitor) error { return e.refit(ctx, a, c, m) })
}

func (c Measure) do(_ context.Context, e *Exploration, a Actor) (Receipt, error) {
	return c.launch(e, a, jobs.Foreground)
}

// launch queues the measurement in a lane.
func (c Measure) launch(e *Exploration, a Actor, l jobs.Lane) (Receipt, error) {
	s := e.Snapshot()
	if err := c.check(s); err != nil {
		return Receipt{}, err
	}
	j := Job{Author: a.Name, Kind: JobMeasure, Title: "perplexity of " + s.label(c.Subnet), CanPause: true, Of: c.Subnet, Follows: l == jobs.Following}
	id, err := e.start(l, j, func(ctx context.Context, m *monitor) error { return e.measure(ctx, a, c, nil, m) })
	return Receipt{Job: id}, err
}

func (c Measure) check(s *Snapshot) error {
	if _, err := s.Masks(c.Subnet); err != nil {
		return err
	}
	if err := errors.Join(SeqRange().optional("tokens per window", float64(c.Seq)), MeasuredRange().optional("windows", float64(c.Windows))); err != nil {
		return err
	}
	if c.Stride < 0 || c.Seq > 0 && c.Stride > c.Seq {
		return fmt.Errorf("%w: windows of %d tokens, %d apart: the stride is from 1 to the length of a window", ErrInvalid, c.Seq, c.Stride)
	}
	if c.Engine != "" && c.Engine != EngineDecoder && c.Engine != EngineLlama {
		return fmt.Errorf("%w: engine %q, not %s or %s", ErrInvalid, c.Engine, EngineDecoder, EngineLlama)
	}
	return nil
}

func (c MeasureAll) do(_ context.Context, e *Exploration, a Actor) (Receipt, error) {
	if len(c.Of) == 0 {
		return Receipt{}, fmt.Errorf("%w: no measurements", ErrInvalid)
	}
	for _, of := range c.Of {
		if err := of.check(e.Snapshot()); err != nil {
			return Receipt{}, err
		}
	}
	if err := c.Machines.checkPieces(); err != nil {
		return Receipt{}, err
	}
	title := format.Counted(len(c.Of), "measurement")
	return e.launch(a, jobs.Foreground, JobMeasure, title, func(ctx context.Context, m *monitor) error { return e.measureAll(ctx, a, c, m) })
}

func (c StartSearch) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	if c.Resume {
		var err error
		if c, err = e.Snapshot().resumed(c); err != nil {
			return Receipt{}, err
		}
	}
	m := e.Snapshot().Model
	text := e.checkCalibration(c.Calibration)
	if c.Resume { // a search whose text is gone fails as its job, beside which the rest can be used
		text = c.Calibration.check()
	}
	if err := errors.Join(checkTarget(cmp.Or(c.Retarget, c.Target)), text, checkGranularity(m.Geometry, c.Granularity), c.Reform.check(), c.Reform.checkBias(m.Arch), c.Reform.checkTarget(m.Geometry), c.Machines.check()); err != nil {
		return Receipt{}, err
	}
	if err := errors.Join(c.checkSettings(), c.Vocab.optional(m.Geometry)); err != nil {
		return Receipt{}, err
	}
	var err error
	if c.Prompt, err = checkAnswered(c.Prompt); err != nil {
		return Receipt{}, err
	}
	if c.Prompt != "" && !c.Resume {
		if err := m.Runs(); err != nil {
			return Receipt{}, fmt.Errorf("nothing answers the prompt: %w", err)
		}
	}
	if c.Calibration.Draw == "" { // recorded, since searches of earlier versions had another one
		c.Calibration.Draw = DrawWhole
	}
	if c.Calibration.Text == "" && len(c.Calibration.Mix) == 0 {
		c.Calibration.DefaultTexts = defaultTexts
	}
	title := "search at " + TargetName(cmp.Or(c.Retarget, c.Target))
	return e.launch(a, jobs.Background, JobSearch, title, func(ctx context.Context, m *monitor) error { return e.search(ctx, a, c, m) })
}

func (c ExportRecipe) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	s := e.Snapshot()
	if err := s.HasRecipe(c.Subnet); err != nil {
		return Receipt{}, err
	}
	n, _ := s.Subnet(c.Subnet)
	if c.Path == "" {
		return Receipt{}, fmt.Errorf("%w: no file to write the recipe to", ErrInvalid)
	}
	title := fmt.Sprintf("recipe of %s to %s", n.Name, filepath.Base(c.Path))
	to := destination{path: c.Path, replace: c.Replace}
	return e.launchTo(a, to, JobRecipe, title, func(ctx context.Context, m *monitor) error { return e.exportRecipe(ctx, c, m) })
}

func (c BuildRecipe) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	f, err := os.Open(c.Path)
	if err != nil {
		return Receipt{}, err
	}
	_, _, err = ReadRecipe(f, e.Snapshot().Model.Geometry)
	if err = errors.Join(err, f.Close()); err != nil {
		return Receipt{}, fmt.Errorf("%s: %w", c.Path, err)
	}
	title := "build " + filepath.Base(c.Path)
	build := func(ctx context.Context, m *monitor) error { return e.buildRecipe(ctx, a, c, m) }
	if c.To == "" {
		return e.launch(a, jobs.Foreground, JobRecipe, title, build)
	}
	return e.launchTo(a, destination{path: c.To, replace: c.Replace}, JobRecipe, title, build)
}

// launch queues a job that can be paused.
func (e *Exploration) launch(a Actor, l jobs.Lane, kind JobKind, title string, run func(context.Context, *monitor) error) (Receipt, error) {
	id, err := e.start(l, Job{Author: a.Name, Kind: kind, Title: title, CanPause: true}, run)
	return Receipt{Job: id}, err
}

func checkPreset(name string) error {
	if !IsPreset(name) {
		return fmt.Errorf("%w: method %q is not one of %s", ErrInvalid, name, strings.Join(Presets(), ", "))
	}
	return nil
}

func checkRatio(what string, r float64) error {
	return RatioRange().check(what, r)
}

// label returns the name of a subnet in messages.
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

// gather runs the statistics pass. The first one ranks units by their weights before that, so that they can be edited meanwhile.
func (e *Exploration) gather(ctx context.Context, c GatherStatistics, m *monitor) error {
	if e.Snapshot().Statistics.Importance == nil {
		m.Progress(0, 0, "layers", "ranking by the norms of weights")
		if norms, err := e.model.Norms(ctx); err != nil {
			m.Note(fmt.Sprintf("units are not ranked by their weights: %v", err))
		} else {
			e.update(SectionStatistics, func(s *Snapshot) { s.Statistics.Importance, s.Statistics.ByNorms = norms, true })
		}
	}
	stats, err := e.model.Gather(ctx, c, e.folder("statistics"), m)
	if err != nil {
		return err
	}
	e.refresh()
	e.update(SectionStatistics, func(s *Snapshot) { s.Statistics = stats })
	if err := e.compareAll(ctx, m); err != nil {
		return err
	}
	e.estimate()
	return nil
}

// begin shows a cut or a re-fit in the snapshot's Reform before its first layer.
func (e *Exploration) begin(m *monitor, of SubnetID, method Method) {
	e.update(SectionReform, func(s *Snapshot) { s.Reform = Reform{Job: m.id, Of: of, Method: method} })
}

func (e *Exploration) cut(ctx context.Context, a Actor, c Cut, m *monitor) error {
	e.begin(m, DenseID, Method{Preset: c.Preset, Reform: c.Reform.Method}.AimedAt(c.target()))
	m.expect(c)
	if c.Within.Timed() { // from the times that the workspace has, or measured and kept there
		if _, err := e.model.Prices(ctx, c.Within, e.folder("search"), m); err != nil {
			return err
		}
	}
	made, err := e.model.Cut(ctx, c, m)
	if err == nil && c.Vocab.On() {
		err = e.trim(ctx, &made.Subnet, &made.Method, c.Vocab, c.Calibration, m)
	}
	if err != nil {
		return err
	}
	keep := func() error {
		return m.Persist(ctx, func() error { return e.keep(a, m, made, Subnet{Name: c.Name, Origin: OneShot}) })
	}
	if c.Tuning.On() {
		m.close(TuningPhase)
		tuned, err := e.tuneMade(ctx, made, c.Calibration, c.Tuning, m)
		switch {
		case err == nil:
			made = tuned
		case errors.Is(err, ErrText) || errors.Is(context.Cause(ctx), jobs.ErrStopped): // what was made stays
			return errors.Join(err, keep())
		default:
			return err
		}
	}
	return keep()
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
	m.expect(c)
	made, err := e.model.Refit(ctx, masks, c, m)
	if err != nil {
		return err
	}
	if err := e.keepPrevious(ctx, c.Subnet, &made, m); err != nil {
		return err
	}
	name := c.Name
	if name == "" {
		name = s.label(c.Subnet) + " re-fitted"
	}
	return m.Persist(ctx, func() error { return e.keep(a, m, made, Subnet{Name: name, Origin: Reformed, Parent: parent}) })
}
