package engine

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute/gobackend"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// crowded is an engine whose first device is a GPU with memory for so many graphs. It returns the specs of the devices opened, and the
// GPU.
func crowded(t *testing.T, graphs int64, compute string) (*Engine, *[]string, *decodertest.Full) {
	t.Helper()
	t.Setenv("LATHE_BACKEND", "")
	b := newEngine(t)
	b.options.Compute = compute
	opened, full := &[]string{}, &decodertest.Full{}
	full.Left.Store(graphs)
	b.open = func(spec string) (*decoder.Device, error) {
		if *opened = append(*opened, spec); len(*opened) > 1 {
			return decoder.OpenDevice("go")
		}
		own, err := gobackend.New("ops_sequential")
		if err != nil {
			return nil, err
		}
		full.Backend = own
		return decoder.NewDevice(full, "cuda", "/xla_cuda_plugin.so"), nil
	}
	return b, opened, full
}

var crowdedCut = explorer.Cut{Target: 0.7, Granularity: 8, Calibration: explorer.Calibration{Windows: 4, Seq: 64}}

// TestFullDevice: a job whose GPU has no more memory, in the middle, is done on the processor with the same result, and reports why.
func TestFullDevice(t *testing.T) {
	want, err := open(t, newEngine(t), gguftest.Tiny("llama")).Cut(t.Context(), crowdedCut, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	for _, graphs := range []int64{0, 3, 60} {
		b, opened, _ := crowded(t, graphs, "")
		m := open(t, b, gguftest.Tiny("llama"))
		mon := &quiet{}
		got, err := m.Cut(t.Context(), crowdedCut, mon)
		if err != nil {
			t.Fatalf("after %d graphs: %v", graphs, err)
		}
		if !slices.Equal(*opened, []string{"", "cpu"}) {
			t.Errorf("devices %q were opened", *opened)
		}
		if !got.Subnet.Masks.Equal(want.Subnet.Masks) || !reflect.DeepEqual(got.Subnet.Refit, want.Subnet.Refit) {
			t.Errorf("after %d graphs: another subnet than on the processor alone", graphs)
		}
		if notes := strings.Join(mon.notes, "\n"); !strings.Contains(notes, "continues on the processor") || !strings.Contains(notes, "the device's memory is full") {
			t.Errorf("notes %q", notes)
		}
		if text := got.Method.Backend; !strings.Contains(text, "Go backend") {
			t.Errorf("it was computed on %q", text)
		}
	}
}

// TestFullNamedDevice: a GPU that was asked for by name is not left. The error has what to do.
func TestFullNamedDevice(t *testing.T) {
	b, opened, _ := crowded(t, 60, "cuda")
	m := open(t, b, gguftest.Tiny("llama"))
	_, err := m.Cut(t.Context(), crowdedCut, &quiet{})
	if !errors.Is(err, decoder.ErrMemory) || !strings.Contains(err.Error(), "--compute xla") || !strings.Contains(err.Error(), "402653184 bytes") {
		t.Errorf("error %v", err)
	}
	if len(*opened) != 1 {
		t.Errorf("devices %q were opened", *opened)
	}
}

// TestFullDeviceInASearch continues a search on the processor from its checkpoint.
func TestFullDeviceInASearch(t *testing.T) {
	const enough = 1 << 40
	alone := &recorder{}
	r := asked("random", 40)
	roomy, _, full := crowded(t, enough, "")
	if _, err := open(t, roomy, gguftest.Tiny("llama")).Search(t.Context(), r, t.TempDir(), alone, &quiet{}); err != nil {
		t.Fatal(err)
	}
	b, opened, _ := crowded(t, (enough-full.Left.Load())*2/3, "")
	m := open(t, b, gguftest.Tiny("llama"))
	d, mon := &recorder{}, &quiet{}
	first := b.open
	before := 0
	b.open = func(spec string) (*decoder.Device, error) {
		d.mu.Lock()
		before = len(d.shown)
		d.mu.Unlock()
		return first(spec)
	}
	made, err := m.Search(t.Context(), r, t.TempDir(), d, mon)
	if err != nil {
		t.Fatal(err)
	}
	if len(*opened) != 2 || !strings.Contains(strings.Join(mon.notes, "\n"), "continues on the processor") {
		t.Fatalf("devices %q, notes %q", *opened, mon.notes)
	}
	if err := made.Subnet.Masks.Validate(); err != nil {
		t.Error(err)
	}
	if before == 0 || before == len(d.shown) || d.shown[before-1].Evaluated == 0 {
		t.Fatalf("it failed after %d of %d states, which is not in the middle", before, len(d.shown))
	}
	if again := d.shown[before]; again.Evaluated == 0 {
		t.Error("the search began again")
	}
	if got, want := d.last(), alone.last(); got.Best == nil || want.Best == nil || got.Best.ID != want.Best.ID && !got.Best.Masks.Equal(want.Best.Masks) {
		t.Errorf("best %+v, alone %+v", got.Best, want.Best)
	}
}

// gated is a monitor whose gate calls a function once.
type gated struct {
	quiet
	at   int // gates up to then
	then func()
}

func (g *gated) Gate(ctx context.Context) error {
	if g.at--; g.at == 0 {
		g.then()
	}
	return g.quiet.Gate(ctx)
}

// TestComputeType: a job with weights as bfloat16 is recorded as such, and the next without it has them whole again. A search that waits
// meanwhile continues.
func TestComputeType(t *testing.T) {
	b := newEngine(t)
	m := open(t, b, gguftest.Tiny("llama"))
	whole, err := m.Cut(t.Context(), crowdedCut, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	half := crowdedCut
	half.Calibration.ComputeType, half.Calibration.AtOnce = explorer.HalfFloats, 4
	var rounded explorer.Made
	mon := &gated{at: 12}
	mon.then = func() {
		var err error
		if rounded, err = m.Cut(t.Context(), half, &quiet{}); err != nil {
			t.Error(err)
		}
	}
	made, err := m.Search(t.Context(), asked("random", 40), t.TempDir(), &recorder{}, mon)
	if err != nil {
		t.Fatal(err)
	}
	if made.Method.ComputeType != "" || made.Subnet.Masks.Validate() != nil {
		t.Errorf("the search: %+v", made.Method)
	}
	if notes := strings.Join(mon.notes, "\n"); !strings.Contains(notes, "with other settings") || strings.Contains(notes, "processor") {
		t.Errorf("the search does not report why it runs again: %q", notes)
	}
	if rounded.Method.ComputeType != explorer.HalfFloats {
		t.Fatalf("it was computed with %q", rounded.Method.ComputeType)
	}
	if rounded.After == whole.After || math.Abs(rounded.After/whole.After-1) > 0.02 {
		t.Errorf("perplexity %g with rounded weights, %g with whole ones", rounded.After, whole.After)
	}
	again, err := m.Cut(t.Context(), crowdedCut, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	if again.Method.ComputeType != "" || again.After != whole.After {
		t.Errorf("afterwards %q, perplexity %g, before %g", again.Method.ComputeType, again.After, whole.After)
	}
}

// TestMeasurementDuringAJob: a subnet that is measured while a job is paused is measured with the job's model, which stays loaded, and the
// measurement has the type of its weights.
func TestMeasurementDuringAJob(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	r := asked("random", 20)
	r.Calibration.ComputeType = explorer.HalfFloats
	dense := gguf.Subnet{Masks: subnet.Dense(m.geometry())}
	mon := &gated{at: 12}
	mon.then = func() {
		loads := m.loads()
		got, err := m.Score(t.Context(), dense, explorer.ScoreRequest{Seq: 32, Windows: 1}, &quiet{})
		if err != nil || got.Conditions.ComputeType != explorer.HalfFloats || m.loads() != loads {
			t.Errorf("measured with %q, the model was loaded %d times more, error %v", got.Conditions.ComputeType, m.loads()-loads, err)
		}
	}
	if _, err := m.Search(t.Context(), r, t.TempDir(), &recorder{}, mon); err != nil {
		t.Fatal(err)
	}
	if mon.at > 0 {
		t.Fatal("nothing was measured")
	}
	if got, err := m.Score(t.Context(), dense, explorer.ScoreRequest{Seq: 32, Windows: 1}, &quiet{}); err != nil || got.Conditions.ComputeType != "" {
		t.Errorf("after the job: measured with %q, error %v", got.Conditions.ComputeType, err)
	}
}

// TestSearchWithoutAFolder ends where another job has taken its model, since it cannot continue.
func TestSearchWithoutAFolder(t *testing.T) {
	m := open(t, newEngine(t), gguftest.Tiny("llama"))
	mon := &gated{at: 12}
	mon.then = func() { m.computeWith(room{calibration: explorer.Calibration{ComputeType: explorer.HalfFloats}}) }
	if _, err := m.Search(t.Context(), asked("random", 40), "", &recorder{}, mon); !errors.Is(err, decoder.ErrClosed) || !strings.Contains(err.Error(), "no folder to continue from") {
		t.Errorf("error %v", err)
	}
}
