// Package vocabulary converts texts and rendered conversations to tokens around an engine that splits plain text: control tokens
// that messages spell stay text, and the steps that llama.cpp leaves out are made before.
package vocabulary

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/internal/chat"
)

// Special is a token that is matched before text is split.
type Special struct {
	ID             int32
	Text           string
	LStrip, RStrip bool // white space before it, or behind it, belongs to it
	SingleWord     bool // it is matched only where no letter, digit or underscore is beside it
}

// With returns the token with the properties that its file has for it.
func (t Special) With(w gguf.WholeTokens) Special {
	t.LStrip = t.LStrip || slices.Contains(w.LStrip, t.ID)
	t.RStrip = t.RStrip || slices.Contains(w.RStrip, t.ID)
	t.SingleWord = t.SingleWord || slices.Contains(w.SingleWord, t.ID)
	return t
}

// alone reports whether the token may stand between two texts.
func (t *Special) alone(before, after string) bool {
	if !t.SingleWord {
		return true
	}
	last, _ := utf8.DecodeLastRuneInString(before)
	first, _ := utf8.DecodeRuneInString(after)
	return (before == "" || !inWord(last)) && (after == "" || !inWord(first))
}

// inWord reports whether regular expressions count a character as one of a word (\w).
func inWord(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.M, r) || unicode.Is(unicode.Pc, r) || r == '\u200c' || r == '\u200d'
}

// Specials are tokens that are matched before text is split, by the first byte of their texts.
type Specials [256][]Special

// Add adds a token, unless its text is empty.
func (c *Specials) Add(t Special) {
	if t.Text != "" {
		c[t.Text[0]] = append(c[t.Text[0]], t)
	}
}

// At returns the longest of the tokens that text begins with.
func (c *Specials) At(text string) (found Special, ok bool) {
	if text == "" {
		return found, false
	}
	for _, t := range c[text[0]] {
		if len(t.Text) > len(found.Text) && strings.HasPrefix(text, t.Text) {
			found, ok = t, true
		}
	}
	return found, ok
}

// Guard makes a conversation spell no control token: in.Mark puts a mark, a character that no text contains, behind the first
// character of each that its texts spell. The mark is "" where there is none.
//
// Templates handle such a text as any other, and the tokens of the rendered text that have no mark are the template's own.
func (c *Specials) Guard(in *chat.Input) (mark string, err error) {
	texts, err := in.Texts()
	if err != nil || !slices.ContainsFunc(texts, c.spelled) {
		return "", err
	}
	if mark, err = unused(texts); err == nil {
		in.Mark = func(text string) string { return c.marked(text, mark) }
	}
	return mark, err
}

func (c *Specials) spelled(text string) bool {
	for i := range text {
		if _, ok := c.At(text[i:]); ok {
			return true
		}
	}
	return false
}

func (c *Specials) marked(text, mark string) string {
	var b strings.Builder
	for i, r := range text {
		n := utf8.RuneLen(r)
		if r == utf8.RuneError {
			_, n = utf8.DecodeRuneInString(text[i:])
		}
		b.WriteString(text[i : i+n])
		if _, ok := c.At(text[i:]); ok {
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
