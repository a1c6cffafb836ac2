package decoder_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// everything is what a model computes in all its ways: of each kind of cut what it scores, inputs and states on a walk,
// gradients and weights. Where kinds of cuts are named, it is those alone.
func everything(t *testing.T, m *decoder.Model, only ...string) map[string]any {
	t.Helper()
	ctx, out := t.Context(), make(map[string]any)
	geo := m.Geometry()
	windows := [][]int32{window(1, 24, geo.Vocab), window(2, 24, geo.Vocab), window(3, 17, geo.Vocab)}
	note := func(name string, v any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = fmt.Sprint(v)
	}
	sc, err := m.NewScorer(windows, decoder.ScorerOptions{TopK: 50})
	if err != nil {
		t.Fatal(err)
	}
	defer sc.Close()
	specs := cuts(t, geo)
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		if len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		s, err := m.Subnet(ctx, specs[name])
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close() // all at once are more than the limit
		scored, err := sc.Score(ctx, s, decoder.Text{Windows: []int{0, 1, 2}})
		note(name+" scored", scored.Score, err)
		score, err := m.Score(ctx, s, windows)
		note(name+" score", score, err)
		logits, err := m.Logits(ctx, s, windows[1])
		note(name+" logits", logits, err)
		st, err := m.NewStates(ctx, windows)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		for i := range geo.Layers {
			step(t, m, i, s, st, note, name)
		}
		for i := range windows {
			x, err := st.Hidden(i)
			note(fmt.Sprintf("%s state %d", name, i), x, err)
		}
	}
	note("gradients", "", m.Gradients(ctx, windows, func(layer int, g map[string][]float32) error {
		for name, v := range g {
			note(fmt.Sprintf("gradient %d %s", layer, name), v, nil)
		}
		return nil
	}))
	for i, l := range geo.Layers {
		if l.Heads > 0 {
			w, _, err := m.Weights(i, "q")
			note(fmt.Sprintf("%d q", i), w, err)
		}
	}
	return out
}

// step moves states past a layer by way of its inputs, and notes their moments.
func step(t *testing.T, m *decoder.Model, layer int, s *decoder.Subnet, st *decoder.States, note func(string, any, error), name string) {
	t.Helper()
	ctx := t.Context()
	g := m.Geometry().Layers[layer]
	if g.Heads > 0 {
		in, err := m.AttentionInputs(ctx, layer, s, st)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		mo, err := in.Moments(ctx)
		note(fmt.Sprintf("%s %d attention", name, layer), mo, err)
		if err := m.AddAttention(ctx, layer, s, in, st); err != nil {
			t.Fatal(err)
		}
	}
	in, err := m.MLPInputs(ctx, layer, s, st)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	mo, err := in.Moments(ctx)
	note(fmt.Sprintf("%s %d mlp", name, layer), mo, err)
	if err := m.AddMLP(ctx, layer, s, in, st); err != nil {
		t.Fatal(err)
	}
}

// TestWeightLimit computes everything with all weights on the device, and with room for one block or the LM head only:
// to the last bit the same, and never more on the device.
func TestWeightLimit(t *testing.T) {
	for spec, dev := range devices(t) {
		for _, family := range gguftest.Families() {
			if spec != "go" && family.Name != "llama" { // graphs take long to compile
				continue
			}
			t.Run(spec+"/"+strings.ReplaceAll(family.Name, " ", "-"), func(t *testing.T) {
				f := gguftest.Open(t, family.Model)
				all := load(t, dev, f, decoder.WithWidthBucket(8))
				want := everything(t, all)
				if now, most := all.ResidentBytes(); now != most {
					t.Errorf("without a limit %d bytes are on the device, %d were", now, most)
				}
				limit := decoder.WeightBytes(all.Geometry(), 1)
				for _, inputs := range []int64{decoder.DefaultMemory, 1} { // kept, or computed when they are needed
					m := load(t, dev, f, decoder.WithWidthBucket(8), decoder.WithWeights(limit), decoder.WithMemory(inputs, t.TempDir()))
					got := everything(t, m)
					for name, v := range want {
						if got[name] != v {
							t.Errorf("%s differs", name)
						}
					}
					if now, most := m.ResidentBytes(); most > limit || now > most || now == 0 {
						t.Errorf("%d bytes of weights on the device now, %d at most; the limit is %d", now, most, limit)
					}
				}
			})
		}
	}
}

// TestWeightLimitBelowOneBlock gives less room than computing needs, which takes what it needs and no more.
func TestWeightLimitBelowOneBlock(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	dev := devices(t)["go"]
	w := [][]int32{window(1, 24, 320)}
	var want float64
	for _, limit := range []int64{0, 1} {
		m := load(t, dev, f, decoder.WithWeights(limit))
		s := m.Dense()
		got, err := m.Score(t.Context(), s, w)
		s.Close()
		if err != nil {
			t.Fatal(err)
		}
		if limit == 0 {
			want = got.NLL
			continue
		}
		if got.NLL != want {
			t.Errorf("%g, want %g", got.NLL, want)
		}
		if _, most := m.ResidentBytes(); most > decoder.WeightBytes(m.Geometry(), limit) {
			t.Errorf("%d bytes of weights at most", most)
		}
	}
}

// TestWeightLimitConcurrently cuts, scores and closes subnets from many goroutines with little room.
func TestWeightLimitConcurrently(t *testing.T) {
	ctx := t.Context()
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	dev := devices(t)["go"]
	w := [][]int32{window(1, 20, 320)}
	once := func(m *decoder.Model, spec gguf.Subnet) (float64, error) {
		s, err := m.Subnet(ctx, spec)
		if err != nil {
			return 0, err
		}
		defer s.Close()
		score, err := m.Score(ctx, s, w)
		return score.NLL, err
	}
	all := load(t, dev, f, decoder.WithWidthBucket(8))
	specs, want := cuts(t, all.Geometry()), make(map[string]float64)
	for name, spec := range specs {
		nll, err := once(all, spec)
		if err != nil {
			t.Fatal(err)
		}
		want[name] = nll
	}
	m := load(t, dev, f, decoder.WithWidthBucket(8), decoder.WithWeights(decoder.WeightBytes(all.Geometry(), 1)))
	var wg sync.WaitGroup
	for range 3 {
		for name, spec := range specs {
			wg.Go(func() {
				for range 2 {
					if nll, err := once(m, spec); err != nil || nll != want[name] {
						t.Errorf("%s: %v (%v), want %v", name, nll, err, want[name])
					}
				}
			})
		}
	}
	wg.Wait()
}

// TestWeightsOfAClosedFile names the file where a layer is needed that cannot be read any more.
func TestWeightsOfAClosedFile(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	m := load(t, devices(t)["go"], f)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Weights(0, "down"); err == nil || !strings.Contains(err.Error(), f.Path()) || !strings.Contains(err.Error(), "blk.0.ffn_down.weight") {
		t.Errorf("error %v", err)
	}
}
