// Package decodertest loads tiny models for tests of what computes with package decoder.
package decodertest

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// Load loads a random model on GoMLX's own backend until the end of the test.
func Load(t testing.TB, recipe gguftest.Model) *decoder.Model {
	t.Helper()
	return LoadFile(t, gguftest.Open(t, recipe))
}

// LoadFile loads the model of a file.
func LoadFile(t testing.TB, f *gguf.File) *decoder.Model {
	t.Helper()
	be, err := decoder.OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	m, err := decoder.Load(t.Context(), be, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// Windows returns windows of random tokens of which half repeat earlier ones, so that inputs are correlated.
func Windows(seed uint64, count, tokens, vocab int) [][]int32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([][]int32, count)
	for i := range out {
		for t := range tokens {
			id := int32(rng.IntN(vocab))
			if t >= 7 && rng.IntN(2) == 0 {
				id = out[i][t-7]
			}
			out[i] = append(out[i], id)
		}
	}
	return out
}

// Distance returns the mean squared distance between the last hidden states of a subnet and those of the dense model, as a
// share of the squared size of those.
func Distance(t testing.TB, m *decoder.Model, s gguf.Subnet, windows [][]int32) float64 {
	t.Helper()
	sub, err := m.Subnet(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	got, want := last(t, m, sub, windows), last(t, m, m.Dense(), windows)
	var d, e float64
	for i := range want {
		d += math.Pow(float64(got[i]-want[i]), 2)
		e += math.Pow(float64(want[i]), 2)
	}
	return d / e
}

// last returns the hidden states after the last layer, and closes the subnet.
func last(t testing.TB, m *decoder.Model, sub *decoder.Subnet, windows [][]int32) []float32 {
	t.Helper()
	defer sub.Close()
	st, err := m.NewStates(t.Context(), windows)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for i := range m.Geometry().Layers {
		if err := m.Advance(t.Context(), i, sub, st); err != nil {
			t.Fatal(err)
		}
	}
	var all []float32
	for i := range windows {
		h, err := st.Hidden(i)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, h...)
	}
	return all
}
