package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/corpus"
)

// The defaults of calibration.
const (
	defaultWindows = 8 // of statistics and searches
	defaultSeq     = explorer.DefaultSeq
)

// testBytes is how much of the start of the web text is left to tests.
const testBytes = 60_000

// calibration returns the windows that statistics and re-fitting learn from: so many, or as many as there are up to that number if
// atMost is set. 0 is the default number, as far as there are as many.
func (m *model) calibration(ctx context.Context, c explorer.Calibration, windows int, atMost bool, mon explorer.Monitor) (passage, error) {
	src, err := m.sources(ctx, c, mon)
	if err != nil {
		return passage{}, err
	}
	defer src.close()
	return src.windows(ctx, windows, atMost)
}

// Identify implements [explorer.Cutter].
func (m *model) Identify(ctx context.Context, c explorer.Calibration, mon explorer.Monitor) (explorer.TextRef, []explorer.MixPart, error) {
	src, err := m.sources(ctx, c, mon)
	if err != nil {
		return explorer.TextRef{}, nil, err
	}
	defer src.close()
	if !src.mixed() {
		return src.ref, nil, nil
	}
	mix := make([]explorer.MixPart, len(src.texts))
	for i, s := range src.texts {
		mix[i] = s.MixPart
	}
	return src.ref, mix, nil
}

// sources are the texts of a calibration, whose content is known and of which nothing is tokenised yet.
type sources struct {
	m      *model
	c      explorer.Calibration
	mon    explorer.Monitor
	ref    explorer.TextRef // of all texts
	texts  []source
	shares []float64
	load   infer.Model // tokenises; nil until it is needed
}

// source is one text.
type source struct {
	explorer.MixPart
	path  string
	file  string   // what is read, of a path that names a data set of the hub
	texts []string // its content: of a file, of the files of a folder, or conversations
	text  *corpus.Text
}

// sources reads the texts of a calibration.
func (m *model) sources(ctx context.Context, c explorer.Calibration, mon explorer.Monitor) (*sources, error) {
	src := &sources{m: m, c: c, mon: mon}
	mix, optional := c.Mix, false
	switch {
	case c.Text != "":
		mix = []explorer.MixText{{Name: c.Text, Path: c.Text, Share: 1}}
		if explorer.IsBuiltIn(c.Text) {
			mix[0].Path = ""
		}
	case len(mix) == 0:
		mix, optional = explorer.DefaultMix(), true
	}
	var err error
	if src.shares, err = (explorer.Calibration{Mix: mix}).Shares(); err != nil {
		return nil, err
	}
	all := 0.0
	for i, t := range mix {
		s := source{MixPart: explorer.MixPart{Name: t.Name, Share: src.shares[i]}}
		switch err := src.read(ctx, &s, t, optional); {
		case errors.Is(err, errNone):
			continue
		case err != nil && optional && ctx.Err() == nil && t.Name != explorer.TextWiki:
			mon.Note(fmt.Sprintf("the calibration text goes without %s: %v", t.Name, err))
			continue
		case err != nil && len(mix) > 1:
			return nil, fmt.Errorf("the text %s of the mix: %w", t.Name, err)
		case err != nil:
			return nil, err
		}
		src.texts, all = append(src.texts, s), all+s.Share
	}
	src.shares = src.shares[:0]
	for i := range src.texts {
		src.texts[i].Share /= all
		src.shares = append(src.shares, src.texts[i].Share)
	}
	src.ref = src.reference(c.Text != "" || optional && len(src.texts) == 1)
	return src, nil
}

// errNone is returned for a text of the default mix that this engine is configured not to have.
var errNone = errors.New("no such text")

// read reads a text.
func (src *sources) read(ctx context.Context, s *source, t explorer.MixText, optional bool) (err error) {
	o := src.m.engine.options
	missing := func(path string) error {
		if path == "" {
			path = "the cache"
		}
		return fmt.Errorf("%w: it is not at %s: run `make setup`, or name a file, --text %s=FILE: %w", explorer.ErrText, path, t.Name, os.ErrNotExist)
	}
	switch {
	case t.Path != "":
		s.path, s.Text = t.Path, filepath.Base(t.Path)
		s.file = t.Path
		if name, ok := strings.CutPrefix(t.Path, explorer.HubText); ok {
			s.Text = t.Path
			if s.file, err = src.m.fetchDataSet(ctx, name, src.mon); err != nil {
				return err
			}
		}
		s.texts, err = readTexts(s.file)
	case t.Name == explorer.TextChat:
		if optional && o.Conversation == 0 {
			return errNone
		}
		s.texts, err = src.m.conversations(ctx, src.mon)
	case t.Name == explorer.TextWeb || t.Name == explorer.TextCode:
		if s.path = o.Web; t.Name == explorer.TextCode {
			s.path = o.Code
		}
		if optional && s.path == "" {
			return errNone
		}
		if s.path == "" {
			return missing("")
		}
		if s.texts, err = readTexts(s.path); errors.Is(err, fs.ErrNotExist) {
			return missing(s.path)
		}
		if err == nil && t.Name == explorer.TextWeb {
			s.texts, err = afterTests(s.path, s.texts[0])
		}
	default:
		if s.path, err = src.m.text(""); err == nil {
			s.texts, err = readTexts(s.path)
		}
	}
	if err != nil {
		return err
	}
	ref := reference(s.path, strings.Join(s.texts, ""))
	s.Bytes, s.SHA256 = ref.Bytes, ref.SHA256
	return nil
}

// afterTests returns the part of the web text that is not left to tests, from the start of a document.
func afterTests(path, text string) ([]string, error) {
	if len(text) > testBytes {
		if at := strings.IndexByte(text[testBytes:], '\n'); at >= 0 && testBytes+at+1 < len(text) {
			return []string{text[testBytes+at+1:]}, nil
		}
	}
	return nil, fmt.Errorf("%s: %w: it has nothing after the line of byte %d, before which tests are", path, explorer.ErrText, testBytes)
}

// reference describes the texts: a single one by its path and the hash of its content.
func (src *sources) reference(single bool) explorer.TextRef {
	if single {
		s := src.texts[0]
		path := s.path
		if path == "" {
			path = s.Name
		}
		return explorer.TextRef{Path: path, Bytes: s.Bytes, SHA256: s.SHA256}
	}
	var ref explorer.TextRef
	h := sha256.New()
	names := make([]string, len(src.texts))
	for i, s := range src.texts {
		fmt.Fprintf(h, "%s %g %s\n", s.Name, s.Share, s.SHA256)
		names[i] = fmt.Sprintf("%s %.3g", s.Name, s.Share)
		ref.Bytes += s.Bytes
	}
	ref.Path, ref.SHA256 = strings.Join(names, ", "), hex.EncodeToString(h.Sum(nil))
	return ref
}

// mixed reports whether the reference is that of a mix.
func (src *sources) mixed() bool { return src.ref.SHA256 != src.texts[0].SHA256 }

// seed is that of the draw.
func (src *sources) seed() uint64 { return max(src.c.Seed, 1) }

// drawName names the draw in the key of statistics.
func (src *sources) drawName() string {
	if src.c.Draw == explorer.DrawStart {
		return ""
	}
	return fmt.Sprintf("%s %d", explorer.DrawWhole, src.seed())
}

func (src *sources) close() {
	if src.load != nil {
		_ = src.load.Close() // nothing was written
	}
}

// windows draws windows, see [model.calibration].
func (src *sources) windows(ctx context.Context, n int, atMost bool) (passage, error) {
	seq := orDefault(src.c.Seq, defaultSeq)
	if n == 0 {
		n, atMost = defaultWindows, true
	}
	if src.c.Draw == explorer.DrawStart {
		return src.first(ctx, n, seq, atMost)
	}
	load, err := src.m.tokenizer(ctx, nil)
	if err != nil {
		return passage{}, err
	}
	src.load = load
	info := load.Info()
	p := passage{ref: src.ref, draw: explorer.DrawWhole, other: src.other()}
	if p.start, err = startOf(take{}, info); err != nil {
		return passage{}, err
	}
	tokenize := func(ctx context.Context, text string) ([]int32, error) {
		tokens, err := load.Tokenize(ctx, text, true)
		if err == nil && info.AddBOS && len(tokens) > 0 {
			tokens = tokens[1:]
		}
		return tokens, err
	}
	begin := func(tokens []int32) []int32 {
		if p.start == explorer.BOSEvery {
			return append([]int32{info.BOS}, tokens...)
		}
		return tokens
	}
	own := len(begin(nil))
	if own = seq - own; own < 1 {
		return passage{}, fmt.Errorf("%w: windows of %d tokens", explorer.ErrInvalid, seq)
	}
	src.cutUp(tokenize)
	counts, err := src.apportion(ctx, max(n, src.c.Of), own, atMost)
	if err != nil {
		return passage{}, err
	}
	drawn, ends, err := src.drawn(ctx, counts, own, quickSeq-len(begin(nil)))
	if err != nil {
		return passage{}, err
	}
	for _, end := range ends {
		p.end = append(p.end, begin(end))
	}
	p.of = corpus.Order(counts, src.shares)
	if src.c.Of > 0 && n < len(p.of) {
		p.of = p.of[:n]
	}
	used := make([]int, len(counts))
	for _, i := range p.of {
		p.windows = append(p.windows, begin(drawn[i][used[i]]))
		used[i]++
	}
	if src.mixed() {
		for _, s := range src.texts {
			p.mix = append(p.mix, s.MixPart)
		}
	}
	p.drawn, p.seed = max(0, src.c.Of), src.seed()
	src.warn()
	return p, nil
}

// cutUp makes texts of documents of what was read, by which windows are drawn.
func (src *sources) cutUp(tokenize func(context.Context, string) ([]int32, error)) {
	for i := range src.texts {
		s := &src.texts[i]
		if len(s.texts) >= corpus.MinDocuments {
			s.text = corpus.NewDocuments(s.texts, tokenize)
		} else {
			s.text = corpus.NewText(strings.Join(s.texts, ""), tokenize)
		}
	}
}

// drawn returns as many windows of each text as counts has, and the last tokens of the texts that are not used whole.
func (src *sources) drawn(ctx context.Context, counts []int, seq, last int) (windows [][][]int32, ends [][]int32, err error) {
	for i, s := range src.texts {
		got, err := s.text.Draw(ctx, counts[i], seq, src.seed())
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w: %w", s.Name, explorer.ErrText, err)
		}
		windows = append(windows, got.Windows)
		if got.Whole || counts[i] == 0 {
			continue
		}
		end, err := s.text.End(ctx, last)
		if err != nil {
			return nil, nil, err
		}
		if end != nil {
			ends = append(ends, end)
		}
	}
	return windows, ends, nil
}

// apportion divides windows of so many tokens of text among the texts, and reports what falls short.
func (src *sources) apportion(ctx context.Context, n, own int, atMost bool) ([]int, error) {
	asked, missing := n, make([]int, len(src.texts)) // missing from a text's share
	counts, err := corpus.Apportion(src.shares, n, func(i, n int) (int, error) {
		most, err := src.texts[i].text.Fit(ctx, n, own)
		if !atMost && most < n && len(src.texts) == 1 {
			most, err = n, errors.Join(err, ctx.Err()) // drawn from all of the text, or an error there
		}
		missing[i] = max(missing[i], n-most)
		return most, err
	})
	if err != nil {
		return nil, err
	}
	n = 0
	for _, count := range counts {
		n += count
	}
	seq := orDefault(src.c.Seq, defaultSeq)
	if n == 0 && len(src.texts) == 1 {
		return []int{1}, nil // which is an error of the draw
	}
	if n == 0 || n < asked && !atMost {
		return nil, fmt.Errorf("%s: %w: it has %d windows of %d tokens, not %d", src.ref.Path, explorer.ErrText, n, seq, max(asked, 1))
	}
	for i, s := range src.texts {
		if missing[i] > 0 && len(src.texts) > 1 && len(src.c.Mix) > 0 { // nobody has asked for the shares of the default mix
			src.mon.Note(fmt.Sprintf("%s has %s of %d tokens, fewer than its share of the calibration text: the other texts have more", s.Name, format.Counted(counts[i], "window"), seq))
		}
	}
	if n < min(asked, defaultWindows) {
		src.mon.Note(fmt.Sprintf("the calibration text has %s of %d tokens, not %d: all are used", format.Counted(n, "window"), seq, min(asked, defaultWindows)))
	}
	return counts, nil
}

// manyTokens is how many tokens a character has at least in a script that a tokenizer does not cover.
const manyTokens = 1.1

// warn reports texts that the tokenizer hardly covers.
func (src *sources) warn() {
	for _, s := range src.texts {
		if r := s.text.TokensPerCharacter(); r > manyTokens {
			src.mon.Note(fmt.Sprintf("%s has %.1f tokens per character: the model's tokenizer hardly covers its script", s.Name, r))
		}
	}
}

// other reports whether the text that set-up fetches is not among the texts.
func (src *sources) other() bool {
	for _, s := range src.texts {
		if s.path != "" && s.path == src.m.engine.options.Text {
			return false
		}
	}
	return true
}

// first returns the first windows of a single text.
func (src *sources) first(ctx context.Context, n, seq int, atMost bool) (passage, error) {
	s := src.texts[0]
	if s.path == "" || s.Name == explorer.TextWeb {
		return passage{}, fmt.Errorf("%w: %s has no windows from its %s", explorer.ErrInvalid, s.Name, explorer.DrawStart)
	}
	path := orDefault(s.file, s.path)
	p, err := src.m.passage(ctx, path, take{windows: n, seq: seq})
	if atMost && errors.Is(err, explorer.ErrText) {
		if p, err = src.m.passage(ctx, path, take{seq: seq}); err == nil && len(p.windows) < min(n, defaultWindows) {
			src.mon.Note(fmt.Sprintf("the calibration text has %s of %d tokens, not %d: all are used", format.Counted(len(p.windows), "window"), seq, min(n, defaultWindows)))
		}
	}
	if err != nil {
		return passage{}, err
	}
	end, err := src.m.end(ctx, path, (len(p.windows)*seq+quickSeq-1)/quickSeq)
	p.ref, p.end, p.draw, p.other = src.ref, end.end, explorer.DrawStart, src.other()
	return p, err
}

// end returns the last window of quickSeq tokens of a text that has so many more, else nothing.
func (m *model) end(ctx context.Context, path string, more int) (passage, error) {
	_, err := m.passage(ctx, path, take{windows: more + 1, seq: quickSeq})
	if errors.Is(err, explorer.ErrText) {
		return passage{}, nil
	}
	if err != nil {
		return passage{}, err
	}
	p, err := m.passage(ctx, path, take{windows: 1, seq: quickSeq, fromEnd: true})
	p.end = p.windows
	return p, err
}

// describe records the text of a subnet that was fitted to the first windows of a passage.
func (p passage) describe(method *explorer.Method, windows int) {
	method.Text, method.Windows, method.Draw = p.ref, windows, p.draw
	if method.Drawn = p.drawn; windows < len(p.windows) && p.draw == explorer.DrawWhole {
		method.Drawn = len(p.windows)
	}
	method.Mix = nil
	for i, part := range p.mix {
		for _, of := range p.of[:windows] {
			if of == i {
				part.Windows++
			}
		}
		method.Mix = append(method.Mix, part)
	}
}

func orDefault[T comparable](v, otherwise T) T {
	if v == *new(T) {
		return otherwise
	}
	return v
}
