package explorer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/internal/jobs"

	"github.com/lathe-llm/lathe/infer"
)

// The defaults of benchmark settings are those of llama-bench.
const (
	defaultPrompt   = 512
	defaultGenerate = 128
	maxBenchRows    = 200
)

// Check returns ErrInvalid if a setting is out of range. Zero settings are the defaults.
func (set BenchSettings) Check() error { return set.complete() }

// complete fills in the defaults and checks the settings.
func (set *BenchSettings) complete() error {
	if len(set.Subnets) == 0 {
		set.Subnets = []SubnetID{DenseID}
	}
	if len(set.Prompt) == 0 {
		set.Prompt = []int{defaultPrompt}
	}
	if len(set.Depth) == 0 {
		set.Depth = []int{0}
	}
	if set.Generate == 0 {
		set.Generate = defaultGenerate
	}
	if set.Repeats == 0 {
		set.Repeats = infer.DefaultRepeats
	}
	if set.Generate < 1 || set.Repeats < 1 || slices.Min(set.Prompt) < 1 || slices.Min(set.Depth) < 0 || set.GPULayers < infer.AllLayers || len(set.Subnets)*len(set.tests()) > maxBenchRows {
		return fmt.Errorf("%w: %d subnets, prompts of %d tokens, depths of %d, %d tokens generated, %d repeats: at most %d tests of at least a token",
			ErrInvalid, len(set.Subnets), set.Prompt, set.Depth, set.Generate, set.Repeats, maxBenchRows)
	}
	if err := set.load("").Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// tests returns the tests of each subnet, in llama-bench's order.
func (set *BenchSettings) tests() []infer.BenchTest {
	var tests []infer.BenchTest
	for _, depth := range set.Depth {
		for _, p := range set.Prompt {
			tests = append(tests, infer.BenchTest{Prompt: p, Depth: depth})
		}
		tests = append(tests, infer.BenchTest{Gen: set.Generate, Depth: depth})
	}
	return tests
}

// load returns how the file of a subnet is loaded.
func (set *BenchSettings) load(path string) infer.LoadOptions {
	o := infer.Defaults(path)
	o.Threads, o.GPULayers, o.Batch, o.KVType, o.FlashAttention = set.Threads, set.GPULayers, set.Batch, set.KVType, !set.NoFlashAttention
	o.Context = slices.Max(set.Depth) + max(slices.Max(set.Prompt), set.Generate)
	return o
}

func (c StartBench) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	set := c.Settings
	if err := set.complete(); err != nil {
		return Receipt{}, err
	}
	var id BenchID
	err := e.record(ctx, a, func(s *Snapshot) ([]record, error) {
		id = BenchID("b" + strconv.Itoa(e.folded.serial.Bench+1))
		b := Bench{ID: id, Author: a.Name, Created: e.now().UTC(), Settings: set}
		for _, subnet := range set.Subnets {
			if _, err := s.Masks(subnet); err != nil {
				return nil, err
			}
			figure := s.Figure(subnet)
			for _, t := range set.tests() {
				row := BenchRow{CharsPerToken: s.charsPerToken(subnet, set.Subnets), Subnet: subnet, Label: s.label(subnet), Pending: true, Perplexity: figure.Perplexity, Relative: figure.Relative}
				b.Rows = append(b.Rows, row.withTest(t))
			}
		}
		return []record{{Bench: &b}}, nil
	})
	if err != nil {
		return Receipt{}, err
	}
	job := Job{Author: a.Name, Kind: JobBench, Title: "benchmark of " + format.Counted(len(set.Subnets), "subnet"), CanPause: true}
	jobID, err := e.start(jobs.Foreground, job, func(ctx context.Context, m *monitor) error { return e.bench(ctx, a, id, m) })
	if err != nil {
		return Receipt{}, err
	}
	e.benchRow(id, -1, func(b *Bench, _ *BenchRow) { b.Job = jobID })
	return Receipt{Job: jobID, Bench: id}, nil
}

// Figure returns the quality of a subnet, zero if it was not measured.
func (s *Snapshot) Figure(id SubnetID) Figure {
	switch n, ok := s.Subnet(id); {
	case ok:
		return n.Figure()
	case id == DraftID && s.Draft.Measured != nil && s.Draft.MeasuredVersion == s.Draft.Version:
		return Subnet{Measurements: []Measurement{*s.Draft.Measured}}.Figure()
	case id == DenseID:
		f := Subnet{Measurements: s.Model.Measurements}.Figure()
		if s.Model.SubnetOf == "" {
			f.Relative = 1
		}
		return f
	}
	return Figure{}
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
	tests := len(b.Settings.tests())
	for i, subnet := range b.Settings.Subnets {
		first := i * tests
		err := e.benchSubnet(ctx, id, b.Settings, subnet, first, m)
		if ctx.Err() != nil {
			failed = ctx.Err()
			break
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", e.Snapshot().label(subnet), err))
			for j := range tests {
				e.benchRow(id, first+j, func(_ *Bench, r *BenchRow) {
					if r.Pending {
						r.Err = oneLine(format.Error(err))
					}
				})
			}
		}
	}
	saved := m.record(ctx, a, func(s *Snapshot) ([]record, error) {
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
		s, failed := e.loadSubnet(ctx, subnet)
		if failed != nil {
			return failed
		}
		path = filepath.Join(e.scratch, "bench.gguf")
		defer func() { err = errors.Join(err, removeIfThere(path)) }()
		if _, err := e.model.Write(ctx, s, path, set.Type, beside{m: m}); err != nil {
			return err
		}
	}
	if err := m.Gate(ctx); err != nil {
		return err
	}
	e.observe(ctx, id, m)
	model, err := e.model.Load(ctx, set.load(path), nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	tests := set.tests()
	total := float64(len(set.Subnets) * len(tests))
	for j, test := range tests {
		if err := m.Gate(ctx); err != nil {
			return err
		}
		m.Progress(float64(first+j), total, "tests", fmt.Sprintf("%s · %s", label, test))
		o := infer.BenchOptions{Depth: test.Depth, Repeats: set.Repeats}
		if test.Gen > 0 {
			o.Gen = []int{test.Gen}
		} else {
			o.Prompt = []int{test.Prompt}
		}
		got, err := model.Bench(ctx, o)
		if err != nil {
			return err
		}
		memory, err := model.Memory(ctx)
		if err != nil {
			return err
		}
		info := model.Info()
		e.benchRow(id, first+j, func(_ *Bench, r *BenchRow) {
			r.Speed, r.Threads = speedOf(got)
			r.Load, r.FileBytes, r.Memory, r.GPU, r.Pending = info.LoadTime, info.FileBytes, memory.Resident, memory.GPU, false
			r.Placement, r.Fallback = info.Placement, info.Fallback
		})
	}
	return nil
}

// beside is the monitor of work whose progress is not that of the job.
type beside struct {
	silent
	m *monitor
}

func (b beside) Gate(ctx context.Context) error { return b.m.Gate(ctx) }
func (b beside) Persist(ctx context.Context, write func() error) error {
	return b.m.Persist(ctx, write)
}

// observe records what other programs do on the machine, and warns of a busy one.
func (e *Exploration) observe(ctx context.Context, id BenchID, m *monitor) {
	others, cores, known := e.model.Others(ctx)
	if !known {
		return
	}
	before, _ := e.Snapshot().Bench(id)
	e.benchRow(id, -1, func(b *Bench, _ *BenchRow) { b.Others, b.Cores = max(b.Others, others), cores })
	if after, _ := e.Snapshot().Bench(id); after.Busy() && !before.Busy() {
		m.Note(after.Load() + ": the benchmark measures too low and too varied speeds")
	}
}

// speedOf returns the speed of the only test of a result, and the threads that computed it.
func speedOf(r infer.BenchResult) (Spread, int) {
	if len(r.Rows) == 0 {
		return Spread{}, 0
	}
	row := r.Rows[0]
	return Spread{Mean: row.Mean(), Deviation: row.StdDev(), Runs: len(row.Samples), Samples: row.Samples}, row.Threads
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
