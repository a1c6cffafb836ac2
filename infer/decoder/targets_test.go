package decoder_test

import (
	"math"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

func TestTargets(t *testing.T) {
	ctx := t.Context()
	m := load(t, backend(t), gguftest.Open(t, gguftest.Tiny("llama")))
	geo := m.Geometry()
	windows := [][]int32{window(1, 12, geo.Vocab), window(2, 9, geo.Vocab)}
	a, err := m.NewStates(ctx, windows)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := a.Clone(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := m.Dense()
	defer s.Close()

	in, err := m.AttentionInputs(ctx, 0, s, b)
	if err != nil {
		t.Fatal(err)
	}
	relative, err := in.Relative(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for w := range windows {
		values, got, state := must(t)(in.Values(ctx, w)), must(t)(relative.Values(ctx, w)), must(t)(b.Hidden(w))
		for i, v := range values {
			var square float64
			token := i / in.N()
			for _, x := range state[token*geo.Hidden : (token+1)*geo.Hidden] {
				square += float64(x) * float64(x) / float64(geo.Hidden)
			}
			if want := float64(v) / math.Sqrt(square+m.Config().NormEps); math.Abs(float64(got[i])-want) > 1e-4*(1+math.Abs(want)) {
				t.Fatalf("window %d value %d is %g, want %g", w, i, got[i], want)
			}
		}
	}
	relative.Close()
	in.Close()

	for i := range geo.Layers {
		if err := m.Advance(ctx, i, s, a); err != nil {
			t.Fatal(err)
		}
	}
	d, err := m.Difference(ctx, a, b)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for w := range windows {
		x, y, got := must(t)(a.Hidden(w)), must(t)(b.Hidden(w)), must(t)(d.Values(ctx, w))
		for i := range got {
			if want := x[i] - y[i]; math.Abs(float64(got[i]-want)) > 1e-6 {
				t.Fatalf("window %d value %d differs by %g, want %g", w, i, got[i], want)
			}
		}
	}
	got, err := m.ScoreStates(ctx, a, windows)
	if err != nil {
		t.Fatal(err)
	}
	want, err := m.Score(ctx, s, windows)
	if err != nil {
		t.Fatal(err)
	}
	if got.Tokens != want.Tokens || math.Abs(got.NLL-want.NLL) > 1e-3 {
		t.Errorf("score of states %+v, of windows %+v", got, want)
	}
	if _, err := m.ScoreStates(ctx, a, windows[:1]); err == nil {
		t.Error("states of two windows scored as one")
	}
}

// must fails the test on an error.
func must(t *testing.T) func([]float32, error) []float32 {
	return func(v []float32, err error) []float32 {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
