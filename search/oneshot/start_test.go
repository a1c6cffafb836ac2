package oneshot_test

import (
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/score"
	"github.com/lathe-llm/lathe/search/space"
)

// The subnets that the paper's search starts from have the widths asked for and are nested, and the search runs from them.
func TestStart(t *testing.T) {
	m := decodertest.Load(t, gguftest.Tiny("llama"))
	text := decodertest.Windows(2, 4, 32, m.Geometry().Vocab)
	start, err := oneshot.Start(t.Context(), m, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	bounds := space.PaperSpace(m.Geometry(), 0.8)
	small, err := start(bounds, 0.8, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	g := m.Geometry()
	for i, lg := range g.Layers {
		l := small.Layer(i)
		if l.Channels.Len() != subnet.Count(lg.FFN, 0.5, 1) || !l.Heads.IsFull() {
			t.Errorf("layer %d keeps %d channels and heads %v", i, l.Channels.Len(), l.Heads)
		}
		for group := range lg.KVHeads {
			if n := l.VOOf(group, g.HeadDim).Len(); n != subnet.Count(g.HeadDim, 0.8, 1) || !l.VOOf(group, g.HeadDim).Equal(l.QKOf(group, g.HeadDim)) {
				t.Errorf("layer %d, group %d keeps %d channels", i, group, n)
			}
		}
	}
	bigger, err := start(bounds, 0.9, 0.75)
	if err != nil {
		t.Fatal(err)
	}
	if !small.Layer(0).Channels.Minus(bigger.Layer(0).Channels).IsEmpty() {
		t.Error("a larger subnet lacks channels of a smaller one")
	}
	eval, err := score.New(m, nil, text, score.Perplexity)
	if err != nil {
		t.Fatal(err)
	}
	defer eval.Close()
	paper := search.PaperLaptop()
	paper.N, paper.Nm, paper.Nc, paper.K, paper.Epochs, paper.Tokens, paper.Granularity, paper.Range = 6, 3, 2, 2, 2, 64, 1, 0.1
	job, err := search.NewJob(search.Options{
		Strategy: paper, Evaluator: eval, Unattended: true,
		Problem: search.Problem{Model: "tiny", Geometry: g, Start: start, Target: search.Ratio(0.9), Seed: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	result, err := job.Run(t.Context())
	if err != nil || result.Best.Ratio > 0.9 || len(result.State.Population) < 3 {
		t.Errorf("%v: best has ratio %v in a population of %d", err, result.Best.Ratio, len(result.State.Population))
	}
}
