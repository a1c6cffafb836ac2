package tui

import (
	tea "charm.land/bubbletea/v2"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// A tour introduces the interface to newcomers in five lines over the screen.
type tour struct{ m *Model }

var _ screen.Overlay = tour{}

func (tour) Paste(string) int                 { return 0 }
func (tour) Typing() bool                     { return false }
func (tour) Cursor(int, int) (int, int, bool) { return 0, 0, false }

func (tr tour) lines() []string {
	key := host(tr).Key
	return []string{
		"Every dot is a smaller model cut from yours: further left is smaller, further down is better.",
		key("search.toggle") + " starts or pauses the search. Results improve while you watch; nothing is lost when you quit.",
		key("search.chat") + " chats with the best one so far, alongside the original, at any time.",
		key("screen.masks") + " shows what each layer keeps. All of it can be edited by hand; " + key("undo") + " undoes.",
		key("help") + " shows the keys of a screen, " + key("palette") + " finds any action by name. esc closes this tour.",
	}
}

func (tr tour) Place(_ screen.Host, body layout.Rect) layout.Rect {
	w := widget.Width(body, 84)
	n := 0
	for _, l := range tr.lines() {
		n += len(text.Wrap(l, max(1, w-8)))
	}
	h := min(n+2, body.H)
	return layout.Rect{X: body.X + (body.W-w)/2, Y: body.Y + max(0, body.H-h-1), W: w, H: h}
}

func (tr tour) Draw(h screen.Host, width, height int) []string {
	t := h.Theme()
	var rows []string
	for _, l := range tr.lines() {
		for k, part := range text.Wrap(l, max(1, width-8)) {
			r := paint.NewRow(width-2, theme.Style{})
			if k == 0 {
				r.Put(t.Accent, " "+t.Glyph.Dot)
			}
			rows = append(rows, r.Pad(4).Put(t.Text, part).String())
		}
	}
	return paint.Box(t, paint.Frame{Title: "welcome", Focused: true}, width, height, rows)
}

func (tr tour) Key(h screen.Host, k tea.KeyPressMsg) tea.Cmd {
	h.Close(tr)
	if k.String() != "enter" { // its lines name keys: they work
		return tr.m.key(k)
	}
	return nil
}

func (tr tour) Mouse(h screen.Host, e screen.MouseEvent) tea.Cmd {
	if e.Kind == screen.Click {
		h.Close(tr)
	}
	return nil
}

func (tr tour) Hints(screen.Host) []screen.Hint {
	return []screen.Hint{widget.EscHint("close the tour")}
}
