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
	rates := tokenRates(out.ranked.counted.again, all)
	scored, err := m.tokenCounts(ctx, texts)
	if err != nil {
		return out, err
	}
	whole, err := m.vocabScore(ctx, texts, nil, mon)
	if err != nil {
		return out, err
	}
	losses := make([]vocabLoss, len(sizes))
	for i, n := range sizes {
		mon.Progress(float64(i), float64(len(sizes)), "sizes", "measuring what vocabularies cost")
		level := oneshot.VocabLevel{Set: subnet.Full(all)}
		if n < all {
			level.Set = out.ranked.set(n)
			own, err := m.vocabScore(ctx, texts, out.ranked.entries(n), mon)
			if err != nil {
				return out, err
			}
			losses[i].nats = own - whole
			for id := range all {
				if !level.Set.Has(id) {
					losses[i].rate += rates[id]
					losses[i].dropped += scored[id]
				}
			}
		}
		out.levels = append(out.levels, level)
	}
	for i, loss := range vocabLosses(losses) {
		out.levels[i].Loss = loss
	}
	return out, nil
}

// vocabLoss is what was measured of a smaller vocabulary.
type vocabLoss struct {
	rate    float64 // share of the tokens of a text that are dropped ones
	dropped float64 // how many of those that are scored are
	nats    float64 // by which their scores rise
}

// fewDropped is how many dropped tokens weigh as much as those of the smallest vocabulary in what one of them costs.
const fewDropped = 20

// vocabLosses returns the losses of vocabularies, the largest first, in nats for each token that the whole vocabulary makes of a text: the share of dropped
// tokens in all of the text that was not counted times what one costs. The scored text is short, since each vocabulary takes a pass through the model,
// so that few of its tokens are those that a large vocabulary drops: what one of them costs is taken to be nearer to that of the smallest vocabulary
// the fewer they are.
func vocabLosses(measured []vocabLoss) []float64 {
	out := make([]float64, len(measured))
	if len(measured) == 0 {
		return out
	}
	smallest := measured[len(measured)-1]
	cost := smallest.nats / max(smallest.dropped, 1)
	least := 0.0
	for i, v := range measured {
		least = max(least, v.rate*(v.nats+fewDropped*cost)/(v.dropped+fewDropped)) // a smaller vocabulary never gains
		out[i] = least
	}
	return out
}

// tokenRates returns the share of each entry of the whole vocabulary in the tokens of parts of a mix.
func tokenRates(parts []sharedPart, entries int) []float64 {
	rates := make([]float64, entries)
	for _, p := range parts {
		for _, id := range p.tokens {
			rates[id] += p.share / float64(len(p.tokens))
		}
	}
	return rates
}

// tokenCounts returns how many tokens of texts each entry of the whole vocabulary is.
func (m *model) tokenCounts(ctx context.Context, texts []string) ([]float64, error) {
	load, err := m.tokenizer(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = load.Close() }() // nothing was written
	counts := make([]float64, m.geometry().Vocab)
	for _, text := range texts {
		tokens, err := load.Tokenize(ctx, text, false)
		if err != nil {
			return nil, err
		}
		for _, id := range tokens {
			counts[id]++
		}
	}
	return counts, nil
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

// texts returns what is scored: the beginnings of parts that are evenly spread over the mix, none of which were counted where the texts are long enough.
func (r *rankedVocab) texts() []string {
	all := r.counted.again
	var out []string
	n, before := min(vocabTexts, len(all)), 0.0
	for i, p := range all {
		before += p.share
		left := len(all) - i // no part is taken twice, and all are where they are few
		if len(out) == n || left > n-len(out) && before < (float64(len(out))+0.5)/float64(n) {
			continue
		}
		text := p.text
		if len(text) > vocabBytes {
			text = cutAtSpace(text, vocabBytes)
		}
		out = append(out, text)
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

// vocabScore returns the negative log-likelihood of texts in nats, with the kept entries of the vocabulary or all where kept is nil. The texts are
// within the context.
func (m *model) vocabScore(ctx context.Context, texts []string, kept []int, mon explorer.Monitor) (nats float64, err error) {
	load, err := m.tokenizer(ctx, kept)
	if err != nil {
		return 0, err
	}
	p := passage{kept: kept}
	for _, text := range texts {
		ids, err := load.Tokenize(ctx, text, false)
		if err != nil {
			return 0, errors.Join(err, load.Close())
		}
		if len(ids) > 1 {
			p.windows = append(p.windows, ids)
		}
	}
	if err := load.Close(); err != nil {
		return 0, err
	}
	if len(p.windows) == 0 {
		return 0, nil
	}
	dm, err := m.weights(ctx)
	if err != nil {
		return 0, err
	}
	dense := dm.Dense()
	defer dense.Close()
	score := graphScorer(dm, dense)
	if kept != nil {
		score = predictionScorer(keptPredictor(dm, dense, kept))
	}
	q, err := perplexity(ctx, p, score, mon, "scoring")
	return q.NLL * float64(q.Tokens), err
}
