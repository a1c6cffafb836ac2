// Package paint turns styled runs into rows of an exact width, and rows into boxes and overlays.
//
// Rows are plain Go strings with escape sequences in them. A row that this package returns is exactly as wide as it was
// asked for and leaves no style open, so rows can be put side by side whatever they contain.
package paint

import (
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// Row builds one row from left to right. Text that does not fit is cut. The zero Row has no room: use NewRow.
type Row struct {
	b    strings.Builder
	w    int
	used int
	base theme.Style
}

// NewRow starts a row of w cells. The base style lies under every run: the background of a selected row.
func NewRow(w int, base theme.Style) *Row { return &Row{w: max(w, 0), base: base} }

// Room is the number of cells that are left.
func (r *Row) Room() int { return r.w - r.used }

// Put appends text in a style.
func (r *Row) Put(s theme.Style, str string) *Row {
	room := r.Room()
	if room <= 0 || str == "" {
		return r
	}
	n := text.Width(str)
	if n > room {
		str = text.Clip(str, room)
		n = text.Width(str)
	}
	r.used += n
	r.b.WriteString(r.base.With(s).Render(str))
	return r
}

// Raw appends a run that already carries its own styles and is n cells wide; it is dropped when it does not fit.
func (r *Row) Raw(run string, n int) *Row {
	if n > r.Room() {
		return r
	}
	r.used += n
	r.b.WriteString(run)
	return r
}

// Pad appends spaces up to column x.
func (r *Row) Pad(x int) *Row {
	if n := min(x, r.w) - r.used; n > 0 {
		r.b.WriteString(r.base.Render(text.Spaces(n)))
		r.used += n
	}
	return r
}

// Col appends text that takes exactly w cells, filled up on the right.
func (r *Row) Col(s theme.Style, str string, w int) *Row {
	return r.Put(s, text.Fit(str, min(w, r.Room())))
}

// Num appends text that takes exactly w cells, filled up on the left.
func (r *Row) Num(s theme.Style, str string, w int) *Row {
	return r.Put(s, text.FitLeft(str, min(w, r.Room())))
}

// Right puts text at the right end, with at least one space before it; it is left out when there is no room.
func (r *Row) Right(s theme.Style, str string) *Row {
	n := text.Width(str)
	if n == 0 || n+1 > r.Room() {
		return r
	}
	return r.Pad(r.w-n).Put(s, str)
}

// String is the finished row, filled up to its width.
func (r *Row) String() string {
	r.Pad(r.w)
	return r.b.String()
}

// Text is a row with one run.
func Text(w int, s theme.Style, str string) string {
	return NewRow(w, theme.Style{}).Put(s, str).String()
}

// Blank is an empty row.
func Blank(w int) string { return text.Spaces(w) }

// Fill returns exactly h rows of w cells: it cuts surplus rows and adds blank ones. Rows must be w cells wide.
func Fill(rows []string, w, h int) []string {
	if h <= 0 {
		return nil
	}
	if len(rows) >= h {
		return rows[:h:h]
	}
	out := make([]string, h)
	n := copy(out, rows)
	for ; n < h; n++ {
		out[n] = Blank(w)
	}
	return out
}

// Frame is the decoration of a box.
type Frame struct {
	Title   string
	Note    string // right end of the top line
	Foot    string // right end of the bottom line
	Focused bool
}

// Box draws rows of w-2 cells into a box of w × h cells. Boxes too small for a border show as much as they can.
func Box(t *theme.Theme, f Frame, w, h int, rows []string) []string {
	if w <= 0 || h <= 0 {
		return nil
	}
	if w < 4 || h < 2 {
		return Fill(nil, w, h)
	}
	line, title := t.Border, t.Title
	if f.Focused {
		line, title = t.Focus, t.Focus
	}
	g := &t.Glyph
	out := make([]string, 0, h)
	out = append(out, edge(t, line, title, g.TopLeft, g.TopRight, f.Title, f.Note, w))
	v := line.Render(g.V)
	for _, row := range Fill(rows, w-2, h-2) {
		out = append(out, v+row+v)
	}
	return append(out, edge(t, line, t.Dim, g.BottomLeft, g.BottomRight, "", f.Foot, w))
}

func edge(t *theme.Theme, line, title theme.Style, left, right, name, note string, w int) string {
	r := NewRow(w, theme.Style{})
	r.Put(line, left)
	room := w - 2
	if name != "" && room > 4 {
		name = text.Clip(name, room-2)
		r.Put(title, " "+name+" ")
		room -= text.Width(name) + 2
	}
	if note != "" && room < text.Width(note)+3 {
		note = ""
	}
	fill := room
	if note != "" {
		fill -= text.Width(note) + 3
	}
	r.Put(line, strings.Repeat(t.Glyph.H, max(0, fill)))
	if note != "" {
		r.Put(t.Dim, " "+note+" ")
		r.Put(line, t.Glyph.H)
	}
	return r.Put(line, right).String()
}

// Overlay draws rows over a screen of w-cell rows, with its left upper corner at column x and row y, and returns the
// screen. Parts outside the screen are cut.
func Overlay(screen []string, w, x, y int, rows []string) []string {
	for i, row := range rows {
		at := y + i
		if at < 0 || at >= len(screen) || x < 0 || x >= w {
			continue
		}
		n := text.Width(row)
		if x+n > w {
			row = ansi.Truncate(row, max(0, w-x), "")
			n = text.Width(row)
		}
		left := text.Fit(ansi.Truncate(screen[at], x, ""), x)
		right := ""
		if rest := w - x - n; rest > 0 {
			right = text.FitLeft(text.Skip(screen[at], x+n), rest)
		}
		screen[at] = left + ansi.ResetStyle + row + ansi.ResetStyle + right
	}
	return screen
}
