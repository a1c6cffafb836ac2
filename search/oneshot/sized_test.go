//go:build cgo && !nocgo

package oneshot_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot"
)

// sizedModel is a tiny model whose W_D fits every type and whose other matrices fit those of 32 numbers.
func sizedModel() gguftest.Model {
	recipe := gguftest.Tiny("llama")
	for i := range recipe.Layers {
		recipe.Layers[i].FFN = 512
	}
	return recipe
}

// sizedCase is a model with the losses of its types.
type sizedCase struct {
	f       *gguf.File
	m       *decoder.Model
	windows [][]int32
	sizes   *gguf.Sizes
	load    oneshot.Loader
	losses  *oneshot.TypeLosses
}

func newSizedCase(t *testing.T) sizedCase {
	t.Helper()
	return caseOf(t, sizedModel())
}

func caseOf(t *testing.T, recipe gguftest.Model) sizedCase {
	t.Helper()
	f := gguftest.Open(t, recipe)
	m := decodertest.LoadFile(t, f)
	sizes, err := gguf.NewSizes(f)
	if err != nil {
		t.Fatal(err)
	}
	c := sizedCase{f: f, m: m, windows: decodertest.Windows(1, 6, 64, m.Geometry().Vocab), sizes: sizes}
	c.load = func(ctx context.Context, round func(string, int, []float32) error) (*decoder.Model, error) {
		return decoder.Load(ctx, m.Device(), f, decoder.WithRounding(round))
	}
	events := 0
	c.losses, err = oneshot.MeasureTypes(t.Context(), m, f, c.load, c.windows, oneshot.TypeMeasuring{Progress: func(e oneshot.Event) {
		if e.Phase == oneshot.Typing {
			events++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !c.losses.Fits(m.Geometry(), f) || events == 0 {
		t.Fatalf("losses of %d groups after %d events do not fit the model", len(c.losses.Groups), events)
	}
	return c
}

// TestMeasureTypesOfNaN: an embedding whose rounding makes logits NaN has no losses.
func TestMeasureTypesOfNaN(t *testing.T) {
	c := newSizedCase(t)
	broken := func(ctx context.Context, round func(string, int, []float32) error) (*decoder.Model, error) {
		return c.load(ctx, func(tensor string, width int, data []float32) error {
			err := round(tensor, width, data)
			if tensor == "token_embd.weight" {
				for i := range data {
					data[i] = float32(math.NaN())
				}
			}
			return err
		})
	}
	if _, err := oneshot.MeasureTypes(t.Context(), c.m, c.f, broken, c.windows, oneshot.TypeMeasuring{}); !errors.Is(err, oneshot.ErrTypes) {
		t.Errorf("got %v", err)
	}
}

// TestTypesOfOddWidths chooses types for a model whose embeddings, and most matrices, fit no other type: its losses are complete, so that they can be
// kept, and what fits gets smaller.
func TestTypesOfOddWidths(t *testing.T) {
	recipe := sizedModel()
	recipe.Hidden = 48
	c := caseOf(t, recipe)
	dense := gguf.Subnet{Masks: subnet.Dense(c.m.Geometry())}
	size := oneshot.Size{From: &dense, Losses: c.losses, Load: c.load, Cost: c.cost}
	whole, err := c.cost(dense.Masks, nil)
	if err != nil {
		t.Fatal(err)
	}
	size.Budget = whole * 95 / 100
	s, _, err := oneshot.Sized(t.Context(), c.m, c.windows[:4], size, oneshot.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.cost(s.Masks, s.Types); err != nil || got > size.Budget || len(s.Types) == 0 {
		t.Errorf("%d bytes of %d with %d types: %v", got, size.Budget, len(s.Types), err)
	}
}

// TestMeasureTypesContinues stops a measurement after a layer: the run that continues it has the same losses, and measures the other layers only.
func TestMeasureTypesContinues(t *testing.T) {
	c := newSizedCase(t)
	var kept []byte
	stop := errors.New("stop")
	_, err := oneshot.MeasureTypes(t.Context(), c.m, c.f, c.load, c.windows, oneshot.TypeMeasuring{Keep: func(l *oneshot.TypeLosses) (err error) {
		if kept, err = json.Marshal(l); err != nil {
			return err
		}
		return stop
	}})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	o := oneshot.TypeMeasuring{Kept: &oneshot.TypeLosses{}}
	if err := json.Unmarshal(kept, o.Kept); err != nil {
		t.Fatal(err)
	}
	if len(o.Kept.Groups) != 4 || o.Kept.Fits(c.m.Geometry(), c.f) {
		t.Fatalf("%d groups were kept of a layer", len(o.Kept.Groups))
	}
	o.Kept.Groups[0].Measured = 123 // shows that it is not measured again
	measured := 0
	o.Keep = func(*oneshot.TypeLosses) error { measured++; return nil }
	got, err := oneshot.MeasureTypes(t.Context(), c.m, c.f, c.load, c.windows, o)
	if err != nil {
		t.Fatal(err)
	}
	if measured != len(c.m.Geometry().Layers)-1 || got.Groups[0].Measured != 123 {
		t.Errorf("%d layers were measured", measured)
	}
	got.Groups[0].Measured = c.losses.Groups[0].Measured
	if diff := cmp.Diff(c.losses, got); diff != "" {
		t.Errorf("other losses than in one go: %s", diff)
	}
	o.Kept.Groups[0].Tensors[0] = "blk.9.attn_q.weight"
	measured = 0
	if _, err := oneshot.MeasureTypes(t.Context(), c.m, c.f, c.load, c.windows, o); err != nil || measured != len(c.m.Geometry().Layers) {
		t.Errorf("losses of another model were taken: %d layers measured (%v)", measured, err)
	}
}

func (c sizedCase) cost(masks subnet.Masks, types map[string]subnet.Type) (int64, error) {
	size, err := c.sizes.OfTypes(masks, gguf.Refitted{Outputs: true}, types)
	return size.File, err
}

// written returns the size of the file of a subnet and its divergence from the dense model, in nats per token.
func (c sizedCase) written(t *testing.T, s gguf.Subnet) (bytes int64, divergence float64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sized.gguf")
	report, err := gguf.WriteSubnet(t.Context(), c.f, path, s, gguf.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read from
	d, err := oneshot.DivergenceOf(t.Context(), c.m, decodertest.LoadFile(t, f), c.windows[4:])
	if err != nil {
		t.Fatal(err)
	}
	return report.Bytes, d
}

// TestSized makes subnets of given sizes: files are within them, larger ones lose less, the predicted divergence of types alone is about the
// measured one, and widths and types together lose no more than widths alone.
func TestSized(t *testing.T) {
	c := newSizedCase(t)
	dense := gguf.Subnet{Masks: subnet.Dense(c.m.Geometry())}
	whole, err := c.cost(dense.Masks, nil)
	if err != nil {
		t.Fatal(err)
	}
	make := func(share float64, size oneshot.Size) (float64, oneshot.Report) {
		t.Helper()
		size.Budget, size.Cost, size.Load = int64(share*float64(whole)), c.cost, c.load
		s, r, err := oneshot.Sized(t.Context(), c.m, c.windows[:4], size, oneshot.Config{Granularity: 32})
		if err != nil {
			t.Fatal(err)
		}
		bytes, d := c.written(t, s)
		if bytes > size.Budget || float64(bytes) < 0.93*float64(size.Budget) {
			t.Errorf("%d bytes for %d", bytes, size.Budget)
		}
		t.Logf("%.2f of the file: predicted %.4f, measured %.4f, %v", share, r.Predicted, d, r.Size.Types)
		return d, r
	}
	last := 0.0
	for _, share := range []float64{0.75, 0.6, 0.45} {
		d, r := make(share, oneshot.Size{From: &dense, Losses: c.losses})
		if d <= last {
			t.Errorf("%.2f of the file diverges by %g, a larger one by %g", share, d, last)
		}
		if last = d; r.Predicted < d/5 || r.Predicted > 5*d {
			t.Errorf("%.2f of the file: predicted %g, measured %g", share, r.Predicted, d)
		}
	}
	widths, _ := make(0.5, oneshot.Size{Losses: c.losses, Types: []subnet.Type{}})
	both, r := make(0.5, oneshot.Size{Losses: c.losses, Compensate: true})
	if both > widths {
		t.Errorf("widths and types diverge by %g, widths alone by %g", both, widths)
	}
	inner, _ := make(0.5, oneshot.Size{Losses: c.losses, Compensate: true, Inner: true})
	if inner > 1.5*both {
		t.Errorf("with all rounding errors compensated it diverges by %g, by %g without", inner, both)
	}
	if len(r.Size.Types) < 2 {
		t.Errorf("types %v", r.Size.Types)
	}
	_, _, err = oneshot.Sized(t.Context(), c.m, c.windows[:4], oneshot.Size{From: &dense, Losses: c.losses, Budget: whole / 50, Cost: c.cost, Load: c.load}, oneshot.Config{})
	if !errors.Is(err, oneshot.ErrSize) {
		t.Errorf("a fiftieth of the file: %v", err)
	}
}

// TestSizedNearSmallest makes a subnet of little more than the smallest size where every other choice has a file that is larger than its matrices show:
// the smallest one is made, and a smaller size is refused with an error that names it.
func TestSizedNearSmallest(t *testing.T) {
	c := newSizedCase(t)
	dense := gguf.Subnet{Masks: subnet.Dense(c.m.Geometry())}
	size := oneshot.Size{From: &dense, Losses: c.losses, Load: c.load, Cost: c.cost}
	least, err := oneshot.Smallest(c.m.Geometry(), c.f, size, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	size.Cost = func(masks subnet.Masks, types map[string]subnet.Type) (int64, error) {
		bytes, err := c.cost(masks, types)
		if bytes > least {
			bytes += 1 << 30
		}
		return bytes, err
	}
	size.Budget = least + least/10
	s, _, err := oneshot.Sized(t.Context(), c.m, c.windows[:4], size, oneshot.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.cost(s.Masks, s.Types); err != nil || got != least {
		t.Errorf("%d bytes, the smallest are %d: %v", got, least, err)
	}
	size.Budget = least - 1
	if _, _, err := oneshot.Sized(t.Context(), c.m, c.windows[:4], size, oneshot.Config{}); !errors.Is(err, oneshot.ErrSize) {
		t.Errorf("a byte less: %v", err)
	}
}
