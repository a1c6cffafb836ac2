package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
)

// textUse is how much text a run uses. It is stored so that a resumed run uses the same, whatever its budget.
type textUse struct{ Windows, Levels int }

// readText reads the calibration text and divides it.
func (r *run) readText(ctx context.Context) error {
	r.Monitor.Progress(0, 0, "tokens", "tokenising")
	path := filepath.Join(r.Dir, "text.json")
	windows, atMost := r.Windows, false
	r.levelText = r.plan.Levels
	if data, err := os.ReadFile(path); err == nil && r.Dir != "" && r.Resume {
		var before textUse
		if json.Unmarshal(data, &before) == nil {
			if windows == 0 {
				windows = max(before.Windows, 0)
			}
			r.levelText = cmp.Or(max(before.Levels, 0), levelWindows)
		}
	}
	_, paper := r.strategy.(*search.Paper)
	if windows == 0 && (r.Budget.Time > 0 || paper) {
		windows, atMost = maxRefitWindows, true
	}
	var err error
	if r.text, err = r.Text(ctx, windows, atMost); err != nil {
		return err
	}
	if r.Dir != "" {
		if err := r.persist(ctx, func() error { return save(path, textUse{len(r.text.Windows), r.levelText}) }); err != nil {
			return err
		}
	}
	return r.divideText()
}

// divideText sets apart the text that candidates are scored on.
func (r *run) divideText() error {
	all := r.text.Windows
	if len(all) < 2 {
		return fmt.Errorf("%w: a search needs two windows at least, one to fit and one to score on", reform.ErrText)
	}
	if p, ok := r.strategy.(*search.Paper); ok {
		r.divideAtRandom(p.Tokens)
		return nil
	}
	held := min(max(1, int(searchTextShare*float64(len(all)))), maxSearchWindows)
	r.fitting = spread(all[:len(all)-held], r.levelText)
	for _, w := range all[len(all)-held:] {
		seq := min(searchSeq, len(w))
		for part := range slices.Chunk(w, seq) {
			if len(part) == seq {
				r.tuning = append(r.tuning, part)
			}
		}
	}
	return nil
}

// maxDrawnShare bounds the share of the windows that the candidates of the paper's search are scored on.
const maxDrawnShare = 5. / 8

// divideAtRandom sets apart so many tokens of text, in windows that are drawn at random.
func (r *run) divideAtRandom(tokens int) {
	all := r.text.Windows
	seq := len(all[0])
	most := max(1, int(maxDrawnShare*float64(len(all))))
	held := min((tokens+seq-1)/seq, most)
	if held*seq < tokens {
		r.Monitor.Note(fmt.Sprintf("candidates are scored on %d tokens, not on %d: the calibration text has %d windows of %d", held*seq, tokens, len(all), seq))
	}
	drawn := subnet.Full(len(all)).Sample(rand.New(rand.NewPCG(r.Seed, textStream)), held)
	var others [][]int32
	for i, w := range all {
		if drawn.Has(i) {
			r.tuning = append(r.tuning, w)
		} else {
			others = append(others, w)
		}
	}
	r.fitting = spread(others, r.levelText)
}

// textStream separates the random numbers of the text from those of the search.
const textStream = 0x7E47

// spread returns at most n of the windows, evenly spaced.
func spread(windows [][]int32, n int) [][]int32 {
	if len(windows) <= n {
		return windows
	}
	out := make([][]int32, n)
	for i := range out {
		out[i] = windows[i*len(windows)/n]
	}
	return out
}

// save writes a value as JSON, durably.
func save(path string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err != nil {
		return err
	}
	return search.FileStore(path).Save(data)
}
