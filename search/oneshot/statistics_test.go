package oneshot_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot"
)

// A run that ends after some layers is continued by another, which measures only the rest, to the same result.
func TestStatisticsContinue(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(7, 6, 64, m.Geometry().Vocab)
	save := func(s *oneshot.Statistics) string {
		var b strings.Builder
		if err := s.Save(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	whole, err := oneshot.NewStatistics(t.Context(), m, windows, oneshot.Gathering{})
	if err != nil {
		t.Fatal(err)
	}
	kept := make(map[int]*oneshot.LayerStatistics)
	stop := errors.New("stop")
	keep := func(layer int, s *oneshot.LayerStatistics) error {
		if kept[layer] != nil {
			t.Errorf("layer %d is measured again", layer)
		}
		same := *s
		kept[layer] = &same
		if layer == 1 && len(kept) == 2 {
			return stop
		}
		return nil
	}
	o := oneshot.Gathering{Keep: keep, Kept: func(layer int) *oneshot.LayerStatistics { return kept[layer] }}
	if _, err := oneshot.NewStatistics(t.Context(), m, windows, o); !errors.Is(err, stop) || len(kept) != 2 {
		t.Fatalf("%d layers are kept, %v", len(kept), err)
	}
	rest, err := oneshot.NewStatistics(t.Context(), m, windows, o)
	if err != nil {
		t.Fatal(err)
	}
	if save(rest) != save(whole) || len(kept) != len(whole.Layers) {
		t.Errorf("continued, the statistics differ (%d layers kept)", len(kept))
	}
}

// TestStatisticsOfOthers has layers gathered one by one, as other processes do, in any order, and some not at all. The statistics are those of one process.
func TestStatisticsOfOthers(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(7, 6, 64, m.Geometry().Vocab)
	save := func(s *oneshot.Statistics) string {
		var b strings.Builder
		if err := s.Save(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	whole, err := oneshot.NewStatistics(t.Context(), m, windows, oneshot.Gathering{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := oneshot.NewLayerGatherer(m, windows)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, order := range [][]int{{0, 1, 2}, {2, 0, 1}, {1, 1}, {}} {
		kept := map[int]int{}
		got, err := oneshot.NewStatistics(t.Context(), m, windows, oneshot.Gathering{
			Keep: func(layer int, _ *oneshot.LayerStatistics) error {
				kept[layer]++
				return nil
			},
			Others: func(ctx context.Context, layers []int, keep func(int, *oneshot.LayerStatistics) error) error {
				if len(layers) != 3 {
					t.Errorf("layers %v are missing", layers)
				}
				for _, layer := range order {
					s, err := other.Layer(ctx, layer)
					if err != nil {
						return err
					}
					if err := keep(layer, s); err != nil {
						return err
					}
				}
				return nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		if save(got) != save(whole) {
			t.Errorf("layers %v of others: other statistics", order)
		}
		if kept[0] != 1 || kept[1] != 1 || kept[2] != 1 {
			t.Errorf("layers %v of others: kept %v times", order, kept)
		}
	}
	if _, err := other.Layer(t.Context(), 3); !errors.Is(err, oneshot.ErrStatistics) {
		t.Errorf("layer 3 of 3: %v", err)
	}
}

// TestStatisticsWait passes the gate several times for each layer, so that other work need not wait for a whole one, and ends with its error.
func TestStatisticsWait(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	windows := decodertest.Windows(7, 6, 64, m.Geometry().Vocab)
	passed, stop := 0, errors.New("stop")
	gate := func(context.Context) error {
		passed++
		return nil
	}
	if _, err := oneshot.NewStatistics(t.Context(), m, windows, oneshot.Gathering{Gate: gate}); err != nil {
		t.Fatal(err)
	}
	if layers := len(m.Geometry().Layers); passed < 4*layers {
		t.Errorf("%d times for %d layers", passed, layers)
	}
	gate = func(context.Context) error { return stop }
	if _, err := oneshot.NewStatistics(t.Context(), m, windows, oneshot.Gathering{Gate: gate}); !errors.Is(err, stop) {
		t.Errorf("the error is %v", err)
	}
}

func TestStatistics(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	g := m.Geometry()
	s, err := oneshot.NewStatistics(t.Context(), m, decodertest.Windows(7, 6, 64, g.Vocab), oneshot.Gathering{})
	if err != nil {
		t.Fatal(err)
	}
	dense := subnet.Dense(g)
	if got := s.Predict(dense); got != 0 {
		t.Errorf("the dense model is predicted to rise by %g", got)
	}
	for i, l := range s.Layers {
		for name, u := range map[string]oneshot.UnitStatistics{"channels": l.Channels, "heads": l.Heads} {
			if u.Rise <= 0 || u.Probed <= 0 {
				t.Errorf("layer %d: %s: rise %g of %g", i, name, u.Rise, u.Probed)
			}
			for unit := range u.Cost {
				if !(u.Alone[unit] > 0 && u.Cost[unit] > 0) {
					t.Errorf("layer %d: %s %d costs %g alone and %g in its turn", i, name, unit, u.Alone[unit], u.Cost[unit])
				}
			}
		}
		// A prefix of the order is predicted from its measured half.
		u := l.Channels
		half := dense.Layer(i)
		half.Channels = half.Channels.Without(u.Order[:len(u.Order)/2]...)
		if got := s.Predict(dense.With(i, half)); math.Abs(got-u.Rise) > 1e-9*u.Rise {
			t.Errorf("layer %d: half the channels: predicted %g, measured %g", i, got, u.Rise)
		}
		// More dropped is never better.
		less, more := dense.Layer(i), dense.Layer(i)
		less.Channels, more.Channels = less.Channels.Without(3, 9, 40), more.Channels.Without(3, 9, 40, 41, 77)
		if a, b := s.Predict(dense.With(i, less)), s.Predict(dense.With(i, more)); !(a > 0 && b > a) {
			t.Errorf("layer %d: three channels cost %g, five %g", i, a, b)
		}
		inHead := dense.Layer(i)
		inHead.VO = []subnet.Set{subnet.Range(g.HeadDim, 0, g.HeadDim/2), subnet.Full(g.HeadDim)}
		if got := s.Predict(dense.With(i, inHead)); got <= 0 {
			t.Errorf("layer %d: half the value channels of a group cost %g", i, got)
		}
	}

	var stored bytes.Buffer
	if err := s.Save(&stored); err != nil {
		t.Fatal(err)
	}
	text := stored.String()
	back, err := oneshot.LoadStatistics(strings.NewReader(text), g)
	if err != nil {
		t.Fatal(err)
	}
	cut := dense.With(1, subnet.Layer{Heads: subnet.Of(4, 0, 1), Channels: subnet.Range(128, 16, 80)})
	if a, b := s.Predict(cut), back.Predict(cut); a != b {
		t.Errorf("predicted %g, after storing %g", a, b)
	}
	other := gguftest.Tiny("deci")
	other.Layers = other.Layers[:2]
	for name, bad := range map[string]string{
		"truncated": text[:len(text)/2],
		"version":   strings.Replace(text, `"version":1`, `"version":9`, 1),
		"order":     strings.Replace(text, `"order":[`, `"order":[5,`, 1),
		"empty":     "",
	} {
		if _, err := oneshot.LoadStatistics(strings.NewReader(bad), g); !errors.Is(err, oneshot.ErrStatistics) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := oneshot.LoadStatistics(strings.NewReader(text), decodertest.Load(t, other).Geometry()); !errors.Is(err, oneshot.ErrStatistics) {
		t.Errorf("another model: error %v", err)
	}
}

// Statistics of earlier versions of the program can be read.
func TestLoadStoredStatistics(t *testing.T) {
	const stored = `{"version":1,"tokens":640,"dense_nll":2.5,"layers":[{
		"channels":{"order":[2,0,1],"cost":[0.2,0.5,0.1],"alone":[0.1,0.2,0.1],"rise":0.04,"probed":0.1},
		"heads":{"order":[1,0],"cost":[0.6,0.3],"alone":[0.4,0.3],"rise":0.06,"probed":0.3},
		"cosine":0.75}]}`
	g := &subnet.Geometry{Arch: "llama", Hidden: 8, Vocab: 16, HeadDim: 4, Layers: []subnet.LayerGeometry{{Heads: 2, KVHeads: 1, FFN: 3}}}
	s, err := oneshot.LoadStatistics(strings.NewReader(stored), g)
	if err != nil {
		t.Fatal(err)
	}
	want := oneshot.LayerStatistics{
		Channels: oneshot.UnitStatistics{Order: []int{2, 0, 1}, Cost: []float64{0.2, 0.5, 0.1}, Alone: []float64{0.1, 0.2, 0.1}, Rise: 0.04, Probed: 0.1},
		Heads:    oneshot.UnitStatistics{Order: []int{1, 0}, Cost: []float64{0.6, 0.3}, Alone: []float64{0.4, 0.3}, Rise: 0.06, Probed: 0.3},
		Cosine:   0.75,
	}
	if s.Tokens != 640 || s.DenseNLL != 2.5 || !reflect.DeepEqual(s.Layers, []oneshot.LayerStatistics{want}) {
		t.Errorf("read %+v", s)
	}
}
