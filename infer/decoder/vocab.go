package decoder

import (
	"cmp"
	"math"
	"slices"

	. "github.com/gomlx/gomlx/core/graph" // graphs read as formulas

	"github.com/lathe-llm/lathe/infer/subnet"
)

// sampledVocab is how many words of the vocabulary logits are computed for where subnets are compared, if the LM head is at
// least headShare of a model's layers and the vocabulary smallVocab times as large.
const (
	sampledVocab = 12288
	smallVocab   = 2
	headShare    = 0.1
)

// SampledVocab returns for how many words of the vocabulary logits are worth computing where subnets are compared, see
// [ScorerOptions]: 0 for all.
func SampledVocab(g *subnet.Geometry) int {
	head := float64(g.Vocab) * float64(g.Hidden)
	if g.Vocab < smallVocab*sampledVocab || head < headShare*float64(g.BlockParams()) {
		return 0
	}
	return sampledVocab
}

// words says for which words of the vocabulary logits are computed where not for all: those that the text has and those
// likeliest in the dense model, and of all others a sample, each of which stands for several.
type vocabSample struct {
	ids     []int32
	offsets []float32 // added to the logits: 0, and in the sample the logarithm of how many words each stands for
	kept    int       // how many come before the sample
}

// takenShare is the share of the words that are taken for themselves.
const takenShare = 2.0 / 3

// sampleVocab returns n words, given the dense model's probabilities of all, summed over the text. It returns nil where the
// text alone has as many.
func sampleVocab(likely []float64, text []int32, n int) *vocabSample {
	has := make([]bool, len(likely))
	kept := 0
	for _, t := range text {
		if !has[t] {
			has[t] = true
			kept++
		}
	}
	if kept = max(kept, int(takenShare*float64(n))); kept >= n {
		return nil
	}
	order := make([]int32, len(likely))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		switch {
		case has[a] && !has[b]:
			return -1
		case has[b] && !has[a]:
			return 1
		}
		return cmp.Or(cmp.Compare(likely[b], likely[a]), cmp.Compare(a, b))
	})
	w := &vocabSample{ids: slices.Clone(order[:kept]), offsets: make([]float32, n), kept: kept}
	// One of each stretch of words that are about as likely.
	others := order[kept:]
	var all, drawn float64
	for _, o := range others {
		all += likely[o]
	}
	for i := range n - kept {
		o := others[(2*i+1)*len(others)/(2*(n-kept))]
		drawn += likely[o]
		w.ids = append(w.ids, o)
	}
	stands := float64(len(others)) / float64(n-kept)
	if drawn > 0 {
		stands = all / drawn
	}
	for i := kept; i < n; i++ {
		w.offsets[i] = float32(math.Log(stands))
	}
	return w
}

// never is the logarithm of the probability of what does not happen.
const never = -1e30

// places replaces tokens by where they are among the words kept, and what is not there by something that never happens.
func (w *vocabSample) places(vocab int, tokens []int32, logProbs []float32) {
	place := make([]int32, vocab)
	for i := range place {
		place[i] = -1
	}
	for i, id := range w.ids[:w.kept] {
		place[id] = int32(i)
	}
	for i, t := range tokens {
		if tokens[i] = place[t]; tokens[i] < 0 {
			tokens[i], logProbs[i] = 0, never
		}
	}
}

// vocabulary is the LM head: for all words, and for those whose logits are computed.
type vocabulary struct {
	head    *Node // [vocab, hidden]
	rows    *Node // [words, hidden]
	offsets *Node // [words], what is added to their logits, nil for nothing
}

func fullVocab(head *Node) vocabulary { return vocabulary{head, head, nil} }

func partialVocab(head, ids, offsets *Node) vocabulary {
	return vocabulary{head, Gather(head, InsertAxes(ids, -1)), offsets}
}

func (v vocabulary) size() int { return v.rows.Shape().Dimensions[0] }

// from is the words from one on up to another.
func (v vocabulary) from(from, to int) vocabulary {
	v.rows = Slice(v.rows, AxisRange(from, to))
	if v.offsets != nil {
		v.offsets = Slice(v.offsets, AxisRange(from, to))
	}
	return v
}
