package explorertest

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/infer/vocab"
)

// leastVocab is how many entries of the vocabulary the fake models need.
const leastVocab = 1000

// TrimVocab implements [explorer.Trimmer] without counting: it keeps the first entries, and each token of a text is as likely as its number is low.
func (m *model) TrimVocab(ctx context.Context, v explorer.VocabSize, c explorer.Calibration, mon explorer.Monitor) (subnet.Set, explorer.Vocab, error) {
	text, _, err := m.texts(c)
	if err != nil {
		return subnet.Set{}, explorer.Vocab{}, err
	}
	const parts = 4
	for i := range parts {
		if err := m.step(ctx, mon, i, parts, "bytes", "counting tokens"); err != nil {
			return subnet.Set{}, explorer.Vocab{}, err
		}
	}
	all := m.info.Vocab
	n := v.Keep
	if v.Share > 0 {
		n = int(float64(all) * v.Share)
	}
	if n < leastVocab && !v.Force {
		return subnet.Set{}, explorer.Vocab{}, fmt.Errorf("%w: %w: with %d entries: %q (chat template): %d entries hold all", explorer.ErrInvalid, vocab.ErrLoss, n, "user", leastVocab)
	}
	longer := func(n int) float64 { return 1 + 0.1*float64(all-n)/float64(all) }
	made := explorer.Vocab{
		Asked: v, Kept: n, Of: all, Least: leastVocab, Text: text, Tokens: 1 << 20, Covered: 1 - 0.01*float64(all-n)/float64(all),
		DenseCharsPerToken: 4.4, CharsPerToken: 4.4 / longer(n),
		DenseTokensPerWord: 1.3, TokensPerWord: 1.3 * longer(n), Scripts: []vocab.Script{{Name: "Latin", Kept: n - 200, Of: all - 500}, {Name: vocab.Symbols, Kept: 200, Of: 300}, {Name: "Cyrillic", Kept: 0, Of: 200}},
	}
	for _, at := range []int{all, all / 2, all / 4, leastVocab} {
		made.Curve = append(made.Curve, explorer.VocabPoint{Kept: at, Bytes: int64(at) * 360, Longer: longer(at)})
	}
	return subnet.Range(all, 0, n), made, nil
}
