package widget

import (
	"slices"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/tui/internal/text"
)

// MaxField bounds a text field, in characters.
const MaxField = 64 << 10

// A Field is an editable text of one or several lines. It keeps what is typed, down to tabs and joiners, and draws it made
// safe. It uses no clipboard: pasted text comes through the terminal.
type Field struct {
	value     []rune
	at        int // cursor: index into value
	multiline bool
	version   int // grows with every change of value or cursor, for caches
}

// NewField returns a field with a text in it.
func NewField(s string, multiline bool) Field {
	f := Field{multiline: multiline}
	f.Insert(s)
	return f
}

// String returns the text.
func (f *Field) String() string { return string(f.value) }

// Set replaces the text.
func (f *Field) Set(s string) {
	f.value, f.at = nil, 0
	f.version++
	f.Insert(s)
}

// Insert inserts text at the cursor, without control characters, and with line breaks only in a field of several lines. It
// returns how many characters the field has no room for.
func (f *Field) Insert(s string) (lost int) {
	s = lineBreaks.Replace(s)
	r := []rune(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' && !f.multiline:
			return ' '
		case unicode.IsControl(r) && r != '\n' && r != '\t':
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, string(unicode.ReplacementChar))))
	if room := max(MaxField-len(f.value), 0); len(r) > room {
		lost = len(r) - room
		r = r[:room]
	}
	f.value = slices.Insert(f.value, f.at, r...)
	f.at += len(r)
	f.version++
	return lost
}

var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// drawn returns what is drawn for a character: nothing for one that would reorder or overlay others.
func drawn(r rune) string {
	if r == '\n' {
		return ""
	}
	return text.Block(string(r))
}

// drawnText returns what is drawn for characters on one row.
func drawnText(value []rune) string {
	var b strings.Builder
	for _, r := range value {
		b.WriteString(drawn(r))
	}
	return b.String()
}

// Key edits the field and reports whether the key meant anything to it.
func (f *Field) Key(k tea.KeyPressMsg) bool {
	f.version++
	switch k.String() {
	case "left", "ctrl+b":
		f.at = max(0, f.at-1)
	case "right", "ctrl+f":
		f.at = min(len(f.value), f.at+1)
	case "home", "ctrl+a":
		f.at = f.lineStart()
	case "end", "ctrl+e":
		f.at = f.lineEnd()
	case "ctrl+home":
		f.at = 0
	case "ctrl+end":
		f.at = len(f.value)
	case "ctrl+left", "alt+left", "alt+b":
		f.at = f.wordLeft()
	case "ctrl+right", "alt+right", "alt+f":
		f.at = f.wordRight()
	case "backspace", "ctrl+h", "shift+backspace":
		f.cut(f.at-1, f.at)
	case "delete", "ctrl+d":
		f.cut(f.at, f.at+1)
	case "ctrl+w", "alt+backspace", "ctrl+backspace":
		f.cut(f.wordLeft(), f.at)
	case "alt+d", "ctrl+delete", "alt+delete":
		f.cut(f.at, f.wordRight())
	case "ctrl+u":
		f.cut(f.lineStart(), f.at)
	case "ctrl+k":
		f.cut(f.at, f.lineEnd())
	case "alt+enter", "shift+enter", "ctrl+enter", "ctrl+j":
		if !f.multiline {
			return false
		}
		f.Insert("\n")
	default:
		if k.Text == "" || k.Mod&(tea.ModCtrl|tea.ModAlt|tea.ModMeta|tea.ModSuper) != 0 {
			return false
		}
		f.Insert(k.Text)
	}
	return true
}

func (f *Field) cut(lo, hi int) {
	lo, hi = max(lo, 0), min(hi, len(f.value))
	if lo >= hi {
		return
	}
	f.value = slices.Delete(f.value, lo, hi)
	if f.at > lo {
		f.at = max(lo, f.at-(hi-lo))
	}
}

func (f *Field) lineStart() int {
	i := f.at
	for i > 0 && f.value[i-1] != '\n' {
		i--
	}
	return i
}

func (f *Field) lineEnd() int {
	i := f.at
	for i < len(f.value) && f.value[i] != '\n' {
		i++
	}
	return i
}

func (f *Field) wordLeft() int {
	i := f.at
	for i > 0 && unicode.IsSpace(f.value[i-1]) {
		i--
	}
	for i > 0 && !unicode.IsSpace(f.value[i-1]) {
		i--
	}
	return i
}

func (f *Field) wordRight() int {
	i := f.at
	for i < len(f.value) && unicode.IsSpace(f.value[i]) {
		i++
	}
	for i < len(f.value) && !unicode.IsSpace(f.value[i]) {
		i++
	}
	return i
}

// walk lays the text out on rows of w cells, broken at any character, and visits every index of value and the one
// after the last: its column, its row, and the character there (0 at the end).
func (f *Field) walk(w int, visit func(i, x, y int, r rune)) {
	w = max(w, 2)
	x, y := 0, 0
	for i, r := range f.value {
		n := text.Width(drawn(r))
		if x+n > w-1 { // the last column is the cursor's
			x, y = 0, y+1
		}
		visit(i, x, y, r)
		x += n
		if r == '\n' {
			x, y = 0, y+1
		}
	}
	visit(len(f.value), x, y, 0)
}

// Rows returns the rows of the text at a width of w cells, and where the cursor is in them.
func (f *Field) Rows(w int) (rows []string, x, y int) {
	var b strings.Builder
	f.walk(w, func(i, cx, cy int, r rune) {
		for len(rows) < cy {
			rows = append(rows, b.String())
			b.Reset()
		}
		if i == f.at {
			x, y = cx, cy
		}
		if r != 0 {
			b.WriteString(drawn(r))
		}
	})
	return append(rows, b.String()), x, y
}

// Line returns the part of a one-line field that fits w cells, with the cursor in it, and the cursor's column.
func (f *Field) Line(w int) (string, int) {
	w = max(w, 2)
	before, after := drawnText(f.value[:f.at]), drawnText(f.value[f.at:])
	x := text.Width(before)
	if x > w-1 {
		before = text.Skip(before, x-(w-1))
		x = text.Width(before)
	}
	s := before + after
	if text.Width(s) > w {
		s = text.Clip(s, w)
	}
	return s, x
}

// Vertical moves the cursor up or down by rows of w cells; it reports false at the first and last row.
func (f *Field) Vertical(w, by int) bool {
	_, x, y := f.Rows(w)
	best := -1
	f.walk(w, func(i, cx, cy int, _ rune) {
		if cy == y+by && (cx <= x || best < 0) {
			best = i
		}
	})
	if best < 0 {
		return false
	}
	f.at = best
	f.version++
	return true
}

// A FieldState identifies the text and cursor of a field, for caches.
type FieldState struct{ version, at int }

// State returns the state of the field.
func (f *Field) State() FieldState { return FieldState{f.version, f.at} }

// End moves the cursor behind the text.
func (f *Field) End() {
	f.at = len(f.value)
	f.version++
}

// Empty reports whether there is no text.
func (f *Field) Empty() bool { return len(f.value) == 0 }
