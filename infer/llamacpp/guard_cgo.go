//go:build cgo && !nocgo

package llamacpp

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/chat"
)

// specials are tokens that are matched before text is split, by the first byte of their texts.
type specials [256][]special

type special struct {
	id         int32
	text       string
	attributes int
}

// readVocabulary returns the control tokens, the tokens that users have defined, and the length in bytes of the longest token.
func (n *native) readVocabulary(size int) (controls, whole specials, longest int) {
	for id := range int32(size) {
		piece := n.piece(id)
		longest = max(longest, len(piece))
		if len(piece) == 0 {
			continue
		}
		token := special{id, string(piece), n.attributes(id)}
		switch {
		case n.isControl(id):
			controls[piece[0]] = append(controls[piece[0]], token)
		case token.attributes&attrUser != 0:
			whole[piece[0]] = append(whole[piece[0]], token)
		}
	}
	return controls, whole, longest
}

// at returns the longest of the tokens that text begins with.
func (c *specials) at(text string) (found special, ok bool) {
	if text == "" {
		return found, false
	}
	for _, t := range c[text[0]] {
		if len(t.text) > len(found.text) && strings.HasPrefix(text, t.text) {
			found, ok = t, true
		}
	}
	return found, ok
}

// guard makes a conversation spell no control token: in.Mark puts a mark, a character that no text contains, behind the first
// character of each that its texts spell. The mark is "" where there is none.
//
// Templates handle such a text as any other, and the tokens of the rendered text that have no mark are the template's own.
func (c *specials) guard(in *chat.Input) (mark string, err error) {
	texts, err := in.Texts()
	if err != nil || !slices.ContainsFunc(texts, c.spelled) {
		return "", err
	}
	if mark, err = unused(texts); err == nil {
		in.Mark = func(text string) string { return c.marked(text, mark) }
	}
	return mark, err
}

func (c *specials) spelled(text string) bool {
	for i := range text {
		if _, ok := c.at(text[i:]); ok {
			return true
		}
	}
	return false
}

func (c *specials) marked(text, mark string) string {
	var b strings.Builder
	for i, r := range text {
		n := utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, n = utf8.DecodeRuneInString(text[i:])
		}
		b.WriteString(text[i : i+n])
		if _, ok := c.at(text[i:]); ok {
			b.WriteString(mark)
		}
	}
	return b.String()
}

// Rare ideographs: letters without case, which templates write as they are in texts, representations and JSON.
const firstMark, lastMark = '\U00020000', '\U0002A6DF'

// unused returns one of the characters for marks that no text contains.
func unused(texts []string) (string, error) {
	used := map[rune]bool{}
	for _, text := range texts {
		for _, r := range text {
			if r >= firstMark && r <= lastMark {
				used[r] = true
			}
		}
	}
	for r := firstMark; r <= lastMark; r++ {
		if !used[r] {
			return string(r), nil
		}
	}
	return "", fmt.Errorf("the messages contain every ideograph of Extension B: %w", infer.ErrInvalid)
}

// tokenizeGuarded converts the rendering of guarded messages to tokens: the template's own control tokens become single tokens,
// and those with the mark are text.
func (n *network) tokenizeGuarded(text, mark string, start bool) (tokens, error) {
	out, err := n.tokenize("", start, false)
	if err != nil {
		return nil, err
	}
	own := func(rest string) (special, bool) {
		c, ok := n.controls.at(rest)
		if ok && utf8.RuneCountInString(c.text) == 1 && strings.HasPrefix(rest[len(c.text):], mark) {
			return special{}, false
		}
		return c, ok
	}
	ids, err := between(text, own, func(part string) (tokens, error) { return n.plain(strings.ReplaceAll(part, mark, "")) })
	return append(out, ids...), err
}
