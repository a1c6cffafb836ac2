//go:build cgo && !nocgo

package llamacpp

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// tokenize converts text to tokens; start prepends the start token, parse recognises special tokens that are spelled out.
func (n *network) tokenize(text string, start, parse bool) (tokens, error) {
	var out tokens
	if start && n.info.BOS >= 0 {
		out = append(out, n.info.BOS)
	}
	var rest tokens
	var err error
	switch {
	case n.steps == gguf.TextSteps{}:
		rest, err = n.split(text, parse)
	case parse:
		rest, err = between(text, n.controls.at, n.plain)
	default:
		rest, err = n.plain(text)
	}
	return append(out, rest...), err
}

// plain converts text without control tokens to tokens.
func (n *network) plain(text string) (tokens, error) {
	if n.steps == (gguf.TextSteps{}) {
		return n.split(text, false)
	}
	return between(text, n.whole.at, func(part string) (tokens, error) { return n.split(prepare(part, n.steps), false) })
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

// split converts text to tokens as llama.cpp does.
func (n *network) split(text string, parse bool) (tokens, error) {
	if text == "" {
		return nil, nil
	}
	// llama.cpp adds the start and the end token together: behind a prompt an end token would end the text to continue.
	ids, err := n.model.Tokenize(text, false, parse)
	if err != nil {
		return nil, err
	}
	out := make(tokens, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out, nil
}

// between converts text to tokens: find returns the token that a text begins with, and convert converts the texts between those.
func between(text string, find func(string) (special, bool), convert func(string) (tokens, error)) (tokens, error) {
	var out tokens
	begin := 0
	for i := 0; i < len(text); {
		c, ok := find(text[i:])
		if !ok {
			i++
			continue
		}
		before := text[begin:i]
		if c.attributes&attrLStrip != 0 {
			before = strings.TrimRightFunc(before, unicode.IsSpace)
		}
		ids, err := convert(before)
		if err != nil {
			return nil, err
		}
		out = append(append(out, ids...), c.id)
		i += len(c.text)
		if c.attributes&attrRStrip != 0 {
			i = len(text) - len(strings.TrimLeftFunc(text[i:], unicode.IsSpace))
		}
		begin = i
	}
	ids, err := convert(text[begin:])
	return append(out, ids...), err
}
