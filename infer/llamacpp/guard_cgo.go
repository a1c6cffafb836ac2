//go:build cgo && !nocgo

package llamacpp

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
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

// guard returns messages whose texts spell no control token: a mark, a character that no message contains, follows the first
// character of each that they spelled. The mark is "" where there is none.
//
// Templates handle such a message as any other, and the tokens of the rendered text that have no mark are the template's own.
func (c *specials) guard(messages []infer.Message) ([]infer.Message, string, error) {
	spelled := false
	for _, m := range messages {
		spelled = spelled || c.spelled(m.Role) || c.spelled(m.Content)
	}
	if !spelled {
		return messages, "", nil
	}
	mark, err := unused(messages)
	if err != nil {
		return nil, "", err
	}
	out := make([]infer.Message, len(messages))
	for i, m := range messages {
		out[i] = infer.Message{Role: c.marked(m.Role, mark), Content: c.marked(m.Content, mark)}
	}
	return out, mark, nil
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

// unused returns a character for private use that no message contains.
func unused(messages []infer.Message) (string, error) {
	used := map[rune]bool{}
	for _, m := range messages {
		for _, text := range [...]string{m.Role, m.Content} {
			for _, r := range text {
				if unicode.Is(unicode.Co, r) {
					used[r] = true
				}
			}
		}
	}
	for r := rune(0xE000); r <= 0xF8FF; r++ {
		if !used[r] {
			return string(r), nil
		}
	}
	return "", fmt.Errorf("the messages contain every character for private use: %w", infer.ErrInvalid)
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
