// Package piece turns the bytes of generated tokens into text that can be shown at once: whole runes only, and nothing of a
// stop string.
package piece

import (
	"strings"
	"unicode/utf8"
)

// Assembler collects token bytes. Its zero value has no stop strings.
type Assembler struct {
	Stop []string

	held []byte // not handed out yet
}

// Push adds the bytes of one token. It returns the text that is now certain, and whether a stop string has appeared;
// then text is what came before it, and the assembler is done.
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

// Flush returns what is still held when generation ends for another reason, bytes of an unfinished rune replaced by
// U+FFFD.
func (a *Assembler) Flush() string {
	text := valid(a.held)
	a.held = nil
	return text
}

func (a *Assembler) firstStop() int {
	first := -1
	for _, s := range a.Stop {
		if s == "" {
			continue
		}
		if at := strings.Index(string(a.held), s); at >= 0 && (first < 0 || at < first) {
			first = at
		}
	}
	return first
}

// partialStop is the length of the longest end of held that begins a stop string.
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

// partialRune is the length of the end of b that begins a rune it does not finish.
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
