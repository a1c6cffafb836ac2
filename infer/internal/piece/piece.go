// Package piece assembles the bytes of generated tokens into text that can be shown at once: whole runes only, and no part of a
// stop string.
package piece

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Assembler collects the bytes of tokens. Its zero value has no stop strings.
type Assembler struct {
	Stop []string

	held []byte // not returned yet
}

// Push adds the bytes of one token and returns the text that no later token can change. stopped reports whether a stop string
// has appeared; then text ends before it, and the assembler is done.
func (a *Assembler) Push(b []byte) (text string, stopped bool) {
	a.held = append(a.held, b...)
	if at := a.firstStop(); at >= 0 {
		text = valid(a.held[:at])
		a.held = nil
		return text, true
	}
	keep := max(partialRune(a.held), a.partialStop())
	n := len(a.held) - keep
	text = valid(a.held[:n])
	a.held = append(a.held[:0], a.held[n:]...)
	return text, false
}

// Flush returns the text held back when generation ends for another reason, with U+FFFD for an unfinished rune.
func (a *Assembler) Flush() string {
	text := valid(a.held)
	a.held = nil
	return text
}

// firstStop returns the index of the first stop string, -1 without one.
func (a *Assembler) firstStop() int {
	first := -1
	for _, s := range a.Stop {
		if s == "" {
			continue
		}
		if at := bytes.Index(a.held, []byte(s)); at >= 0 && (first < 0 || at < first) {
			first = at
		}
	}
	return first
}

// partialStop returns the length of the longest suffix of held that is a prefix of a stop string.
func (a *Assembler) partialStop() int {
	longest := 0
	for _, s := range a.Stop {
		for n := min(len(s)-1, len(a.held)); n > longest; n-- {
			if strings.HasPrefix(s, string(a.held[len(a.held)-n:])) {
				longest = n
			}
		}
	}
	return longest
}

// partialRune returns the length of the suffix of b that is an incomplete rune.
func partialRune(b []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(b)); n++ {
		end := b[len(b)-n:]
		if utf8.RuneStart(end[0]) {
			if !utf8.FullRune(end) {
				return n
			}
			return 0
		}
	}
	return 0
}

func valid(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }
