package decoder

import (
	"math"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func TestSampleVocab(t *testing.T) {
	const vocab = 1000
	likely := make([]float64, vocab)
	var all float64
	for i := range likely {
		likely[i] = 1 / float64(1+(i*7)%vocab)
		all += likely[i]
	}
	text := []int32{999, 5, 5, 998, 3}
	w := sampleVocab(likely, text, 90)
	if w.certain != 60 || len(w.ids) != 90 || len(w.offsets) != 90 {
		t.Fatalf("%d entries with %d offsets, %d kept; want 90, 90, 60", len(w.ids), len(w.offsets), w.certain)
	}
	for _, id := range text {
		if !slices.Contains(w.ids[:w.certain], id) {
			t.Errorf("word %d of the text is not kept", id)
		}
	}
	if i := slices.Index(likely, slices.Max(likely)); !slices.Contains(w.ids[:w.certain], int32(i)) {
		t.Errorf("the likeliest word %d is not kept", i)
	}
	seen := make(map[int32]bool)
	var sum float64
	for i, id := range w.ids {
		if seen[id] {
			t.Errorf("word %d comes twice", id)
		}
		seen[id] = true
		if kept := i < w.certain; kept != (w.offsets[i] == 0) {
			t.Errorf("word %d: offset %g", i, w.offsets[i])
		}
		sum += likely[id] * math.Exp(float64(w.offsets[i]))
	}
	if math.Abs(sum-all) > 1e-5*all {
		t.Errorf("the sample has a weighted probability of %g, want %g", sum, all)
	}
	if w := sampleVocab(likely, text, 4); w != nil {
		t.Errorf("%d entries for a text of as many", len(w.ids))
	}
	if w := sampleVocab(make([]float64, vocab), text, 90); math.Abs(float64(w.offsets[89])-math.Log(940.0/30)) > 1e-6 {
		t.Errorf("offset %g of a word that stands for %g", w.offsets[89], 940.0/30)
	}
}

// TestScorerWithSampledVocab compares a scorer with what follows from all logits of the model, whichever text it scores first.
func TestScorerWithSampledVocab(t *testing.T) {
	dev, err := OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	m, err := Load(t.Context(), dev, gguftest.Open(t, gguftest.Tiny("llama")))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	text := make([]int32, 40)
	for i := range text {
		text[i] = int32((i*i + 3*i) % m.config.Vocab)
	}
	l := subnet.DenseLayer(m.geo.Layers[0])
	l.Channels = subnet.Range(m.geo.Layers[0].FFN, 0, m.geo.Layers[0].FFN/2)
	s, err := m.Subnet(t.Context(), gguf.Subnet{Masks: subnet.Dense(&m.geo).With(0, l)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const topK, entries = 30, 120
	dense := m.Dense()
	defer dense.Close()
	logits, err := m.Logits(t.Context(), s, text)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := m.Logits(t.Context(), dense, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []int{0, topK} {
		sc, err := m.NewScorer([][]int32{text}, ScorerOptions{TopK: k, Vocab: entries})
		if err != nil {
			t.Fatal(err)
		}
		defer sc.Close()
		if got, err := sc.Score(t.Context(), dense, Text{Windows: []int{0}}); err != nil || math.Abs(got.KL) > 1e-4 {
			t.Errorf("the dense model diverges from itself by %g, error %v", got.KL, err)
		}
		var before Scored
		for order, first := range []int{len(text), 12} {
			sc, err := m.NewScorer([][]int32{text}, ScorerOptions{TopK: k, Vocab: entries})
			if err != nil {
				t.Fatal(err)
			}
			defer sc.Close()
			if _, err := sc.Score(t.Context(), s, Text{Windows: []int{0}, Length: first}); err != nil {
				t.Fatal(err)
			}
			got, err := sc.Score(t.Context(), s, Text{Windows: []int{0}, Length: 20})
			if err != nil {
				t.Fatal(err)
			}
			if order > 0 && (got.NLL != before.NLL || got.KL != before.KL) {
				t.Errorf("%d tokens: %v, and %v asked in another order", k, got, before)
			}
			before = got
			w := sc.dense[0].sample
			if w == nil || len(w.ids) != entries {
				t.Fatalf("sample %v", w)
			}
			var nll, kl float64
			for i := range 19 {
				row, d := logits[i*m.config.Vocab:(i+1)*m.config.Vocab], whole[i*m.config.Vocab:(i+1)*m.config.Vocab]
				var sum, denseSum float64
				for j, id := range w.ids {
					sum += math.Exp(float64(row[id] + w.offsets[j]))
					denseSum += math.Exp(float64(d[id] + w.offsets[j]))
				}
				nll += math.Log(sum) - float64(row[text[i+1]])
				restP, restQ := 1.0, 1.0
				for _, id := range newSelector(len(d)).largest(d, k) {
					if !slices.Contains(w.ids[:w.certain], id) {
						continue
					}
					p, q := math.Exp(float64(d[id]))/denseSum, math.Exp(float64(row[id]))/sum
					kl += p * math.Log(p/q)
					restP, restQ = restP-p, restQ-q
				}
				if k > 0 {
					kl += restP * math.Log(restP/restQ)
				}
			}
			if math.Abs(got.NLL-nll) > 1e-3 || math.Abs(got.KL-kl) > 1e-3 {
				t.Errorf("%d tokens: NLL %g and divergence %g, want %g and %g", k, got.NLL, got.KL, nll, kl)
			}
		}
	}
}

func TestSampledVocabWhereTheHeadIsMuchOfTheWork(t *testing.T) {
	for name, c := range map[string]struct {
		layers, hidden, ffn, heads, kv, dim, vocab int
		want                                       int
	}{
		"SmolLM2-135M":                {30, 576, 1536, 9, 3, 64, 49152, sampledVocab},
		"a 7B of a small vocabulary":  {32, 4096, 11008, 32, 32, 128, 32000, 0},
		"an 8B of a large vocabulary": {32, 4096, 14336, 32, 8, 128, 128256, 0},
		"a vocabulary hardly larger":  {4, 64, 128, 4, 2, 16, 20000, 0},
	} {
		g := &subnet.Geometry{Arch: "llama", Hidden: c.hidden, HeadDim: c.dim, Vocab: c.vocab}
		for range c.layers {
			g.Layers = append(g.Layers, subnet.LayerGeometry{Heads: c.heads, KVHeads: c.kv, FFN: c.ffn})
		}
		if got := SampledVocab(g); got != c.want {
			t.Errorf("%s: %d entries, want %d", name, got, c.want)
		}
	}
}
