package decoder_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// defaultModel loads the default model, or skips where it is not in the cache.
func defaultModel(tb testing.TB) *decoder.Model {
	tb.Helper()
	f, err := gguf.Open(defaultPath(tb))
	if err != nil {
		tb.Skipf("the default model is not there (make setup fetches it): %v", err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	m, err := decoder.Load(tb.Context(), device(tb), f)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	return m
}

// defaultPath is where setting up puts the default model.
func defaultPath(tb testing.TB) string {
	tb.Helper()
	cache := os.Getenv("LATHE_CACHE")
	if cache == "" {
		tb.Skip("LATHE_CACHE is not set: run through make")
	}
	return filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
}

// device opens the device that LATHE_BACKEND names, the default one otherwise.
func device(tb testing.TB) *decoder.Device {
	tb.Helper()
	dev, err := decoder.OpenDevice("")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(dev.Close)
	return dev
}

// reference holds the negative log-likelihoods, in nats, that an independent program (.ci/reference.py) computed with the
// default model on testdata/reference.txt.
type reference struct {
	IDs []int32   `json:"tokens"`
	NLL []float64 `json:"nll"`
}

func readReference(tb testing.TB) reference {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "reference.json"))
	if err != nil {
		tb.Fatal(err)
	}
	var r reference
	if err := json.Unmarshal(data, &r); err != nil {
		tb.Fatal(err)
	}
	return r
}

// TestDefaultModel compares every log-probability of 2048 tokens with those of an independent program that computed in
// 32-bit floats from the same weights. Both round, so 1e-3 nats apart is agreement.
func TestDefaultModel(t *testing.T) {
	ref := readReference(t)
	m := defaultModel(t)
	s := m.Dense()
	defer s.Close()
	lp, err := m.LogProbs(t.Context(), s, ref.IDs)
	if err != nil {
		t.Fatal(err)
	}
	if len(lp) != len(ref.NLL) {
		t.Fatalf("%d log-probabilities, want %d", len(lp), len(ref.NLL))
	}
	worst := 0.0
	for i, v := range lp {
		worst = max(worst, math.Abs(float64(v)+ref.NLL[i]))
	}
	t.Logf("largest difference %.2g nats", worst)
	if !(worst < 1e-3) {
		t.Errorf("largest difference %g nats, want less than 1e-3", worst)
	}
}

// A quarter of the vocabulary gives nearly the log-likelihood and the divergence that all of it gives, of subnets too.
func TestSampledVocabOfTheDefaultModel(t *testing.T) {
	ref := readReference(t)
	m := defaultModel(t)
	masks := subnet.Dense(m.Geometry())
	for i, g := range m.Geometry().Layers {
		l := masks.Layer(i)
		l.Channels = subnet.Range(g.FFN, 0, g.FFN-192)
		masks = masks.With(i, l)
	}
	cut, err := m.Subnet(t.Context(), gguf.Subnet{Masks: masks})
	if err != nil {
		t.Fatal(err)
	}
	defer cut.Close()
	dense := m.Dense()
	defer dense.Close()
	window := [][]int32{ref.IDs[:1024]}
	scorer := func(entries int) *decoder.Scorer {
		sc, err := m.NewScorer(window, decoder.ScorerOptions{TopK: 512, Vocab: entries})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(sc.Close)
		return sc
	}
	all, some := scorer(0), scorer(12288)
	for name, s := range map[string]*decoder.Subnet{"dense": dense, "cut": cut} {
		want, err := all.Score(t.Context(), s, decoder.Text{Windows: []int{0}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := some.Score(t.Context(), s, decoder.Text{Windows: []int{0}})
		if err != nil {
			t.Fatal(err)
		}
		n := float64(want.Tokens)
		nll, kl := (got.NLL-want.NLL)/n, (got.KL-want.KL)/n
		t.Logf("%s: %.4f nats a token and a divergence of %.4f; with a quarter of the vocabulary %+.4f and %+.4f", name, want.NLL/n, want.KL/n, nll, kl)
		// Tokens outside the sample are merged into one in the divergence, which lowers it a little.
		if math.Abs(nll) > 0.005 || math.Abs(kl) > 0.001+0.02*want.KL/n {
			t.Errorf("%s: %+.4f nats a token and a divergence of %+.4f off", name, nll, kl)
		}
	}
}
