package engine

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot"
)

const (
	// vocabTexts parts of vocabBytes each are what the losses of vocabularies are measured on.
	vocabTexts, vocabBytes = 4, 4000
)

// vocabShares are the shares of the vocabulary that are tried where its size is chosen, besides all of it; below the last one, each next share is
// vocabStep of it down to vocabFew entries, which vocabularies of many languages need.
func vocabShares() []float64 { return []float64{0.85, 0.73, 0.61, 0.5} }

const (
	vocabStep = 0.75
	vocabFew  = 32768
)

// vocabSizes returns the sizes of a vocabulary that are tried, of which the largest is all of it and the others are at least a number: that one itself
// where the shares are smaller.
func vocabSizes(all, least int) []int {
	sizes := []int{all}
	add := func(n int) {
		if n = max(n, least); n < sizes[len(sizes)-1] {
			sizes = append(sizes, n)
		}
	}
	last := all
	for _, share := range vocabShares() {
		last = int(share * float64(all))
		add(last)
	}
	for last = int(vocabStep * float64(last)); last >= vocabFew; last = int(vocabStep * float64(last)) {
		add(last)
	}
	return sizes
}

// vocabChoice are sizes of the vocabulary with what they cost.
type vocabChoice struct {
	levels []oneshot.VocabLevel // the largest first
	ranked *rankedVocab         // nil where there is nothing to choose
	asked  explorer.VocabSize
	text   explorer.Calibration
}

// vocabTried ranks the vocabulary and returns which sizes of it are tried, the largest first: the one that was asked for, or several.
func (m *model) vocabTried(ctx context.Context, v explorer.VocabSize, c explorer.Calibration, mon explorer.Monitor) (out vocabChoice, sizes []int, err error) {
	out = vocabChoice{asked: v, text: c}
	if out.ranked, err = m.rankVocab(ctx, c, mon); err != nil {
		return out, nil, err
	}
	if v.Auto {
		return out, vocabSizes(out.ranked.words.Len(), out.ranked.ranking.Least(v.Force)), nil
	}
	n, err := out.ranked.size(v)
	return out, []int{n}, err
}

// vocabLevel returns the size of the vocabulary that was asked for, without what it costs: there is nothing to choose.
func (m *model) vocabLevel(ctx context.Context, v explorer.VocabSize, c explorer.Calibration, mon explorer.Monitor) (vocabChoice, error) {
	out, sizes, err := m.vocabTried(ctx, v, c, mon)
	if err != nil {
		return out, err
	}
	out.levels = []oneshot.VocabLevel{{Set: out.ranked.set(sizes[0])}}
	return out, nil
}

// vocabLevels measures what sizes of the vocabulary cost: the size that was asked for, or several.
func (m *model) vocabLevels(ctx context.Context, v explorer.VocabSize, c explorer.Calibration, mon explorer.Monitor) (vocabChoice, error) {
	out, sizes, err := m.vocabTried(ctx, v, c, mon)
	if err != nil {
		return out, err
	}
	all := out.ranked.words.Len()
	texts := out.ranked.texts()
	for i := range sizes { // the smallest first, which makes the most tokens
		n := sizes[len(sizes)-1-i]
		if texts, err = m.withinContext(ctx, texts, out.ranked.entries(n)); err != nil {
			return out, err
		}
	}
	whole, tokens, err := m.vocabScore(ctx, texts, nil, mon)
	if err != nil {
		return out, err
	}
	least := 0.0
	for i, n := range sizes {
		mon.Progress(float64(i), float64(len(sizes)), "sizes", "measuring what vocabularies cost")
		level := oneshot.VocabLevel{Set: subnet.Full(all)}
		if n < all {
			level.Set = out.ranked.set(n)
			own, _, err := m.vocabScore(ctx, texts, out.ranked.entries(n), mon)
			if err != nil {
				return out, err
			}
			least = max(least, (own-whole)/tokens) // a smaller vocabulary never gains
			level.Loss = least
		}
		out.levels = append(out.levels, level)
	}
	return out, nil
}

// record describes the size that was chosen.
func (v vocabChoice) record(ctx context.Context, m *model, n int, mon explorer.Monitor) (*explorer.Vocab, error) {
	if v.ranked == nil { // a search that was resumed has chosen among sizes that it measured before
		var err error
		if v.ranked, err = m.rankVocab(ctx, v.text, mon); err != nil {
			return nil, err
		}
	}
	return v.ranked.record(ctx, m, v.asked, n, mon)
}

// texts returns the parts of the texts that losses are measured on, none of which were counted where the texts are long enough.
func (r *rankedVocab) texts() []string {
	all := r.counted.again
	var out []string
	for i := range min(vocabTexts, len(all)) {
		part := all[i*len(all)/min(vocabTexts, len(all))]
		if len(part) > vocabBytes {
			part = cutAtSpace(part, vocabBytes)
		}
		out = append(out, part)
	}
	return out
}

// entries returns the n entries that are kept, nil for all.
func (r *rankedVocab) entries(n int) []int {
	if n >= r.words.Len() {
		return nil
	}
	return r.ranking.Kept(n)
}

// withinContext cuts texts at white space so that each of them, in tokens of the kept entries of the vocabulary, is within the context of the
// model.
func (m *model) withinContext(ctx context.Context, texts []string, kept []int) (_ []string, err error) {
	context := m.Info().Context
	if context <= 0 {
		return texts, nil
	}
	load, err := m.tokenizer(ctx, kept)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, load.Close()) }()
	out := slices.Clone(texts)
	for i := range out {
		for out[i] != "" {
			ids, err := load.Tokenize(ctx, out[i], false)
			if err != nil {
				return nil, err
			}
			if len(ids) <= context {
				break
			}
			out[i] = cutAtSpace(out[i], min(len(out[i])-1, len(out[i])*context/len(ids)))
		}
	}
	return out, nil
}

// cutAtSpace returns at most n bytes of a longer text, up to white space where there is some.
func cutAtSpace(text string, n int) string {
	part := excerpt(text, n)
	if at := strings.LastIndexAny(part, " \n"); at > 0 {
		part = part[:at]
	}
	return part
}

// vocabScore returns the negative log-likelihood of texts in nats, with the kept entries of the vocabulary or all where kept is nil, and how many
// tokens they are. The texts are within the context.
func (m *model) vocabScore(ctx context.Context, texts []string, kept []int, mon explorer.Monitor) (nats, tokens float64, err error) {
	load, err := m.tokenizer(ctx, kept)
	if err != nil {
		return 0, 0, err
	}
	p := passage{kept: kept}
	for _, text := range texts {
		ids, err := load.Tokenize(ctx, text, false)
		if err != nil {
			return 0, 0, errors.Join(err, load.Close())
		}
		if len(ids) > 1 {
			p.windows = append(p.windows, ids)
		}
	}
	if err := load.Close(); err != nil {
		return 0, 0, err
	}
	if len(p.windows) == 0 {
		return 0, 1, nil
	}
	dm, err := m.weights(ctx)
	if err != nil {
		return 0, 0, err
	}
	dense := dm.Dense()
	defer dense.Close()
	score := graphScorer(dm, dense)
	if kept != nil {
		score = predictionScorer(keptPredictor(dm, dense, kept))
	}
	q, err := perplexity(ctx, p, score, mon, "scoring")
	return q.NLL * float64(q.Tokens), float64(q.Tokens), err
}
