package vocabulary

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// Tokenizer converts text to tokens.
type Tokenizer struct {
	BOS      int32    // start token; negative for none
	Controls Specials // control tokens
	Whole    Specials // other tokens that are matched before text is split
	Steps    gguf.TextSteps
	Apart    bool // tokens have properties that Split does not know: it only gets the texts between them

	// Split converts text that is not empty to tokens, without a start token. With parse, special tokens that are spelled out are
	// recognised.
	Split func(text string, parse bool) ([]int32, error)
}

// Tokenize converts text to tokens; start prepends the start token, parse recognises special tokens that are spelled out.
func (n *Tokenizer) Tokenize(text string, start, parse bool) ([]int32, error) {
	var out []int32
	if start && n.BOS >= 0 {
		out = append(out, n.BOS)
	}
	var rest []int32
	var err error
	switch {
	case !n.Apart && n.Steps == gguf.TextSteps{}:
		rest, err = n.split(text, parse)
	case parse:
		rest, err = between(text, n.Controls.At, n.plain)
	default:
		rest, err = n.plain(text)
	}
	return append(out, rest...), err
}

// plain converts text without control tokens to tokens.
func (n *Tokenizer) plain(text string) ([]int32, error) {
	if !n.Apart && n.Steps == (gguf.TextSteps{}) {
		return n.split(text, false)
	}
	return between(text, n.Whole.At, func(part string) ([]int32, error) { return n.split(prepare(part, n.Steps), false) })
}

// prepare changes a text as the steps of its tokenizer do.
func prepare(text string, steps gguf.TextSteps) string {
	if steps.Compose {
		text = norm.NFC.String(text)
	}
	if steps.SpacePrefix && text != "" && text[0] != ' ' {
		text = " " + text
	}
	return text
}

// split converts text to tokens with Split.
func (n *Tokenizer) split(text string, parse bool) ([]int32, error) {
	if text == "" {
		return nil, nil
	}
	return n.Split(text, parse)
}

// between converts text to tokens: find returns the token that a text begins with, and convert converts the texts between those.
func between(text string, find func(string) (Special, bool), convert func(string) ([]int32, error)) ([]int32, error) {
	var out []int32
	begin := 0
	for i := 0; i < len(text); {
		c, ok := find(text[i:])
		if !ok {
			i++
			continue
		}
		if !c.alone(text[:i], text[i+len(c.Text):]) {
			i += len(c.Text)
			continue
		}
		before := text[begin:i]
		if c.LStrip {
			before = strings.TrimRightFunc(before, unicode.IsSpace)
		}
		ids, err := convert(before)
		if err != nil {
			return nil, err
		}
		out = append(append(out, ids...), c.ID)
		i += len(c.Text)
		if c.RStrip {
			i = len(text) - len(strings.TrimLeftFunc(text[i:], unicode.IsSpace))
		}
		begin = i
	}
	ids, err := convert(text[begin:])
	return append(out, ids...), err
}

// Guarded converts the rendering of guarded messages to tokens: the template's own control tokens become single tokens,
// and those with the mark are text.
func (n *Tokenizer) Guarded(text, mark string, start bool) ([]int32, error) {
	out, err := n.Tokenize("", start, false)
	if err != nil {
		return nil, err
	}
	own := func(rest string) (Special, bool) {
		c, ok := n.Controls.At(rest)
		if ok && utf8.RuneCountInString(c.Text) == 1 && strings.HasPrefix(rest[len(c.Text):], mark) {
			return Special{}, false
		}
		return c, ok
	}
	ids, err := between(text, own, func(part string) ([]int32, error) { return n.plain(strings.ReplaceAll(part, mark, "")) })
	return append(out, ids...), err
}
