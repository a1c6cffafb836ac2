package tui

import (
	"fmt"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// A findBar asks for the text that rows of the active screen are found by. It applies while it is typed; esc restores the one before.
type findBar struct {
	in     screen.Finder
	before string
	field  widget.Field
}

var _ screen.Overlay = (*findBar)(nil)

// finder is the active screen if it has rows to find.
func (m *Model) finder() screen.Finder {
	f, _ := m.active().(screen.Finder)
	return f
}

// cannotFind returns why no rows can be found on the active screen, or "".
func (m *Model) cannotFind() string {
	if m.finder() == nil {
		return "this screen has no table"
	}
	return ""
}

// find opens the bar.
func (m *Model) find() tea.Cmd {
	f := m.finder()
	now, _, _ := f.Found()
	m.open(&findBar{in: f, before: now, field: widget.NewField(now, false)})
	return nil
}

// findNext handles the keys that repeat a search, which mean something else while there is none.
func (m *Model) findNext(key string) bool {
	by := map[string]int{"n": 1, "N": -1}[key]
	f := m.finder()
	if by == 0 || f == nil {
		return false
	}
	if now, _, _ := f.Found(); now == "" {
		return false
	}
	f.Next(by)
	return true
}

// showAll ends the search on the active screen and reports whether there was one.
func (m *Model) showAll() bool {
	f := m.finder()
	if f == nil {
		return false
	}
	now, _, _ := f.Found()
	f.Find("")
	return now != ""
}

// Place is the last row of the body.
func (b *findBar) Place(_ screen.Host, body layout.Rect) layout.Rect {
	_, r := body.CutBottom(1)
	return r
}

// Draw draws the text, and how many rows contain it.
func (b *findBar) Draw(h screen.Host, w, _ int) []string {
	t := h.Theme()
	line, _ := b.field.Line(max(2, w/2))
	r := paint.NewRow(w, theme.Style{}).Put(t.Accent, " /").Put(t.Input, line)
	if now, n, of := b.in.Found(); now != "" {
		r.Right(t.Dim, fmt.Sprintf("%d of %s ", n, format.Counted(of, "row")))
	}
	return []string{r.String()}
}

// Key edits the text; arrows move between the rows.
func (b *findBar) Key(h screen.Host, k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "enter":
		h.Close(b)
	case "down", "ctrl+n":
		b.in.Next(1)
	case "up", "ctrl+p":
		b.in.Next(-1)
	default:
		if b.field.Key(k) {
			b.in.Find(b.field.String())
		}
	}
	return nil
}

// Escaped restores the text before.
func (b *findBar) Escaped() (kept bool) {
	b.in.Find(b.before)
	return false
}

// Paste inserts pasted text.
func (b *findBar) Paste(s string) (lost int) {
	lost = b.field.Insert(s)
	b.in.Find(b.field.String())
	return lost
}

// Mouse drops the event.
func (b *findBar) Mouse(screen.Host, screen.MouseEvent) tea.Cmd { return nil }

// Typing reports true: letters are text.
func (b *findBar) Typing() bool { return true }

// Cursor is behind the text.
func (b *findBar) Cursor(w, _ int) (int, int, bool) {
	_, x := b.field.Line(max(2, w/2))
	return 2 + x, 0, true
}

// Hints are its own keys.
func (b *findBar) Hints(h screen.Host) []screen.Hint {
	g := h.Theme().Glyph
	return []screen.Hint{{Key: g.Return, Label: "keep"}, {Key: g.Up + g.Down, Label: "move"}, widget.EscHint("back")}
}
