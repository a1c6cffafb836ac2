package explorer_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// loads is a backend that records how models are loaded.
type loads struct {
	*explorertest.Backend
	options []infer.LoadOptions
}

func (b *loads) Open(ctx context.Context, path string) (explorer.Model, error) {
	m, err := b.Backend.Open(ctx, path)
	return loadsModel{m, b}, err
}

type loadsModel struct {
	explorer.Model
	b *loads
}

func (m loadsModel) Load(ctx context.Context, o infer.LoadOptions, progress func(float64)) (infer.Model, error) {
	m.b.options = append(m.b.options, o)
	return m.Model.Load(ctx, o, progress)
}

func TestBenchLoadsAsAsked(t *testing.T) {
	b := &loads{Backend: explorertest.New()}
	e, err := explorer.Open(t.Context(), explorer.Options{Model: "m.gguf", Backend: b, Now: b.Clock.Now, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	explorertest.Do(t, e, explorer.StartBench{})
	explorertest.Do(t, e, explorer.StartBench{Settings: explorer.BenchSettings{
		Prompt: []int{16, 32}, Generate: 64, Depth: []int{0, 100}, Repeats: 2, Threads: 3, Batch: 8, NoFlashAttention: true,
	}})
	explorertest.Do(t, e, explorer.StartBench{Settings: explorer.BenchSettings{KVType: infer.KVQ80}})
	want := []infer.LoadOptions{
		{Path: "m.gguf", Context: 512, FlashAttention: true},
		{Path: "m.gguf", Context: 164, Threads: 3, Batch: 8},
		{Path: "m.gguf", Context: 512, FlashAttention: true, KVType: infer.KVQ80},
	}
	if !slices.Equal(b.options, want) {
		t.Errorf("loaded with %+v, want %+v", b.options, want)
	}
	tests := func(bench explorer.Bench) (names []string) {
		for _, r := range bench.Rows {
			names = append(names, r.Test)
			if r.Speed.Runs != bench.Settings.Repeats || r.Pending {
				t.Errorf("%s: %+v", r.Test, r)
			}
		}
		return names
	}
	benches := e.Snapshot().Benches
	if got, want := tests(benches[2]), []string{"pp512", "tg128"}; !slices.Equal(got, want) {
		t.Errorf("tests %q, want llama-bench's %q", got, want)
	}
	if got, want := tests(benches[1]), []string{"pp16", "pp32", "tg64", "pp16@d100", "pp32@d100", "tg64@d100"}; !slices.Equal(got, want) {
		t.Errorf("tests %q, want %q", got, want)
	}
	for name, set := range map[string]explorer.BenchSettings{
		"quantised without flash attention": {KVType: infer.KVQ40, NoFlashAttention: true}, "type": {KVType: "f64"}, "batch": {Batch: -1}, "depth": {Depth: []int{-1}},
	} {
		if _, err := e.Do(t.Context(), explorertest.Owner, explorer.StartBench{Settings: set}); !errors.Is(err, explorer.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBenchWarnsOfABusyMachine(t *testing.T) {
	b := explorertest.New()
	e := explorertest.Open(t, b, "")
	warned := func() bool {
		return slices.ContainsFunc(e.Snapshot().Messages, func(m explorer.Message) bool { return strings.Contains(m.Text, "other programs use") })
	}
	b.Busy = 0.2
	explorertest.Do(t, e, explorer.StartBench{})
	if got := e.Snapshot().Benches[0]; got.Busy() || got.Cores != 4 || warned() {
		t.Errorf("a quiet machine: %+v", got)
	}
	b.Busy = 2.5
	explorertest.Do(t, e, explorer.StartBench{})
	if got := e.Snapshot().Benches[0]; !got.Busy() || got.Load() != "other programs use 2.5 of 4 processors" || !warned() {
		t.Errorf("a busy machine: %+v", got)
	}
}

// TestBenchOfEarlierVersions: a row that holds a prompt and the generation after it becomes two.
func TestBenchOfEarlierVersions(t *testing.T) {
	old := `{"ID":"b1","Settings":{"subnets":["dense"],"prompt":[128],"generate":64},"Done":true,"Rows":[{"Subnet":"dense","Label":"dense","Prompt":128,
		"Prefill":{"Mean":240,"Deviation":2,"Runs":3},"Generation":{"Mean":30,"Deviation":1,"Runs":3},"FirstToken":{"Mean":0.5,"Deviation":0,"Runs":3},"Memory":7}]}`
	var b explorer.Bench
	if err := json.Unmarshal([]byte(old), &b); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if len(b.Rows) != 2 || b.ID != "b1" || !b.Done {
			t.Fatalf("read %+v", b)
		}
		if r := b.Rows[0]; r.Test != "pp128" || r.Speed.Mean != 240 || r.Prompt != 128 || r.Memory != 7 {
			t.Errorf("prompt %+v", r)
		}
		if r := b.Rows[1]; r.Test != "tg64@d128" || r.Speed.Mean != 30 || r.Prompt != 0 || r.Generate != 64 || r.Depth != 128 {
			t.Errorf("generation %+v", r)
		}
	}
	check()
	again, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	b = explorer.Bench{}
	if err := json.Unmarshal(again, &b); err != nil {
		t.Fatal(err)
	}
	check()
}

// leaving is a backend whose models write subnets where they cannot be removed.
type leaving struct{ *explorertest.Backend }

func (b leaving) Open(ctx context.Context, path string) (explorer.Model, error) {
	m, err := b.Backend.Open(ctx, path)
	return leavingModel{m}, err
}

type leavingModel struct{ explorer.Model }

func (leavingModel) Write(_ context.Context, _ gguf.Subnet, path, _ string, _ explorer.Monitor) (gguf.Report, error) {
	return gguf.Report{Path: path}, os.MkdirAll(filepath.Join(path, "inside"), 0o700)
}

func (m leavingModel) Load(ctx context.Context, o infer.LoadOptions, progress func(float64)) (infer.Model, error) {
	o.Path = m.Info().Path
	return m.Model.Load(ctx, o, progress)
}

// TestBenchReportsWhatItLeaves: a benchmark whose temporary file stays ends with the reason.
func TestBenchReportsWhatItLeaves(t *testing.T) {
	b := leaving{explorertest.New()}
	e, err := explorer.Open(t.Context(), explorer.Options{Model: "m.gguf", Backend: b, Now: b.Clock.Now, Scratch: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.8}).Subnet
	j := explorertest.Ended(t, e, start(t, e, explorer.StartBench{Settings: explorer.BenchSettings{Subnets: []explorer.SubnetID{cut}}}))
	if j.State != explorer.Failed || !strings.Contains(j.Err, "bench.gguf") {
		t.Errorf("%s, %q", j.State, j.Err)
	}
}
