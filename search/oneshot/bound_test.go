package oneshot_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot"
)

// TestBoundHolds measures random edits of whole modules on the text of the statistics: nine of ten are inside the bound, on average
// over statistics of several texts. The tolerance is three standard errors of 160 edits.
func TestBoundHolds(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	g := m.Geometry()
	inside, all := 0, 0
	for seed := range uint64(8) {
		windows := decodertest.Windows(seed+20, 4, 48, g.Vocab)
		s, err := oneshot.NewStatistics(t.Context(), m, windows, oneshot.Gathering{})
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range s.Layers {
			for name, u := range map[string]oneshot.UnitStatistics{"channels": l.Channels, "heads": l.Heads} {
				if !(u.Whole >= u.Rise && u.Whole < math.Log(float64(g.Vocab))) {
					t.Errorf("layer %d: without %s %g, without half of them %g", i, name, u.Whole, u.Rise)
				}
			}
		}
		texts := windows[2:]
		scorer, err := m.NewScorer(texts, decoder.ScorerOptions{TopK: 16, Vocab: decoder.SampledVocab(g)})
		if err != nil {
			t.Fatal(err)
		}
		text := decoder.Text{Windows: []int{0, 1}}
		rng := rand.New(rand.NewPCG(seed, 77))
		for range 20 {
			masks := oneshot.RandomDrop(g, rng)
			low, high, ok := s.Bound(masks)
			if !ok {
				t.Fatal("no bound")
			}
			cut, err := m.Subnet(t.Context(), gguf.Subnet{Masks: masks})
			if err != nil {
				t.Fatal(err)
			}
			score, err := scorer.Score(t.Context(), cut, text)
			if err != nil {
				t.Fatal(err)
			}
			cut.Close()
			all++
			if rise := score.NLL/float64(score.Tokens) - s.DenseNLL; low <= rise && rise <= high {
				inside++
			}
		}
		scorer.Close()
	}
	rate := float64(inside) / float64(all)
	t.Logf("%d of %d edits inside the bound", inside, all)
	if slack := 3 * math.Sqrt(oneshot.BoundRate*(1-oneshot.BoundRate)/float64(all)); rate < oneshot.BoundRate-slack {
		t.Errorf("%.2f of the edits are inside the bound, %.2f was claimed", rate, oneshot.BoundRate)
	}
}

// TestPredictionsAreCapped predicts from statistics of earlier versions, whose extrapolated losses of whole modules are nonsense.
func TestPredictionsAreCapped(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	g := m.Geometry()
	s, err := oneshot.NewStatistics(t.Context(), m, decodertest.Windows(7, 4, 48, g.Vocab), oneshot.Gathering{})
	if err != nil {
		t.Fatal(err)
	}
	none := subnet.Dense(g)
	for i := range s.Layers {
		s.Layers[i].Channels.Whole, s.Layers[i].Heads.Whole = 0, 0
		s.Layers[i].Channels.Rise = 1e4
		none = none.With(i, subnet.Layer{Heads: none.Layer(i).Heads, Channels: subnet.Empty(g.Layers[i].FFN)})
	}
	most := math.Log(float64(g.Vocab))
	if got := s.PredictLayer(none, 0); got > most {
		t.Errorf("one module costs %g nats per token, guessing %g", got, most)
	}
	if got := s.Predict(none); got > most {
		t.Errorf("all modules cost %g nats per token, guessing %g", got, most)
	}
	if _, _, ok := s.Bound(subnet.Dense(g)); ok {
		t.Error("the dense model has a bound")
	}
}
