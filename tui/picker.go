package tui

import (
	"strconv"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// A choice is one row of a picker.
type choice struct {
	title, detail string
	key           string // that does the same, shown at the right end; "" for none
	off           string // why it cannot be chosen; "" if it can
	run           func(m *Model) tea.Cmd
}

// A picker is a list to choose from, narrowed by typing.
type picker struct {
	title   string
	choices func(m *Model) []choice
	filter  field
	list    list
}

var _ overlay = (*picker)(nil)

// pick opens a picker.
func (m *Model) pick(title string, choices func(m *Model) []choice) tea.Cmd {
	m.open(&picker{title: title, choices: choices})
	return nil
}

// matches are the choices that the filter leaves, best first.
func (p *picker) matches(m *Model) []choice {
	all := p.choices(m)
	want := strings.TrimSpace(p.filter.String())
	if want == "" {
		return all
	}
	var exact, loose []choice
	for _, c := range all {
		s := c.title + " " + c.detail
		switch {
		case containsFold(s, want):
			exact = append(exact, c)
		case subsequence(s, want):
			loose = append(loose, c)
		}
	}
	return append(exact, loose...)
}

func containsFold(s, want string) bool {
	s = strings.ToLower(s)
	for _, word := range strings.Fields(strings.ToLower(want)) {
		if !strings.Contains(s, word) {
			return false
		}
	}
	return true
}

// subsequence reports whether the letters of want appear in s in their order.
func subsequence(s, want string) bool {
	rest := []rune(strings.ToLower(want))
	for _, r := range strings.ToLower(s) {
		for len(rest) > 0 && unicode.IsSpace(rest[0]) {
			rest = rest[1:]
		}
		if len(rest) > 0 && r == rest[0] {
			rest = rest[1:]
		}
	}
	return len(rest) == 0
}

func (p *picker) place(m *Model, body layout.Rect) layout.Rect {
	return body.Center(m.width(body, 76), m.height(body, min(len(p.choices(m)), 16)+4))
}

func (p *picker) draw(m *Model, w, h int) []string {
	t := m.theme
	found := p.matches(m)
	inner, visible := w-2, max(0, h-4)
	p.list.clamp(len(found), visible)
	line, _ := p.filter.line(max(0, inner-4))
	first := paint.NewRow(inner, theme.Style{}).Put(t.Accent, " "+t.Glyph.Here+" ")
	if line == "" {
		first.Put(t.Placeholder, "type to narrow")
	} else {
		first.Put(t.Input, line)
	}
	rows := []string{first.String(), t.Border.Render(strings.Repeat(t.Glyph.H, max(0, inner)))}
	keys := 0 // width of the column of keys
	for _, c := range found {
		keys = max(keys, text.Width(c.key))
	}
	for i := p.list.top; i < min(len(found), p.list.top+visible); i++ {
		c := found[i]
		base := theme.Style{}
		mark := "  "
		if i == p.list.at {
			base, mark = t.Cursor, t.Glyph.Here+" "
		}
		r := paint.NewRow(inner, base)
		title, detail := t.Text, c.detail
		if c.off != "" {
			title, detail = t.KeyOff, c.off
		}
		r.Put(t.Accent, mark).Put(title, text.Clip(c.title, max(8, inner-3-keys)))
		if room := r.Room() - keys - 3; c.off == "" && keys > 0 && text.Width(detail) > room {
			detail = "" // a name that is cut off finds nothing
		} else {
			detail = text.Clip(detail, room)
		}
		if keys > 0 {
			r.Pad(inner-keys-text.Width(detail)-2).Put(t.Dim, detail).Pad(inner-text.Width(c.key)-1).Put(t.Key, c.key)
		} else {
			r.Right(t.Dim, detail+" ")
		}
		rows = append(rows, r.String())
	}
	if len(found) == 0 {
		rows = append(rows, paint.Text(inner, t.Dim, "  nothing matches"))
	}
	return paint.Box(t, paint.Frame{Title: p.title, Foot: scrollNote(p.list.top, visible, len(found)), Focused: true}, w, h, rows)
}

func (p *picker) key(m *Model, k tea.KeyPressMsg) tea.Cmd {
	found := p.matches(m)
	switch k.String() {
	case "up", "ctrl+p", "shift+tab":
		p.list.move(-1, len(found))
	case "down", "ctrl+n", "tab":
		p.list.move(1, len(found))
	case "pgup":
		p.list.move(-10, len(found))
	case "pgdown":
		p.list.move(10, len(found))
	case "enter":
		if p.list.at < len(found) {
			return p.choose(m, found[p.list.at])
		}
	default:
		if p.filter.key(k) {
			p.list = list{}
		}
	}
	return nil
}

func (p *picker) choose(m *Model, c choice) tea.Cmd {
	if c.off != "" {
		m.say(levelInfo, lowerFirst(c.title)+": "+c.off)
		return nil
	}
	m.close(p)
	return c.run(m)
}

func (p *picker) mouse(m *Model, e mouseEvent) tea.Cmd {
	found := p.matches(m)
	switch e.kind {
	case mouseWheel:
		p.list.move(e.delta, len(found))
	case mouseClick:
		if i := p.list.top + e.y - 3; e.y >= 3 && i < len(found) {
			p.list.at = i
			return p.choose(m, found[i])
		}
	}
	return nil
}

func (p *picker) paste(_ *Model, s string) { p.filter.insert(s); p.list = list{} }
func (p *picker) typing() bool             { return true }
func (p *picker) cursor(_ *Model, w, _ int) (int, int, bool) {
	_, x := p.filter.line(max(0, w-6))
	return 4 + x, 1, true
}

func (p *picker) hints(m *Model) []hint {
	return []hint{{key: m.keyLabel("enter"), label: "choose"}, {key: m.keyLabel("up") + m.keyLabel("down"), label: "move"}, closeHint("back")}
}

// palette opens the list of all actions.
func (m *Model) palette() tea.Cmd {
	return m.pick("commands", func(m *Model) []choice {
		var out []choice
		for _, here := range []bool{true, false} { // those of this screen first
			for _, a := range m.actions {
				if (a.scope == m.active.scope()) != here || a.id == "palette" {
					continue
				}
				key := m.keyLabel(m.keys.first(a))
				if a.scope != everywhere && !here {
					key = "" // of another screen
				}
				out = append(out, choice{title: a.title, detail: a.id, key: key, off: m.blocked(a), run: func(m *Model) tea.Cmd { return m.invoke(a) }})
			}
		}
		return out
	})
}

// invoke runs an action by name: on its own screen.
func (m *Model) invoke(a *action) tea.Cmd {
	var cmd tea.Cmd
	if a.scope != everywhere {
		for id := range screenCount {
			if id.scope() == a.scope {
				cmd = m.show(id)
			}
		}
	}
	return tea.Batch(cmd, m.perform(a))
}

func itoa(n int) string { return strconv.Itoa(n) }
