package widget

import (
	"cmp"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// A Choice is one row of a picker.
type Choice struct {
	Title, Detail string
	Also          string         // what finds it too, and is not shown
	Key           string         // that does the same, shown at the right end; "" for none
	Off           string         // why it cannot be chosen; "" if it can
	Run           func() tea.Cmd // nil: choosing it only closes the picker
}

// A Picker is a list to choose from, narrowed by typing.
type Picker struct {
	Title   string
	Choices func() []Choice
	Choose  string // what choosing does, for the footer; "" is "choose"
	filter  Field
	list    List
}

var _ screen.Overlay = (*Picker)(nil)

// matches are the choices that the filter leaves, best first: those whose title has all its words, then those whose other texts have them, and where
// there are none those that have its letters in their order.
func (p *Picker) matches() []Choice {
	all := p.Choices()
	want := strings.TrimSpace(p.filter.String())
	if want == "" {
		return all
	}
	var titled, exact, loose []Choice
	for _, c := range all {
		s := c.Title + " " + c.Detail + " " + c.Also
		switch {
		case Contains(c.Title, want):
			titled = append(titled, c)
		case Contains(s, want):
			exact = append(exact, c)
		case subsequence(s, want):
			loose = append(loose, c)
		}
	}
	if titled = append(titled, exact...); len(titled) > 0 {
		return titled
	}
	return loose
}

// Contains reports whether a text contains all words of another, in any case of letters.
func Contains(s, want string) bool {
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

// Place centres the box in the body.
func (p *Picker) Place(_ screen.Host, body layout.Rect) layout.Rect {
	return body.Center(Width(body, 76), height(body, min(len(p.Choices()), 16)+4))
}

// Draw draws the box.
func (p *Picker) Draw(host screen.Host, w, h int) []string {
	t := host.Theme()
	found := p.matches()
	inner, visible := w-2, max(0, h-4)
	p.list.Clamp(len(found), visible)
	line, _ := p.filter.Line(max(0, inner-4))
	first := paint.NewRow(inner, theme.Style{}).Put(t.Accent, " "+t.Glyph.Here+" ")
	if line == "" {
		first.Put(t.Placeholder, "type to narrow")
	} else {
		first.Put(t.Input, line)
	}
	rows := []string{first.String(), t.Border.Render(strings.Repeat(t.Glyph.H, max(0, inner)))}
	keys := 0 // width of the column of keys
	for _, c := range found {
		keys = max(keys, text.Width(c.Key))
	}
	for i := p.list.Top; i < min(len(found), p.list.Top+visible); i++ {
		c := found[i]
		base := theme.Style{}
		mark := "  "
		if i == p.list.At {
			base, mark = t.Cursor, t.Glyph.Here+" "
		}
		r := paint.NewRow(inner, base)
		title, detail := t.Text, c.Detail
		if c.Off != "" {
			title, detail = t.KeyOff, c.Off
		}
		r.Put(t.Accent, mark).Put(title, text.Clip(c.Title, max(8, inner-3-keys)))
		if room := r.Room() - keys - 3; c.Off == "" && keys > 0 && text.Width(detail) > room {
			detail = "" // the title is needed to find it
		} else {
			detail = text.Clip(detail, room)
		}
		if keys > 0 {
			r.Pad(inner-keys-text.Width(detail)-2).Put(t.Dim, detail).Pad(inner-text.Width(c.Key)-1).Put(t.Key, c.Key)
		} else {
			r.Right(t.Dim, detail+" ")
		}
		rows = append(rows, r.String())
	}
	if len(found) == 0 {
		rows = append(rows, paint.Text(inner, t.Dim, "  nothing matches"))
	}
	return paint.Box(t, paint.Frame{Title: p.Title, Foot: ScrollNote(p.list.Top, visible, len(found)), Focused: true}, w, h, rows)
}

// Key handles a key press.
func (p *Picker) Key(host screen.Host, k tea.KeyPressMsg) tea.Cmd {
	found := p.matches()
	switch k.String() {
	case "up", "ctrl+p", "shift+tab":
		p.list.Move(-1, len(found))
	case "down", "ctrl+n", "tab":
		p.list.Move(1, len(found))
	case "pgup":
		p.list.Move(-10, len(found))
	case "pgdown":
		p.list.Move(10, len(found))
	case "enter":
		if p.list.At < len(found) {
			return p.choose(host, found[p.list.At])
		}
	default:
		if p.filter.Key(k) {
			p.list = List{}
		}
	}
	return nil
}

func (p *Picker) choose(host screen.Host, c Choice) tea.Cmd {
	if c.Off != "" {
		host.Note(explorer.Info, action.LowerFirst(c.Title)+": "+c.Off)
		return nil
	}
	host.Close(p)
	if c.Run == nil {
		return nil
	}
	return c.Run()
}

// Mouse handles a mouse event inside the box.
func (p *Picker) Mouse(host screen.Host, e screen.MouseEvent) tea.Cmd {
	found := p.matches()
	switch e.Kind {
	case screen.Wheel:
		p.list.Move(e.Delta, len(found))
	case screen.Click:
		if i := p.list.Top + e.Y - 3; e.Y >= 3 && i < len(found) {
			p.list.At = i
			return p.choose(host, found[i])
		}
	default: // nothing for the others
	}
	return nil
}

// Paste narrows by what is pasted.
func (p *Picker) Paste(s string) (lost int) {
	p.list = List{}
	return p.filter.Insert(s)
}

// Typing reports true: letters narrow the list.
func (p *Picker) Typing() bool { return true }

// Cursor is behind the filter.
func (p *Picker) Cursor(w, _ int) (int, int, bool) {
	_, x := p.filter.Line(max(0, w-6))
	return 4 + x, 1, true
}

// Hints are its own keys.
func (p *Picker) Hints(host screen.Host) []screen.Hint {
	return []screen.Hint{{Key: host.Theme().Glyph.Return, Label: cmp.Or(p.Choose, "choose")}, {Key: arrows(host), Label: "move"}, EscHint("back")}
}

// Pick opens a picker.
func Pick(host screen.Host, title string, choices func() []Choice) tea.Cmd {
	return host.Open(&Picker{Title: title, Choices: choices})
}
