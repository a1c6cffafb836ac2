package explorer

import (
	"strings"
	"unicode"
)

// MaxName bounds names, in characters.
const MaxName = 120

// MaxNote bounds notes, in runes.
const MaxNote = 2000

// CleanName makes a name safe to show on any screen and to keep in one line: control characters and runs of space become
// one space, and what is too long is cut.
func CleanName(name string) string { return cut(oneLine(name), MaxName) }

// cut returns at most n runes of a text.
func cut(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		text = strings.TrimSpace(string(runes[:n]))
	}
	return text
}

// printable returns text without control characters other than newline and tab: models were not trained on them and they
// garble terminals.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
}

// joins reports whether a rune of no width decides how its neighbours are drawn, as in Persian, Hindi and emoji.
func joins(r rune) bool { return r == '\u200c' || r == '\u200d' }

// oneLine returns text in one line without control characters or runes that change the direction of others.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.IsSpace(r) {
			return ' '
		}
		if unicode.Is(unicode.Cf, r) && !joins(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}
