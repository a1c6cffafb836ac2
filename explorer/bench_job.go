package explorer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"

	"github.com/lathe-llm/lathe/infer"
)

// The defaults of benchmark settings.
const (
	defaultGenerate = 64
	defaultRepeats  = 3
	maxBenchRows    = 200
)

func (c StartBench) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	set := c.Settings
	if len(set.Subnets) == 0 {
		set.Subnets = []SubnetID{DenseID}
	}
	if len(set.Prompt) == 0 {
		set.Prompt = []int{128, 512}
	}
	if set.Generate == 0 {
		set.Generate = defaultGenerate
	}
	if set.Repeats == 0 {
		set.Repeats = defaultRepeats
	}
	if set.Generate < 1 || set.Repeats < 1 || slices.Min(set.Prompt) < 1 || set.Threads < 0 || len(set.Subnets)*len(set.Prompt) > maxBenchRows {
		return Receipt{}, fmt.Errorf("%w: %d prompts on %d subnets, %d tokens generated, %d repeats, %d threads",
			ErrInvalid, len(set.Prompt), len(set.Subnets), set.Generate, set.Repeats, set.Threads)
	}
	var id BenchID
	err := e.record(ctx, a, func(s *Snapshot) ([]record, error) {
		id = BenchID("b" + strconv.Itoa(e.folded.serial.Bench+1))
		b := Bench{ID: id, Author: a.Name, Created: e.now().UTC(), Settings: set}
		for _, subnet := range set.Subnets {
			if _, err := s.Masks(subnet); err != nil {
				return nil, err
			}
			for _, p := range set.Prompt {
				newest := s.Newest(subnet)
				b.Rows = append(b.Rows, BenchRow{
					Subnet: subnet, Label: s.label(subnet), Prompt: p, Pending: true, Perplexity: newest.Perplexity, Relative: newest.Relative(),
				})
			}
		}
		return []record{{Bench: &b}}, nil
	})
	if err != nil {
		return Receipt{}, err
	}
	job := Job{Author: a.Name, Kind: JobBench, Title: fmt.Sprintf("benchmark of %d subnets", len(set.Subnets)), CanPause: true}
	jobID, err := e.start(jobs.Foreground, job, func(ctx context.Context, m *monitor) error { return e.bench(ctx, a, id, m) })
	if err != nil {
		return Receipt{}, err
	}
	e.benchRow(id, -1, func(b *Bench, _ *BenchRow) { b.Job = jobID })
	return Receipt{Job: jobID, Bench: id}, nil
}

// Newest returns the newest measurement of a subnet, zero if none was taken.
func (s *Snapshot) Newest(id SubnetID) Measurement {
	list := s.Model.Measurements
	switch n, ok := s.Subnet(id); {
	case ok:
		list = n.Measurements
	case id == DraftID:
		return Measurement{}
	}
	if len(list) == 0 {
		return Measurement{}
	}
	return list[0]
}

// benchRow publishes a bench with one row changed; -1 is none.
func (e *Exploration) benchRow(id BenchID, row int, change func(*Bench, *BenchRow)) {
	e.update(SectionBenches, func(s *Snapshot) {
		at := slices.IndexFunc(s.Benches, func(b Bench) bool { return b.ID == id })
		if at < 0 {
			return
		}
		s.Benches = slices.Clone(s.Benches)
		b := &s.Benches[at]
		b.Rows = slices.Clone(b.Rows)
		if row < 0 {
			change(b, nil)
			return
		}
		change(b, &b.Rows[row])
	})
}

// bench fills in the rows of a benchmark, subnet by subnet.
func (e *Exploration) bench(ctx context.Context, a Actor, id BenchID, m *monitor) error {
	b, ok := e.Snapshot().Bench(id)
	if !ok {
		return fmt.Errorf("bench %s: %w", id, ErrNotFound)
	}
	e.talks.models.Trim(0)
	var failed error
	for i, subnet := range b.Settings.Subnets {
		first := i * len(b.Settings.Prompt)
		err := e.benchSubnet(ctx, id, b.Settings, subnet, first, m)
		if ctx.Err() != nil {
			failed = ctx.Err()
			break
		}
		if err != nil {
			failed = errors.Join(failed, err)
			for j := range b.Settings.Prompt {
				e.benchRow(id, first+j, func(_ *Bench, r *BenchRow) { r.Err = oneLine(err.Error()) })
			}
		}
	}
	saved := e.record(context.WithoutCancel(ctx), a, func(s *Snapshot) ([]record, error) {
		b, ok := s.Bench(id)
		if !ok {
			return nil, nil
		}
		b.Rows = slices.Clone(b.Rows)
		for i := range b.Rows {
			b.Rows[i].Pending = false
		}
		b.Done = true
		return []record{{Bench: &b}}, nil
	})
	return errors.Join(failed, saved)
}

func (e *Exploration) benchSubnet(ctx context.Context, id BenchID, set BenchSettings, subnet SubnetID, first int, m *monitor) (err error) {
	path := e.Snapshot().Model.Path
	label := e.Snapshot().label(subnet)
	if subnet != DenseID || set.Type != "" {
		s, err := e.loadSubnet(ctx, subnet)
		if err != nil {
			return err
		}
		path = filepath.Join(e.scratch, "bench.gguf")
		defer func() { err = errors.Join(err, removeIfThere(path)) }()
		if _, err := e.model.Write(ctx, s, path, set.Type, silent{}); err != nil {
			return err
		}
	}
	o := infer.Defaults(path)
	o.Threads, o.GPULayers, o.Context = set.Threads, set.GPULayers, slices.Max(set.Prompt)+set.Generate
	model, err := e.model.Load(ctx, o, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	total := float64(len(set.Subnets) * len(set.Prompt))
	for j, prompt := range set.Prompt {
		if err := m.Gate(ctx); err != nil {
			return err
		}
		m.Progress(float64(first+j), total, "rows", fmt.Sprintf("%s · %d tokens", label, prompt))
		prefill, err := model.Bench(ctx, infer.BenchOptions{Prompt: []int{prompt}, Repeats: set.Repeats})
		if err != nil {
			return err
		}
		generation, err := model.Bench(ctx, infer.BenchOptions{Gen: []int{set.Generate}, Depth: prompt, Repeats: set.Repeats})
		if err != nil {
			return err
		}
		memory, err := model.Memory(ctx)
		if err != nil {
			return err
		}
		e.benchRow(id, first+j, func(_ *Bench, r *BenchRow) {
			r.Prefill, r.Generation, r.FirstToken = rates(prefill), rates(generation), seconds(prefill)
			r.Load, r.FileBytes, r.Memory, r.Pending = model.Info().LoadTime, model.Info().FileBytes, memory.Resident, false
		})
	}
	return nil
}

func rates(r infer.BenchResult) Spread {
	if len(r.Rows) == 0 {
		return Spread{}
	}
	row := r.Rows[0]
	return Spread{Mean: row.Mean(), Deviation: row.StdDev(), Runs: len(row.Samples)}
}

// seconds are the times the runs of a result took.
func seconds(r infer.BenchResult) Spread {
	if len(r.Rows) == 0 {
		return Spread{}
	}
	row := infer.BenchRow{}
	for _, rate := range r.Rows[0].Samples {
		row.Samples = append(row.Samples, float64(r.Rows[0].Tokens)/math.Max(rate, 1e-9))
	}
	return Spread{Mean: row.Mean(), Deviation: row.StdDev(), Runs: len(row.Samples)}
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
