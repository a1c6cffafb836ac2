package widget

import (
	"fmt"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// Width returns the width of an overlay that would like to be so wide.
func Width(body layout.Rect, want int) int { return min(want, max(body.W-4, min(body.W, 36))) }

// height returns the height of an overlay that would like to be so high.
func height(body layout.Rect, want int) int { return min(want, body.H) }

// EscHint is the hint of what esc does.
func EscHint(label string) screen.Hint { return screen.Hint{Key: "esc", Label: label} }

// arrows are the keys up and down as they are shown.
func arrows(host screen.Host) string { return host.Theme().Glyph.Up + host.Theme().Glyph.Down }

// A Pager is a text to scroll, with keys of its own at the end, and a search in it.
type Pager struct {
	Title string
	Lines func(w int) []string // rows of w cells
	Width int                  // wanted width
	More  []PagerAction
	top   int

	finding bool // the text to find has the keys
	find    Field
	w       int // of the rows, when they were drawn last
}

// A PagerAction is a key of a pager.
type PagerAction struct {
	Key, Label string
	Run        func() tea.Cmd
}

// Place centres the box in the body.
func (p *Pager) Place(_ screen.Host, body layout.Rect) layout.Rect {
	w := Width(body, p.Width)
	return body.Center(w, height(body, len(p.Lines(max(0, w-4)))+2))
}

// Draw draws the box.
func (p *Pager) Draw(host screen.Host, w, h int) []string {
	lines := p.Lines(max(0, w-4))
	p.top = layout.Clamp(p.top, 0, max(0, len(lines)-(h-2)))
	rows := make([]string, 0, h)
	p.w = max(0, w-4)
	t := host.Theme()
	for _, l := range lines[min(p.top, len(lines)):] {
		mark := " "
		if p.matches(l) {
			mark = t.Accent.Render(t.Glyph.Here)
		}
		rows = append(rows, mark+l+" ")
	}
	foot := ""
	if len(lines) > h-2 {
		foot = ScrollNote(p.top, h-2, len(lines))
	}
	if p.finding || !p.find.Empty() {
		n := 0
		for _, l := range lines {
			if p.matches(l) {
				n++
			}
		}
		foot = fmt.Sprintf("/%s  %s", text.Line(p.find.String()), format.Counted(n, "row"))
	}
	return paint.Box(host.Theme(), paint.Frame{Title: p.Title, Foot: foot, Focused: true}, w, h, rows)
}

// Key handles a key press.
func (p *Pager) Key(host screen.Host, k tea.KeyPressMsg) tea.Cmd {
	page := max(1, host.Body().H-3)
	if p.finding {
		switch k.String() {
		case "enter":
			p.finding = false
		case "down", "ctrl+n":
			p.next(1)
		case "up", "ctrl+p":
			p.next(-1)
		default:
			if p.find.Key(k) {
				p.top--
				p.next(1)
			}
		}
		return nil
	}
	switch k.String() {
	case "/":
		p.finding = true
	case "n":
		p.next(1)
	case "N":
		p.next(-1)
	case "ctrl+d":
		p.top += page / 2
	case "ctrl+u":
		p.top -= page / 2
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
		host.Close(p)
	case ":", "ctrl+p":
		host.Close(p)
		return host.Perform("palette")
	default:
		for _, a := range p.More {
			if a.Key == k.String() {
				host.Close(p)
				return a.Run()
			}
		}
	}
	p.top = max(0, p.top)
	return nil
}

// matches reports whether a row contains the text to find.
func (p *Pager) matches(row string) bool {
	return !p.find.Empty() && Contains(ansi.Strip(row), p.find.String())
}

// next scrolls to the next row that contains the text, or for by of -1 to the previous one; after the last comes the first.
func (p *Pager) next(by int) {
	lines := p.Lines(p.w)
	for i := range lines {
		at := ((p.top+by*(i+1))%len(lines) + len(lines)) % len(lines)
		if p.matches(lines[at]) {
			p.top = at
			return
		}
	}
	p.top = max(0, p.top)
}

// Escaped ends the search, and reports whether there was one: then the text stays.
func (p *Pager) Escaped() (kept bool) {
	kept = p.finding || !p.find.Empty()
	p.find.Set("")
	p.finding = false
	return kept
}

// Typing reports whether the text to find has the keys.
func (p *Pager) Typing() bool { return p.finding }

// Paste inserts pasted text into the text to find.
func (p *Pager) Paste(s string) (lost int) {
	if !p.finding {
		return 0
	}
	return p.find.Insert(s)
}

// Cursor reports that there is none.
func (p *Pager) Cursor(int, int) (int, int, bool) { return 0, 0, false }

// Mouse handles a mouse event inside the box.
func (p *Pager) Mouse(_ screen.Host, e screen.MouseEvent) tea.Cmd {
	if e.Kind == screen.Wheel {
		p.top = max(0, p.top+3*e.Delta)
	}
	return nil
}

// Hints returns the keys of the box.
func (p *Pager) Hints(host screen.Host) []screen.Hint {
	var out []screen.Hint
	if p.finding {
		return []screen.Hint{{Key: host.Theme().Glyph.Return, Label: "keep"}, {Key: arrows(host), Label: "next"}, EscHint("back")}
	}
	if !p.find.Empty() {
		out = append(out, screen.Hint{Key: "n", Label: "next"}, screen.Hint{Key: "N", Label: "previous"})
	}
	for _, a := range p.More {
		out = append(out, screen.Hint{Key: a.Key, Label: a.Label})
	}
	return append(out, screen.Hint{Key: arrows(host), Label: "scroll"}, screen.Hint{Key: "/", Label: "find"}, EscHint("close"))
}

// A Question asks for a yes or no.
type Question struct {
	screen.NoText
	Title string
	Text  string
	// TextOf returns the text as it is when the box is drawn; nil: Text.
	TextOf func() string
	Yes    string // what agreeing does
	// Sure has y alone agree, not enter: the box may come up while somebody presses enter for something else.
	Sure bool
	Run  func() tea.Cmd
}

func (q *Question) rows(w int) []string {
	shown := q.Text
	if q.TextOf != nil {
		shown = q.TextOf()
	}
	return text.Wrap(text.Line(shown), w)
}

// Place centres the box in the body.
func (q *Question) Place(_ screen.Host, body layout.Rect) layout.Rect {
	w := Width(body, 56)
	return body.Center(w, height(body, len(q.rows(max(0, w-4)))+4))
}

// Draw draws the box.
func (q *Question) Draw(host screen.Host, w, h int) []string {
	t := host.Theme()
	var rows []string
	for _, l := range q.rows(max(0, w-4)) {
		rows = append(rows, paint.Text(w-2, t.Text, " "+l))
	}
	rows = append(rows, paint.Blank(w-2),
		paint.NewRow(w-2, theme.Style{}).Put(t.Key, " y").Put(t.KeyText, " "+q.Yes+"   ").Put(t.Key, "n").Put(t.KeyText, " no").String())
	return paint.Box(t, paint.Frame{Title: q.Title, Focused: true}, w, h, rows)
}

// Key handles a key press.
func (q *Question) Key(host screen.Host, k tea.KeyPressMsg) tea.Cmd {
	switch name := k.String(); name {
	case "y", "Y", "enter":
		if q.Sure && name == "enter" {
			return nil
		}
		host.Close(q)
		return q.Run()
	case "n", "N", "q":
		host.Close(q)
	}
	return nil
}

// Hints returns the keys of the box.
func (q *Question) Hints(screen.Host) []screen.Hint {
	return []screen.Hint{{Key: "y", Label: q.Yes}, {Key: "n", Label: "no"}, EscHint("back")}
}

// Ask opens a question; run is what agreeing does, and yes is its name.
func Ask(host screen.Host, title, s, yes string, run func() tea.Cmd) tea.Cmd {
	return host.Open(&Question{Title: title, Text: s, Yes: yes, Run: run})
}
