package engine

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// The graphs score the kept entries of a vocabulary as llama.cpp scores the file that holds them, and the dense model is scored on the same
// bytes, which are more than its own windows hold.
func TestScoreOfATrimmedVocabulary(t *testing.T) {
	b := newEngine(t)
	opened, err := b.Open(t.Context(), gguftest.Write(t, gguftest.Tiny("llama")))
	if err != nil {
		t.Fatal(err)
	}
	m := opened.(*model)
	defer func() { _ = m.Close() }()
	kept, made, err := m.TrimVocab(t.Context(), explorer.VocabSize{Keep: 1 << 20, Share: 0}, explorer.Calibration{}, &quiet{})
	if err != nil || kept.Len() != 320 || made.Longer() != 1 {
		t.Fatalf("all entries: %d, %+v, error %v", kept.Len(), made, err)
	}
	if kept, made, err = m.TrimVocab(t.Context(), explorer.VocabSize{Keep: 270, Force: true}, explorer.Calibration{}, &quiet{}); err != nil {
		t.Fatal(err)
	}
	masks, err := subnet.Dense(m.geometry()).WithVocab(kept)
	if err != nil {
		t.Fatal(err)
	}
	s := gguf.Subnet{Masks: masks}
	r := explorer.ScoreRequest{Seq: 64, Windows: 3}
	graphs, err := m.Score(t.Context(), s, r, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	r.Engine = explorer.EngineLlama
	file, err := m.Score(t.Context(), s, r, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(graphs.NLL-file.NLL) > 2e-3 || graphs.Bytes != file.Bytes || graphs.Conditions.Vocab != 270 || graphs.Conditions.Tokens != file.Conditions.Tokens {
		t.Errorf("%.5f nats at %d bytes in the graphs, %.5f at %d in llama.cpp", graphs.NLL, graphs.Bytes, file.NLL, file.Bytes)
	}
	r.Windows, r.Span = 3, file.Bytes
	whole, err := m.Score(t.Context(), gguf.Subnet{Masks: subnet.Dense(m.geometry())}, r, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	if d := math.Abs(float64(whole.Bytes)/float64(file.Bytes) - 1); d > 0.05 || whole.Conditions.Tokens > file.Conditions.Tokens || made.Longer() <= 1 {
		t.Errorf("%d tokens of %d bytes, the smaller vocabulary %d of %d (%.2f times)", whole.Conditions.Tokens, whole.Bytes, file.Conditions.Tokens, file.Bytes, made.Longer())
	}
	again, err := m.Score(t.Context(), gguf.Subnet{Masks: subnet.Dense(m.geometry())}, explorer.ScoreRequest{Seq: 64, Windows: 3}, &quiet{})
	if err != nil || again.Conditions.Tokens != 3*62 && again.Conditions.Tokens != 3*63 {
		t.Errorf("three windows after that: %+v, error %v", again.Conditions, err)
	}
}

func TestSpread(t *testing.T) {
	text := strings.Repeat("word after word ", 40000) // ten parts
	parts := spread([]string{text, "short", ""}, 1<<20)
	if got := strings.Join(parts, ""); got != text+"short" || len(parts) < 10 {
		t.Errorf("%d parts of %d bytes", len(parts), len(got))
	}
	some := spread([]string{text}, 200_000)
	n := 0
	for _, p := range some {
		n += len(p)
	}
	if n > 200_000 || n < 100_000 {
		t.Errorf("%d bytes of %d", n, len(text))
	}
}

// TestVocabLossOfLongTexts scores a smaller vocabulary on the whole of the text that all entries are scored on, also where that is longer than
// the context. The tiny model predicts nothing, so that a text costs as much more as it has more tokens.
func TestVocabLossOfLongTexts(t *testing.T) {
	tiny := gguftest.Tiny("llama")
	tiny.Context = 96
	m := open(t, newEngine(t), tiny)
	size := explorer.VocabSize{Keep: 270, Force: true}
	_, made, err := m.TrimVocab(t.Context(), size, explorer.Calibration{}, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := m.vocabLevels(t.Context(), size, explorer.Calibration{}, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	more := (made.Longer() - 1) * math.Log(270)
	if loss := got.levels[0].Loss; more < 0.5 || loss < more/2 {
		t.Errorf("loss %.3f nats for each token, of which a text has %.2f times more", loss, made.Longer())
	}
}

// TestVocabLosses compares the losses of vocabularies of which little was measured.
func TestVocabLosses(t *testing.T) {
	got := vocabLosses([]vocabLoss{
		{},
		{rate: 0.004, dropped: 0, nats: 0},      // none of the scored tokens: as the smallest vocabulary, 6 nats for each
		{rate: 0.01, dropped: 20, nats: 20 * 8}, // half its own
		{rate: 0.01, dropped: 20, nats: 20 * 4}, // no less than the larger one
		{rate: 0.1, dropped: 500, nats: 500 * 6},
	})
	for i, want := range []float64{0, 0.004 * 6, 0.01 * 7, 0.01 * 7, 0.1 * 6} {
		if math.Abs(got[i]-want) > 1e-12 {
			t.Errorf("vocabulary %d: %v nats per token, want %v", i, got[i], want)
		}
	}
	if got := vocabLosses([]vocabLoss{{}, {rate: 0.01}}); got[1] != 0 {
		t.Errorf("nothing measured: %v", got)
	}
}

// TestVocabTexts takes the scored texts from all of a mix by the shares of its texts, none twice.
func TestVocabTexts(t *testing.T) {
	var all []sharedPart
	for _, text := range []struct {
		name  string
		parts int
		share float64
	}{{"wiki", 20, 0.3}, {"web", 3, 0.3}, {"code", 40, 0.2}, {"chat", 1, 0.2}} {
		var parts []string
		for range text.parts {
			parts = append(parts, text.name)
		}
		all = append(all, sharedParts(parts, text.share)...)
	}
	for _, c := range []struct {
		from []sharedPart
		want []string
	}{
		{all, []string{"wiki", "web", "code", "chat"}},
		{sharedParts([]string{"a", "b", "c"}, 1), []string{"a", "b", "c"}},
		{nil, nil},
	} {
		r := rankedVocab{counted: counted{again: c.from}}
		if got := r.texts(); !slices.Equal(got, c.want) {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestVocabSizes(t *testing.T) {
	for _, c := range []struct {
		all, least int
		want       []int
	}{
		{49152, 1000, []int{49152, 41779, 35880, 29982, 24576}},
		{49152, 30000, []int{49152, 41779, 35880, 30000}},
		{320, 288, []int{320, 288}},
		{262144, 1000, []int{262144, 222822, 191365, 159907, 131072, 98304, 73728, 55296, 41472}},
		{320, 320, []int{320}},
	} {
		if got := vocabSizes(c.all, c.least); !slices.Equal(got, c.want) {
			t.Errorf("of %d, at least %d: %v, want %v", c.all, c.least, got, c.want)
		}
	}
}
