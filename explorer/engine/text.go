package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/corpus"
	"github.com/lathe-llm/lathe/infer/hub"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/infer/scratch"
)

// maxText bounds a text, in bytes: far more than calibration or a test ever uses.
const maxText = 1 << 30

// readText reads a text file, or a folder's text files joined in order of their paths.
func readText(path string) (string, explorer.TextRef, error) {
	texts, err := readTexts(path)
	if err != nil {
		return "", explorer.TextRef{}, err
	}
	text := strings.Join(texts, "")
	return text, reference(path, text), nil
}

// readTexts reads a text file, each text file of a folder, or the records of a data set, whose field may be named behind a #.
func readTexts(path string) ([]string, error) {
	path, field, info, err := statText(path)
	if err != nil {
		return nil, err
	}
	var texts []string
	switch {
	case info.IsDir():
		texts, err = readFolder(path)
	case corpus.IsDataSet(path):
		texts, err = readDataSet(path, field, maxDataSet)
	default:
		texts = make([]string, 1)
		texts[0], err = readFile(path, info.Size())
	}
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(texts, func(s string) bool { return strings.TrimSpace(s) != "" }) {
		return nil, fmt.Errorf("%s: %w: it is empty", path, explorer.ErrText)
	}
	return texts, nil
}

// statText looks at the file or folder of a text, and divides the name of a data set from its field.
func statText(name string) (path, field string, info fs.FileInfo, err error) {
	path = name
	info, err = os.Stat(path)
	if at := strings.LastIndexByte(path, '#'); at > 0 && errors.Is(err, fs.ErrNotExist) && corpus.IsDataSet(path[:at]) {
		path, field = path[:at], path[at+1:]
		info, err = os.Stat(path)
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", explorer.ErrText, err)
		if _, named := hub.Parse(name); named && errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w (a data set of the hub is named as %s%s)", err, explorer.HubText, name)
		}
	}
	return path, field, info, err
}

// CheckTexts implements [explorer.Statistician].
func (m *model) CheckTexts(c explorer.Calibration) error {
	named := c.Mix
	if c.Text != "" && !explorer.IsBuiltIn(c.Text) {
		named = append([]explorer.MixText{{Path: c.Text}}, named...)
	}
	for _, t := range named {
		if _, ofHub := strings.CutPrefix(t.Path, explorer.HubText); t.Path == "" || ofHub {
			continue
		}
		_, _, _, err := statText(t.Path)
		switch {
		case err != nil && len(named) > 1:
			return fmt.Errorf("the text %s of the mix: %w", t.Name, err)
		case err != nil:
			return err
		}
	}
	return nil
}

// readDataSet reads the texts of a data set.
func readDataSet(path, field string, most int64) ([]string, error) {
	texts, err := corpus.ReadDataSet(path, field, most)
	if err != nil {
		err = fmt.Errorf("%w: %w", explorer.ErrText, err)
	}
	return texts, err
}

// reference pins the content of a text.
func reference(path, text string) explorer.TextRef {
	sum := sha256.Sum256([]byte(text))
	return explorer.TextRef{Path: path, Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}
}

func readFile(path string, size int64) (string, error) {
	if size > maxText {
		return "", fmt.Errorf("%s: %w: %d bytes, more than %d", path, explorer.ErrText, size, maxText)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", explorer.ErrText, err)
	}
	defer func() { _ = f.Close() }() // only read from
	data, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		return "", err
	}
	if i := firstInvalid(data); i >= 0 {
		return "", fmt.Errorf("%s: %w: byte %d is not UTF-8 text", path, explorer.ErrText, i)
	}
	return string(data), nil
}

// textNames are the endings of files that are taken from a folder.
var textNames = [...]string{".txt", ".text", ".md", ".markdown", ".utf8", ".raw", ".rst", ".org", ".tex", ".log", ".csv", ".json", ".html",
	".go", ".py", ".c", ".h", ".rs", ".java", ".js", ".ts", ".sh"}

func readFolder(path string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if hidden := strings.HasPrefix(d.Name(), ".") && name != path; hidden {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() && (slices.Contains(textNames[:], strings.ToLower(filepath.Ext(name))) || corpus.IsDataSet(name)) {
			names = append(names, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", explorer.ErrText, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: %w: the folder has no text files (%s)", path, explorer.ErrText, strings.Join(textNames[:6], " "))
	}
	slices.Sort(names)
	texts, total := make([]string, 0, len(names)), int64(0)
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", explorer.ErrText, err)
		}
		if corpus.IsDataSet(name) {
			records, err := readDataSet(name, "", maxDataSet-total)
			if err != nil {
				return nil, err
			}
			for _, text := range records {
				total += int64(len(text))
			}
			if texts = append(texts, records...); total >= maxDataSet {
				break
			}
			continue
		}
		if total+info.Size() > maxText {
			return nil, fmt.Errorf("%s: %w: its files have more than %d bytes", path, explorer.ErrText, maxText)
		}
		text, err := readFile(name, info.Size())
		if err != nil {
			return nil, err
		}
		total += int64(len(text))
		texts = append(texts, text+"\n\n")
	}
	return texts, nil
}

// firstInvalid is the offset of the first byte that is not UTF-8, -1 if there is none.
func firstInvalid(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
	return -1
}

// tokenKey names a tokenised text.
type tokenKey struct {
	sha256 string
	cut    int    // bytes of the text that were tokenised, counted from the end when negative; 0 is all
	vocab  string // hash of the entries of the vocabulary, "" for all
}

// passage is tokens of a text, cut into windows.
type passage struct {
	ref     explorer.TextRef
	windows [][]int32
	from    []int  // first scored token of each window, where windows overlap; nil where it is the second of all
	start   string // where start tokens are: explorer.BOSEvery, BOSFirst or BOSNone
	kept    []int  // entry of the model's vocabulary of each token, where the tokens are of a smaller one; nil where they are the model's

	// Of calibration.
	mix   []explorer.MixPart // nil for a single text
	of    []int              // the text of the mix that a window is from
	draw  string             // as in [explorer.Calibration]
	seed  uint64             // of the draw
	end   [][]int32          // a window of [quickSeq] of the end of each text that has one outside the windows
	other bool               // the text that set-up fetches is not among the texts
	drawn int                // windows of which these are the first, if there were more; 0 if not
}

// id identifies the tokens of a text's windows, up to their number and length.
func (p passage) id() string {
	if p.start == explorer.BOSEvery {
		return p.ref.SHA256 + " with start tokens"
	}
	return p.ref.SHA256
}

// drawKey names the draw in the key of what was measured on calibration windows. It is the draw alone for the first seed and windows that are not
// some of more, as in files of versions without the others.
func (p passage) drawKey() string {
	key := p.draw
	if p.seed > 1 {
		key += fmt.Sprintf(" %d", p.seed)
	}
	if p.drawn > 0 {
		key += fmt.Sprintf(" of %d", p.drawn)
	}
	return key
}

// scored returns the windows with the tokens of each that are scored.
func (p passage) scored() []quality.Window {
	windows := make([]quality.Window, len(p.windows))
	for i, w := range p.windows {
		windows[i] = quality.Window{Tokens: w, From: 1}
		if p.from != nil {
			windows[i].From = p.from[i]
		}
	}
	return windows
}

// take selects windows of a text.
type take struct {
	windows, seq int
	stride       int    // from one window to the next; 0 is all of a window
	fromEnd      bool   // the last windows instead of the first
	bos          string // as in [explorer.ScoreRequest]
	kept         []int  // entries of the vocabulary, in increasing order; nil for all
	span         int64  // bytes of the text, of which the last window may be shorter, instead of a number of windows; 0 for no limit
	cut          int    // as in tokenKey, of a text that was cut before
}

// passage tokenises a text and cuts it into consecutive windows. A window is never shorter than seq, start token included; fewer
// windows than asked for are an error unless 0, all, were asked for.
func (m *model) passage(ctx context.Context, path string, t take) (passage, error) {
	text, ref, err := readText(path)
	if err != nil {
		return passage{}, err
	}
	if t.span > 0 && t.span < int64(len(text)) {
		n := int(t.span)
		if t.fromEnd {
			n = -n
		}
		text, t.cut = excerpt(text, n), n
	}
	if t.span > 0 {
		t.windows, t.fromEnd = 0, false
	}
	tokens, info, err := m.tokenise(ctx, text, ref, t)
	if err != nil {
		return passage{}, err
	}
	p := passage{ref: ref, kept: t.kept}
	if p.start, err = startOf(t, info); err != nil {
		return passage{}, err
	}
	own := t.seq // tokens of the text in a window
	switch p.start {
	case explorer.BOSEvery:
		own--
	case explorer.BOSFirst:
		tokens = append([]int32{info.BOS}, tokens...)
	}
	step := orDefault(t.stride, own)
	if step > own {
		return passage{}, fmt.Errorf("%w: stride %d: a window holds %d tokens of the text", explorer.ErrInvalid, step, own)
	}
	if t.span > 0 && own > 0 && step == own && len(tokens) > 1 {
		for part := range slices.Chunk(tokens, own) {
			if p.start == explorer.BOSEvery {
				part = append([]int32{info.BOS}, part...)
			}
			if len(part) > 1 {
				p.windows = append(p.windows, part)
			}
		}
		return p, nil
	}
	if n := max(t.windows, 1); own < 1 || len(tokens) < own+(n-1)*step {
		return passage{}, fmt.Errorf("%s: %w: it has %d tokens, %d windows of %d need %d", path, explorer.ErrText, len(tokens), n, t.seq, own+(n-1)*step)
	}
	cut, err := quality.Windows(tokens, quality.WindowOptions{
		Length: t.seq, Stride: step, Limit: t.windows, FromEnd: t.fromEnd, BOS: p.start == explorer.BOSEvery, Start: info.BOS,
	})
	if err != nil {
		return passage{}, fmt.Errorf("%s: %w", path, err)
	}
	for _, w := range cut {
		p.windows = append(p.windows, w.Tokens)
		if step < own {
			p.from = append(p.from, w.From)
		}
	}
	return p, nil
}

// startOf returns where the start tokens of a text's windows are.
func startOf(t take, tokenizer infer.Info) (string, error) {
	start := t.bos
	if start == "" || start == explorer.BOSAuto {
		if start = explorer.BOSNone; tokenizer.AddBOS {
			start = explorer.BOSEvery
		}
	}
	if start == explorer.BOSAutoFirst {
		if start = explorer.BOSNone; tokenizer.AddBOS {
			start = explorer.BOSFirst
		}
	}
	switch {
	case !slices.Contains([]string{explorer.BOSEvery, explorer.BOSFirst, explorer.BOSNone}, start):
		return "", fmt.Errorf("%w: start tokens %q: not %s, %s, %s, %s or %s", explorer.ErrInvalid, start,
			explorer.BOSAuto, explorer.BOSAutoFirst, explorer.BOSEvery, explorer.BOSFirst, explorer.BOSNone)
	case start != explorer.BOSNone && tokenizer.BOS < 0:
		return "", fmt.Errorf("%w: the model has no start token", explorer.ErrUnsupported)
	case start == explorer.BOSFirst && t.fromEnd:
		return explorer.BOSNone, nil // no window begins where the text does
	}
	return start, nil
}

// addsStart reports whether calibration windows begin with a start token.
func (m *model) addsStart(ctx context.Context) (bool, error) {
	if adds, ok := m.file.KV().Bool("tokenizer.ggml.add_bos_token"); ok {
		return adds, nil
	}
	load, err := m.tokenizer(ctx, nil)
	if err != nil {
		return false, err
	}
	return load.Info().AddBOS, load.Close()
}

// tokenise returns the whole text as tokens, or enough of its beginning or end for the windows asked for, without a start token.
func (m *model) tokenise(ctx context.Context, text string, ref explorer.TextRef, t take) ([]int32, infer.Info, error) {
	load, err := m.tokenizer(ctx, t.kept)
	if err != nil {
		return nil, infer.Info{}, err
	}
	info := load.Info()
	vocab := ""
	if t.kept != nil {
		h := sha256.New()
		fmt.Fprint(h, t.kept)
		vocab = string(h.Sum(nil))
	}
	defer func() { _ = load.Close() }() // nothing was written
	for bytesPerToken := 6; ; bytesPerToken *= 2 {
		key := tokenKey{sha256: ref.SHA256, cut: t.cut, vocab: vocab}
		part := text
		if need := t.windows * t.seq * bytesPerToken; t.windows > 0 && need < len(text) {
			if key.cut = need; t.fromEnd {
				key.cut = -need
			}
			part = excerpt(text, key.cut)
		}
		m.mu.Lock()
		tokens, ok := m.tokens[key]
		m.mu.Unlock()
		if !ok {
			special := !t.fromEnd || key.cut == 0
			if tokens, err = load.Tokenize(ctx, part, special); err != nil {
				return nil, info, err
			}
			if special && info.AddBOS {
				tokens = tokens[1:]
			}
			m.remember(key, tokens)
		}
		if len(tokens) >= t.windows*t.seq || key.cut == 0 {
			return tokens, info, nil
		}
	}
}

// mostRemembered is how many tokens of texts a model keeps at most.
const mostRemembered = 16 << 20

// remember keeps a tokenised text, and forgets the others where all together are too many.
func (m *model) remember(key tokenKey, tokens []int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	total := len(tokens)
	for _, t := range m.tokens {
		total += len(t)
	}
	if total > mostRemembered {
		clear(m.tokens)
	}
	m.tokens[key] = tokens
}

// excerpt returns the first n bytes of a text, or the last -n, at the bounds of characters.
func excerpt(text string, n int) string {
	if n >= 0 {
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		return text[:n]
	}
	at := len(text) + n
	for at < len(text) && !utf8.RuneStart(text[at]) {
		at++
	}
	return text[at:]
}

// tokenizer loads the model just to tokenise, with the kept entries of its vocabulary or, where they are nil, all.
func (m *model) tokenizer(ctx context.Context, kept []int) (infer.Model, error) {
	if kept != nil {
		return m.trimmed(ctx, kept)
	}
	path, err := m.vocabularyFile(ctx)
	if err != nil {
		return nil, fmt.Errorf("the tokenizer: %w", err)
	}
	model, err := m.engine.runtime.Load(ctx, infer.LoadOptions{Path: path, Context: 512, FlashAttention: true}, nil)
	if err != nil {
		return nil, fmt.Errorf("loading the tokenizer: %w", err)
	}
	return model, nil
}

// vocabularyFile returns a file with the model's vocabulary that the runtime loads: the model's own or, where the runtime
// does not run that, one that is written once for as long as the model is open.
func (m *model) vocabularyFile(ctx context.Context) (string, error) {
	if m.info.NoRuntime == "" {
		return m.file.Path(), nil
	}
	const name = "vocabulary.gguf"
	folder, err := m.vocabulary.get(ctx, func(context.Context) (*scratch.Folder, error) {
		dir, err := scratch.New(m.engine.options.Scratch, "vocabulary")
		if err != nil {
			return nil, err
		}
		if err := m.file.WriteVocabulary(dir.Join(name), nil); err != nil {
			return nil, errors.Join(err, dir.Remove())
		}
		return dir, nil
	})
	if err != nil {
		return "", err
	}
	return folder.Join(name), nil
}

// text returns the path of a text, or of the default one.
func (m *model) text(path string) (string, error) {
	if path != "" {
		return path, nil
	}
	if m.engine.options.Text == "" {
		return "", fmt.Errorf("%w: none was named and there is no default text: name one with --text, or run `make setup`", explorer.ErrText)
	}
	return m.engine.options.Text, nil
}
