//go:build cgo && !nocgo

package llamacpp

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
)

// controls are the control tokens of a vocabulary by the first byte of their texts.
type controls [256][]control

type control struct {
	id         int32
	text       string
	attributes int
}

// readVocabulary returns the control tokens, and the length in bytes of the longest token.
func (n *native) readVocabulary(size int) (c controls, longest int) {
	for id := range int32(size) {
		piece := n.piece(id)
		longest = max(longest, len(piece))
		if len(piece) > 0 && n.isControl(id) {
			c[piece[0]] = append(c[piece[0]], control{id, string(piece), n.attributes(id)})
		}
	}
	return c, longest
}

// at returns the longest control token that text begins with.
func (c *controls) at(text string) (found control, ok bool) {
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
func (c *controls) guard(messages []infer.Message) ([]infer.Message, string, error) {
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

func (c *controls) spelled(text string) bool {
	for i := range text {
		if _, ok := c.at(text[i:]); ok {
			return true
		}
	}
	return false
}

func (c *controls) marked(text, mark string) string {
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
	raw := func(part string) error {
		ids, err := n.tokenize(strings.ReplaceAll(part, mark, ""), false, false)
		out = append(out, ids...)
		return err
	}
	begin := 0
	for i := 0; i < len(text); {
		c, ok := n.controls.at(text[i:])
		if ok && utf8.RuneCountInString(c.text) == 1 && strings.HasPrefix(text[i+len(c.text):], mark) {
			ok = false
		}
		if !ok {
			i++
			continue
		}
		before := text[begin:i]
		if c.attributes&attrLStrip != 0 {
			before = strings.TrimRightFunc(before, unicode.IsSpace)
		}
		if err := raw(before); err != nil {
			return nil, err
		}
		out = append(out, c.id)
		i += len(c.text)
		if c.attributes&attrRStrip != 0 {
			i = len(text) - len(strings.TrimLeftFunc(text[i:], unicode.IsSpace))
		}
		begin = i
	}
	return out, raw(text[begin:])
}
