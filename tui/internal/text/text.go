// Package text prepares strings for a terminal of a known width: it makes foreign text harmless, measures and fits it
// to cells, and writes numbers with their units.
//
// Everything that comes from outside (names, file paths, model output, chats) passes Line or Block before it is drawn.
// No function here fails: invalid UTF-8 is shown as replacement characters.
package text

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Width is the number of terminal cells that s takes. Escape sequences count as nothing.
func Width(s string) int {
	for i := range len(s) {
		if c := s[i]; c >= utf8.RuneSelf || c < ' ' || c == 0x7f {
			return ansi.StringWidth(s)
		}
	}
	return len(s)
}

// Line makes foreign text safe to draw on one row: line breaks and tabs become spaces, control characters become
// visible pictures of themselves, and characters that would reorder or overlay the text around them are dropped.
func Line(s string) string { return clean(s, false) }

// Block is Line for text of several rows: it keeps "\n", turns "\r\n" and "\r" into it and a tab into four spaces.
func Block(s string) string {
	if strings.Contains(s, "\r") {
		s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	}
	return clean(s, true)
}

func clean(s string, rows bool) string {
	if plain(s, rows) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 8)
	for _, r := range s {
		switch {
		case r == '\n' && rows:
			b.WriteByte('\n')
		case r == '\n' || r == '\r':
			b.WriteByte(' ')
		case r == '\t' && rows:
			b.WriteString("    ")
		case r == '\t':
			b.WriteByte(' ')
		case r < ' ':
			b.WriteRune(0x2400 + r)
		case r == 0x7f:
			b.WriteRune(0x2421)
		case r >= 0x80 && r < 0xa0:
			b.WriteRune(utf8.RuneError)
		case invisible(r):
		case !unicode.IsGraphic(r):
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// plain reports whether clean would change nothing, for the text that is nearly always seen.
func plain(s string, rows bool) bool {
	for i := range len(s) {
		c := s[i]
		if c == '\n' && rows {
			continue
		}
		if c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

// invisible names the characters that change how others are laid out: directional marks and overrides, joiners,
// variation selectors, skin tones and tags. Terminals disagree on their width, which would shift the rest of a row.
func invisible(r rune) bool {
	switch {
	case r == 0x00ad, r == 0x061c, r == 0xfeff, r == 0x034f:
		return true
	case r >= 0x200b && r <= 0x200f, r >= 0x2028 && r <= 0x202e, r >= 0x2060 && r <= 0x206f:
		return true
	case r >= 0xfe00 && r <= 0xfe0f, r >= 0x1f3fb && r <= 0x1f3ff, r >= 0xe0000 && r <= 0xe0fff:
		return true
	}
	return false
}

// Clip cuts s to w cells; a cut is marked by an ellipsis where there is room for one.
func Clip(s string, w int) string {
	if w <= 0 {
		return ""
	}
	if Width(s) <= w {
		return s
	}
	return ansi.Truncate(s, w, "…")
}

// Fit makes s exactly w cells wide: it clips what is longer and fills up with spaces on the right.
func Fit(s string, w int) string {
	if w <= 0 {
		return ""
	}
	n := Width(s)
	if n > w {
		s = ansi.Truncate(s, w, "…")
		n = Width(s)
	}
	return s + Spaces(w-n)
}

// FitLeft is Fit with the spaces on the left, for columns of numbers.
func FitLeft(s string, w int) string {
	if w <= 0 {
		return ""
	}
	n := Width(s)
	if n > w {
		s = ansi.Truncate(s, w, "…")
		n = Width(s)
	}
	return Spaces(w-n) + s
}

// ClipMiddle cuts s to w cells in its middle, which keeps both the folder and the name of a path readable.
func ClipMiddle(s string, w int) string {
	n := Width(s)
	if n <= w {
		return s
	}
	if w < 5 {
		return Clip(s, w)
	}
	head := (w - 1) / 2
	tail := w - 1 - head
	return ansi.Truncate(s, head, "") + "…" + Skip(s, n-tail)
}

// Skip drops the first n cells of s; of a wide character that the cut would split, nothing is left.
func Skip(s string, n int) string {
	end := ansi.TruncateLeft(s, n, "")
	if Width(end) > Width(s)-n {
		end = ansi.TruncateLeft(s, n+1, "")
	}
	return end
}

const blanks = "                                                                                                    "

// Spaces is a string of n spaces; none for n <= 0.
func Spaces(n int) string {
	switch {
	case n <= 0:
		return ""
	case n <= len(blanks):
		return blanks[:n]
	}
	return strings.Repeat(" ", n)
}

// Wrap breaks a safe text into rows of at most w cells, at spaces where it can. It always returns at least one row.
func Wrap(s string, w int) []string {
	if w < 1 {
		w = 1
	}
	var rows []string
	for _, line := range strings.Split(s, "\n") {
		if Width(line) <= w {
			rows = append(rows, line)
			continue
		}
		rows = append(rows, strings.Split(ansi.Wrap(line, w, ""), "\n")...)
	}
	for i, r := range rows {
		if Width(r) > w {
			rows[i] = ansi.Truncate(r, w, "")
		}
	}
	return rows
}
