package tui

import (
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// An overlay is a box over the screen that has the keys while it is on top. esc closes it before it sees the key.
type overlay interface {
	// place is the box within the body.
	place(m *Model, body layout.Rect) layout.Rect
	// draw draws the box, border included, on w × h cells.
	draw(m *Model, w, h int) []string
	key(m *Model, k tea.KeyPressMsg) tea.Cmd
	paste(m *Model, s string)
	mouse(m *Model, e mouseEvent) tea.Cmd
	// typing reports whether printable keys go into a text field.
	typing() bool
	// cursor is where the cursor of the field is, from the corner of the box.
	cursor(m *Model, w, h int) (x, y int, ok bool)
	hints(m *Model) []hint
}

// open puts an overlay on top.
func (m *Model) open(o overlay) {
	const deepest = 8
	if len(m.overlays) < deepest {
		m.overlays = append(m.overlays, o)
	}
}

// close takes an overlay away, and everything above it.
func (m *Model) close(o overlay) {
	for i, have := range m.overlays {
		if have == o {
			m.overlays = m.overlays[:i]
			return
		}
	}
}

// still is the part of an overlay that takes no text.
type still struct{}

func (still) paste(*Model, string)                     {}
func (still) typing() bool                             { return false }
func (still) cursor(*Model, int, int) (int, int, bool) { return 0, 0, false }
func (still) mouse(*Model, mouseEvent) tea.Cmd         { return nil }
func closeHint(label string) hint                      { return hint{key: "esc", label: label} }
func scrollHints(m *Model) []hint {
	return []hint{{key: m.keyLabel("up") + m.keyLabel("down"), label: "scroll"}}
}
func (m *Model) width(body layout.Rect, want int) int {
	return min(want, max(body.W-4, min(body.W, 36)))
}
func (m *Model) height(body layout.Rect, want int) int { return min(want, body.H) }

// A pager is a text to scroll, with keys of its own at the end.
type pager struct {
	still
	title string
	lines func(m *Model, w int) []string // rows of w cells
	wide  int                            // wanted width
	top   int
	more  []pagerAction
}

// A pagerAction is a key of a pager.
type pagerAction struct {
	key, label string
	run        func(m *Model) tea.Cmd
}

func (p *pager) place(m *Model, body layout.Rect) layout.Rect {
	w := m.width(body, p.wide)
	return body.Center(w, m.height(body, len(p.lines(m, max(0, w-4)))+2))
}

func (p *pager) draw(m *Model, w, h int) []string {
	lines := p.lines(m, max(0, w-4))
	p.top = clamp(p.top, 0, max(0, len(lines)-(h-2)))
	rows := make([]string, 0, h)
	for _, l := range lines[min(p.top, len(lines)):] {
		rows = append(rows, " "+l+" ")
	}
	foot := ""
	if len(lines) > h-2 {
		foot = scrollNote(p.top, h-2, len(lines))
	}
	return paint.Box(m.theme, paint.Frame{Title: p.title, Foot: foot, Focused: true}, w, h, rows)
}

func (p *pager) key(m *Model, k tea.KeyPressMsg) tea.Cmd {
	page := max(1, m.area().Body.H-3)
	switch k.String() {
	case "up", "k":
		p.top--
	case "down", "j":
		p.top++
	case "pgup", "b":
		p.top -= page
	case "pgdown", "space":
		p.top += page
	case "home", "g":
		p.top = 0
	case "end", "G":
		p.top = 1 << 20
	case "q", "enter":
		m.close(p)
	default:
		for _, a := range p.more {
			if a.key == k.String() {
				m.close(p)
				return a.run(m)
			}
		}
	}
	p.top = max(0, p.top)
	return nil
}

func (p *pager) mouse(_ *Model, e mouseEvent) tea.Cmd {
	if e.kind == mouseWheel {
		p.top = max(0, p.top+3*e.delta)
	}
	return nil
}

func (p *pager) hints(m *Model) []hint {
	var out []hint
	for _, a := range p.more {
		out = append(out, hint{key: a.key, label: a.label})
	}
	return append(append(out, scrollHints(m)...), closeHint("close"))
}

// A question asks for a yes or no.
type question struct {
	still
	title string
	text  string
	yes   string
	run   func(m *Model) tea.Cmd
}

func (q *question) rows(w int) []string { return text.Wrap(q.text, w) }

func (q *question) place(m *Model, body layout.Rect) layout.Rect {
	w := m.width(body, 56)
	return body.Center(w, m.height(body, len(q.rows(max(0, w-4)))+4))
}

func (q *question) draw(m *Model, w, h int) []string {
	t := m.theme
	var rows []string
	for _, l := range q.rows(max(0, w-4)) {
		rows = append(rows, paint.Text(w-2, t.Text, " "+l))
	}
	rows = append(rows, paint.Blank(w-2),
		paint.NewRow(w-2, theme.Style{}).Put(t.Key, " y").Put(t.KeyText, " "+q.yes+"   ").Put(t.Key, "n").Put(t.KeyText, " no").String())
	return paint.Box(t, paint.Frame{Title: q.title, Focused: true}, w, h, rows)
}

func (q *question) key(m *Model, k tea.KeyPressMsg) tea.Cmd {
	switch k.String() {
	case "y", "Y", "enter":
		m.close(q)
		return q.run(m)
	case "n", "N", "q":
		m.close(q)
	}
	return nil
}

func (q *question) hints(*Model) []hint {
	return []hint{{key: "y", label: q.yes}, {key: "n", label: "no"}, closeHint("back")}
}

// ask opens a question.
func (m *Model) ask(title, s, yes string, run func(m *Model) tea.Cmd) tea.Cmd {
	m.open(&question{title: title, text: text.Line(s), yes: yes, run: run})
	return nil
}

// scrollNote says which part of a list is on the screen.
func scrollNote(top, h, n int) string {
	if n <= h {
		return ""
	}
	return strings.Join([]string{itoa(top + 1), "–", itoa(min(n, top+h)), " of ", itoa(n)}, "")
}
