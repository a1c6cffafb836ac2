package decoder

import (
	"cmp"
	"math"
	"slices"

	. "github.com/gomlx/gomlx/core/graph" // graphs read as formulas

	"github.com/lathe-llm/lathe/infer/subnet"
)

// sampledVocab is how many vocabulary entries a sample has, for models whose LM head is at least headShare of their layers and
// whose vocabulary is at least smallVocab times as large.
const (
	sampledVocab = 12288
	smallVocab   = 2
	headShare    = 0.1
)

// SampledVocab returns for how many vocabulary entries to compute logits where subnets are compared, see [ScorerOptions]: 0 is
// the whole vocabulary.
func SampledVocab(g *subnet.Geometry) int {
	head := float64(g.Vocab) * float64(g.Hidden)
	if g.Vocab < smallVocab*sampledVocab || head < headShare*float64(g.BlockParams()) {
		return 0
	}
	return sampledVocab
}

// vocabSample is the part of the vocabulary that logits are computed for, in an importance-sampled softmax (Bengio and Senécal
// 2003; Jean et al. 2015, arXiv:1412.2007): the tokens of the text and the dense model's likeliest are always in it, and of all
// other entries a stratified sample, whose logits get the logarithm of its weight. It is not random, so that equal texts have
// equal samples.
type vocabSample struct {
	ids     []int32
	offsets []float32 // added to the logits: 0, and for the sampled entries the logarithm of their weight
	certain int       // how many come first that are not sampled
}

// certainShare is the share of entries that are not sampled.
const certainShare = 2.0 / 3

// sampleVocab returns n entries, given the dense model's probabilities of all entries, summed over the text. It returns nil where
// the text alone has as many different tokens.
func sampleVocab(likely []float64, text []int32, n int) *vocabSample {
	has := make([]bool, len(likely))
	certain := 0
	for _, t := range text {
		if !has[t] {
			has[t] = true
			certain++
		}
	}
	if certain = max(certain, int(certainShare*float64(n))); certain >= n {
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
	w := &vocabSample{ids: slices.Clone(order[:certain]), offsets: make([]float32, n), certain: certain}
	// One of each stratum of entries that are about equally likely.
	others := order[certain:]
	var all, sampled float64
	for _, o := range others {
		all += likely[o]
	}
	for i := range n - certain {
		o := others[(2*i+1)*len(others)/(2*(n-certain))]
		sampled += likely[o]
		w.ids = append(w.ids, o)
	}
	weight := float64(len(others)) / float64(n-certain)
	if sampled > 0 {
		weight = all / sampled
	}
	for i := certain; i < n; i++ {
		w.offsets[i] = float32(math.Log(weight))
	}
	return w
}

// never is a log-probability of, in effect, zero.
const never = -1e30

// index replaces tokens by their indices in the sample; those that are missing or sampled get the log-probability never.
func (w *vocabSample) index(vocab int, tokens []int32, logProbs []float32) {
	index := make([]int32, vocab)
	for i := range index {
		index[i] = -1
	}
	for i, id := range w.ids[:w.certain] {
		index[id] = int32(i)
	}
	for i, t := range tokens {
		if tokens[i] = index[t]; tokens[i] < 0 {
			tokens[i], logProbs[i] = 0, never
		}
	}
}

// vocabulary is the LM head, and its rows for the entries that logits are computed for.
type vocabulary struct {
	head    *Node // [vocab, hidden]
	rows    *Node // [entries, hidden]
	offsets *Node // [entries], added to their logits, nil for zeros
}

// fullVocab is the whole vocabulary.
func fullVocab(head *Node) vocabulary { return vocabulary{head, head, nil} }

// partialVocab is a sampled vocabulary.
func partialVocab(head, ids, offsets *Node) vocabulary {
	return vocabulary{head, Gather(head, InsertAxes(ids, -1)), offsets}
}

func (v vocabulary) size() int { return v.rows.Shape().Dimensions[0] }

// from returns entries from to to-1.
func (v vocabulary) from(from, to int) vocabulary {
	v.rows = Slice(v.rows, AxisRange(from, to))
	if v.offsets != nil {
		v.offsets = Slice(v.offsets, AxisRange(from, to))
	}
	return v
}
