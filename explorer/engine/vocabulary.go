package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/infer/vocab"
)

// Limits of counting, in bytes: of one text, of a part that is tokenised at once, and of all texts that are tokenised again.
const (
	maxCounted = 16 << 20
	countedAt  = 64 << 10
	maxAgain   = 2 << 20
)

// heldOutEvery is which parts of a text are not counted, every such: tokens per word are of those, since a text loses fewer of the tokens that were
// counted in it than another one does.
const heldOutEvery = 8

// maxWeight is how much more a token of a short text may count than one of a long text, so that the texts of a mix have their shares.
const maxWeight = 4

// curvePoints is how many sizes a curve has.
const curvePoints = 24

// TrimVocab implements [explorer.Trimmer].
func (m *model) TrimVocab(ctx context.Context, v explorer.VocabSize, c explorer.Calibration, mon explorer.Monitor) (subnet.Set, explorer.Vocab, error) {
	r, err := m.rankVocab(ctx, c, mon)
	if err != nil {
		return subnet.Set{}, explorer.Vocab{}, err
	}
	n, err := r.size(v)
	if err != nil {
		return subnet.Set{}, explorer.Vocab{}, err
	}
	made, err := r.record(ctx, m, v, n, mon)
	if err != nil {
		return subnet.Set{}, explorer.Vocab{}, err
	}
	return r.set(n), *made, nil
}

// rankedVocab is a vocabulary with the order in which its entries are dropped.
type rankedVocab struct {
	words   *vocab.Vocabulary
	ranking *vocab.Ranking
	counted counted
	ref     explorer.TextRef // what was counted
}

// rankVocab counts tokens and ranks the entries of the vocabulary.
func (m *model) rankVocab(ctx context.Context, c explorer.Calibration, mon explorer.Monitor) (*rankedVocab, error) {
	words, err := m.file.Vocabulary()
	if err != nil {
		return nil, err
	}
	src, err := m.sources(ctx, c, mon)
	if err != nil {
		return nil, err
	}
	defer src.close()
	load, err := m.tokenizer(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = load.Close() }() // nothing was written
	r := &rankedVocab{words: words, ref: src.ref}
	if r.counted, err = countTokens(ctx, load, words.Len(), src, mon); err != nil {
		return nil, err
	}
	wanted := make(map[int]string)
	if err := m.templateTokens(ctx, load, wanted); err != nil {
		return nil, err
	}
	words.Letters(r.counted.counts, wanted)
	r.ranking, err = words.Rank(vocab.Request{Counts: r.counted.counts, Wanted: wanted})
	return r, err
}

// size returns how many entries a size keeps.
func (r *rankedVocab) size(v explorer.VocabSize) (int, error) {
	n := v.Keep
	if v.Share > 0 {
		n = r.ranking.Share(v.Share)
	}
	n, err := r.ranking.Keep(n, v.Force)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	return n, nil
}

// set returns the n entries that are kept.
func (r *rankedVocab) set(n int) subnet.Set {
	return subnet.Of(r.words.Len(), r.ranking.Kept(n)...)
}

// record describes a choice of n entries.
func (r *rankedVocab) record(ctx context.Context, m *model, v explorer.VocabSize, n int, mon explorer.Monitor) (*explorer.Vocab, error) {
	kept := r.ranking.Kept(n)
	made := &explorer.Vocab{
		Asked: v, Kept: n, Of: r.words.Len(), Least: r.ranking.Least(v.Force), Text: r.ref, Tokens: r.counted.tokens, Covered: r.ranking.Covered(n), HeldOut: r.counted.held,
		Scripts: r.words.Scripts(kept), Curve: m.vocabCurve(r.ranking, v.Force),
	}
	return made, m.perWord(ctx, r.counted.again, kept, made, mon)
}

// counted are the tokens of texts.
type counted struct {
	counts []float64 // of each entry, weighted by the shares of the texts
	tokens int64
	again  []sharedPart // that are tokenised with the smaller vocabulary too
	held   bool         // these were not counted
}

// sharedPart is a part of a text with its share of a mix.
type sharedPart struct {
	text   string
	share  float64 // of all parts
	tokens []int32 // with the whole vocabulary
}

// sharedParts are parts of a text that has a share of a mix.
func sharedParts(texts []string, share float64) []sharedPart {
	size := 0
	for _, t := range texts {
		size += len(t)
	}
	out := make([]sharedPart, len(texts))
	for i, t := range texts {
		out[i] = sharedPart{text: t, share: share * float64(len(t)) / float64(max(size, 1))}
	}
	return out
}

// countTokens counts the tokens of texts.
func countTokens(ctx context.Context, load infer.Model, entries int, src *sources, mon explorer.Monitor) (counted, error) {
	var texts [][]string
	total := 0.0
	out := counted{counts: make([]float64, entries)}
	for i, s := range src.texts {
		parts := spread(s.texts, maxCounted)
		var own, held []string
		for j, p := range parts {
			if j%heldOutEvery == heldOutEvery-1 {
				held = append(held, p)
			} else {
				own = append(own, p)
			}
		}
		if parts = own; len(held) > 0 {
			out.again, out.held = append(out.again, sharedParts(spread(held, int(src.shares[i]*maxAgain)), src.shares[i])...), true
		}
		texts = append(texts, parts)
		for _, p := range parts {
			total += float64(len(p))
		}
	}
	counts, sums := make([][]float64, len(texts)), make([]float64, len(texts))
	done, all := 0.0, 0.0
	for i, parts := range texts {
		counts[i] = make([]float64, entries)
		for _, part := range parts {
			if err := mon.Gate(ctx); err != nil {
				return out, err
			}
			tokens, err := load.Tokenize(ctx, part, true)
			if err != nil {
				return out, err
			}
			if load.Info().AddBOS && len(tokens) > 0 {
				tokens = tokens[1:]
			}
			for _, id := range tokens {
				counts[i][id]++
			}
			sums[i] += float64(len(tokens))
			done += float64(len(part))
			mon.Progress(done, total, "bytes", "counting tokens")
		}
		all += sums[i]
		if !out.held {
			out.again = append(out.again, sharedParts(spread(parts, int(src.shares[i]*maxAgain)), src.shares[i])...)
		}
	}
	out.tokens = int64(all)
	for i := range out.again {
		if err := mon.Gate(ctx); err != nil {
			return out, err
		}
		mon.Progress(float64(i), float64(len(out.again)), "parts", "counting tokens that others are compared with")
		p := &out.again[i]
		var err error
		if p.tokens, err = load.Tokenize(ctx, p.text, true); err != nil {
			return out, err
		}
	}
	for i := range texts {
		if sums[i] == 0 {
			continue
		}
		weight := min(maxWeight, src.shares[i]*all/sums[i])
		for id, n := range counts[i] {
			out.counts[id] += weight * n
		}
	}
	return out, nil
}

// spread divides texts into parts that end at white space and returns parts of up to so many bytes, evenly over all.
func spread(texts []string, most int) []string {
	var parts []string
	total := 0
	for _, text := range texts {
		for text != "" {
			part := text
			if len(text) > countedAt {
				part = cutAtSpace(text, countedAt)
			}
			parts, text = append(parts, part), text[len(part):]
			total += len(part)
		}
	}
	if total <= most {
		return parts
	}
	var out []string
	seen, taken := 0, 0
	for _, p := range parts {
		seen += len(p)
		if share := float64(most) / float64(total); float64(taken) < share*float64(seen) && taken+len(p) <= max(most, countedAt) {
			out, taken = append(out, p), taken+len(p)
		}
	}
	return out
}

// literal matches the texts between quotes in a template, and outside matches what is outside its statements and expressions.
var (
	literal = regexp.MustCompile(`'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"`)
	outside = regexp.MustCompile(`(?s)\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}`)
)

// templateTokens adds the tokens that the chat template writes: those of conversations of all roles, and of all texts in the template.
func (m *model) templateTokens(ctx context.Context, load infer.Model, to map[int]string) error {
	add := func(tokens []int32) {
		for _, id := range tokens {
			if to[int(id)] == "" {
				to[int(id)] = "chat template"
			}
		}
	}
	say := func(role, text string) infer.Message { return infer.Message{Role: role, Content: text} }
	tool := []byte(`{"type":"function","function":{"name":"0","description":"0","parameters":{"type":"object","properties":{"0":{"type":"string","description":"0"}},"required":["0"]}}}`)
	for _, c := range []infer.Conversation{
		{Messages: []infer.Message{say(infer.User, "0")}},
		{Messages: []infer.Message{say(infer.System, "0"), say(infer.User, "0"), say(infer.Assistant, "0"), say(infer.User, "0")}},
		{Messages: []infer.Message{say(infer.User, "0")}, Tools: []json.RawMessage{tool}},
		{Messages: []infer.Message{say(infer.User, "0"), {Role: infer.Assistant, Calls: []infer.ToolCall{{ID: "0", Name: "0", Arguments: json.RawMessage(`{"0":"0"}`)}}},
			{Role: infer.Tool, Content: "0", CallID: "0", Name: "0"}}, Tools: []json.RawMessage{tool}},
	} {
		p, err := load.PromptWith(ctx, c)
		if errors.Is(err, infer.ErrTemplate) { // it refuses such a conversation
			continue
		}
		if err != nil {
			return err
		}
		add(p.Tokens)
	}
	template, _ := m.file.KV().String("tokenizer.chat_template")
	const most = 1 << 20
	template = template[:min(len(template), most)]
	texts := outside.Split(template, -1)
	for _, quoted := range literal.FindAllString(strings.Join(outside.FindAllString(template, -1), " "), -1) {
		texts = append(texts, strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\'`, "'", `\"`, `"`, `\\`, `\`).Replace(quoted[1:len(quoted)-1]))
	}
	for _, text := range texts {
		if text == "" {
			continue
		}
		tokens, err := load.Tokenize(ctx, text, true)
		if err != nil {
			return err
		}
		add(tokens)
	}
	return nil
}

// vocabCurve returns sizes from all entries to the fewest.
func (m *model) vocabCurve(r *vocab.Ranking, force bool) []explorer.VocabPoint {
	all, least := m.geometry().Vocab, r.Least(force)
	var bytes int64 // of an entry
	for _, name := range []string{"token_embd.weight", "output.weight"} {
		if t, ok := m.file.Tensor(name); ok {
			bytes += t.Size / int64(t.Dims[0])
		}
	}
	var curve []explorer.VocabPoint
	for i := range curvePoints {
		n := all - int(math.Round(float64(all-least)*float64(i)/(curvePoints-1)))
		curve = append(curve, explorer.VocabPoint{Kept: n, Bytes: int64(n) * bytes, Longer: r.Longer(n)})
	}
	return curve
}

// perWord counts the tokens of texts with all entries and with the kept ones: for each word, and the characters for each of them.
func (m *model) perWord(ctx context.Context, parts []sharedPart, kept []int, to *explorer.Vocab, mon explorer.Monitor) (err error) {
	small, err := m.tokenizer(ctx, kept)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, small.Close()) }()
	words, chars := 0, 0
	var before, after float64
	for i, part := range parts {
		if err := mon.Gate(ctx); err != nil {
			return err
		}
		mon.Progress(float64(i), float64(len(parts)), "parts", "counting tokens of the smaller vocabulary")
		b, err := small.Tokenize(ctx, part.text, true)
		if err != nil {
			return err
		}
		words, chars = words+len(strings.Fields(part.text)), chars+utf8.RuneCountInString(part.text)
		before, after = before+float64(len(part.tokens)), after+float64(len(b))
	}
	to.DenseTokensPerWord, to.TokensPerWord = before/float64(max(words, 1)), after/float64(max(words, 1))
	to.DenseCharsPerToken, to.CharsPerToken = float64(chars)/max(before, 1), float64(chars)/max(after, 1)
	return nil
}

// trimmedTokenizer is a model that only tokenises, in a folder that is removed with it.
type trimmedTokenizer struct {
	infer.Model
	dir *scratch.Folder
}

// Close implements [infer.Model].
func (t *trimmedTokenizer) Close() error { return errors.Join(t.Model.Close(), t.dir.Remove()) }

// trimmed loads the kept entries of the vocabulary to tokenise.
func (m *model) trimmed(ctx context.Context, kept []int) (infer.Model, error) {
	dir, err := scratch.New(m.engine.options.Scratch, "vocabulary")
	if err != nil {
		return nil, err
	}
	path := dir.Join("vocabulary.gguf")
	if err := m.file.WriteVocabulary(path, kept); err != nil {
		return nil, errors.Join(err, dir.Remove())
	}
	load, err := m.engine.runtime.Load(ctx, infer.LoadOptions{Path: path, Context: 512, FlashAttention: true}, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("loading the tokenizer: %w", err), dir.Remove())
	}
	return &trimmedTokenizer{load, dir}, nil
}

// keptOf returns the kept entries of a vocabulary that is trimmed, else nil.
func keptOf(masks subnet.Masks) []int {
	if !masks.TrimsVocab() {
		return nil
	}
	return masks.Vocab().Indices()
}

// textBytes returns how many bytes of text the scored tokens of a passage are, 0 where that is not known.
func (m *model) textBytes(p passage) int64 {
	words, err := m.file.Vocabulary()
	if err != nil {
		return 0
	}
	var n int64
	for _, w := range p.scored() {
		for _, id := range w.Tokens[w.From:] {
			if p.kept != nil {
				id = int32(p.kept[id])
			}
			n += int64(len(words.Text(int(id))))
		}
	}
	return n
}
