package tui

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// An entry is one value of a form: a text, or one of several choices.
type entry struct {
	id, label string
	help      string // shown while the entry has the cursor
	text      field
	choices   []string // non-empty: the value is one of these
	chosen    int
	check     func(string) error // nil: anything goes
	hidden    func(f *form) bool // nil: always there
}

func textEntry(id, label, value, help string, check func(string) error) *entry {
	return &entry{id: id, label: label, help: help, text: newField(value, false), check: check}
}

func choiceEntry(id, label, value, help string, choices ...string) *entry {
	return &entry{id: id, label: label, help: help, choices: choices, chosen: max(0, slices.Index(choices, value))}
}

func toggleEntry(id, label string, on bool, help string) *entry {
	value := "no"
	if on {
		value = "yes"
	}
	return choiceEntry(id, label, value, help, "yes", "no")
}

func (e *entry) value() string {
	if len(e.choices) > 0 {
		return e.choices[e.chosen]
	}
	return strings.TrimSpace(e.text.String())
}

// A form asks for a few values at once.
type form struct {
	title, note string
	entries     []*entry
	at          int
	problem     string
	ok          string // what enter does
	submit      func(m *Model, f *form) tea.Cmd
}

var _ overlay = (*form)(nil)

// show opens a form.
func (m *Model) openForm(f *form) tea.Cmd {
	m.open(f)
	return nil
}

func (f *form) entry(id string) *entry {
	i := slices.IndexFunc(f.entries, func(e *entry) bool { return e.id == id })
	if i < 0 {
		panic(fmt.Sprintf("tui: no entry %q in the form %q", id, f.title))
	}
	return f.entries[i]
}

// get is the value of an entry; number and count are for entries whose check has let only numbers pass, and read an empty
// text as 0.
func (f *form) get(id string) string { return f.entry(id).value() }

func (f *form) yes(id string) bool { return f.get(id) == "yes" }

func (f *form) number(id string) float64 {
	v, err := parseNumber(f.get(id))
	if err != nil {
		return 0
	}
	return v
}

func (f *form) count(id string) int { return int(f.number(id)) }

// visible are the entries that are there now.
func (f *form) visible() []*entry {
	out := make([]*entry, 0, len(f.entries))
	for _, e := range f.entries {
		if e.hidden == nil || !e.hidden(f) {
			out = append(out, e)
		}
	}
	return out
}

func (f *form) current() *entry {
	v := f.visible()
	f.at = clamp(f.at, 0, len(v)-1)
	return v[f.at]
}

func (f *form) labelWidth() int {
	n := 0
	for _, e := range f.entries {
		n = max(n, text.Width(e.label))
	}
	return n
}

func (f *form) place(m *Model, body layout.Rect) layout.Rect {
	w := m.width(body, 72)
	return body.Center(w, m.height(body, f.head(w-2)+len(f.visible())+3+f.foot(w-2)))
}

// foot is the number of rows below the entries: enough for the longest help of one of them.
func (f *form) foot(w int) int {
	n := 1
	for _, e := range f.entries {
		n = max(n, len(text.Wrap(e.help, max(1, w-2))))
	}
	return n
}

// head is the number of rows above the entries.
func (f *form) head(w int) int {
	if f.note == "" {
		return 0
	}
	return len(text.Wrap(f.note, max(1, w-2))) + 1
}

// top is the first visible entry when only some fit.
func (f *form) top(w, h int) int {
	room := max(1, h-2-f.head(w-2)-1-f.foot(w-2))
	return clamp(f.at-room+1, 0, max(0, len(f.visible())-room))
}

func (f *form) draw(m *Model, w, h int) []string {
	t := m.theme
	inner := w - 2
	var rows []string
	if f.note != "" {
		for _, l := range text.Wrap(f.note, max(1, inner-2)) {
			rows = append(rows, paint.Text(inner, t.Dim, " "+l))
		}
		rows = append(rows, paint.Blank(inner))
	}
	current := f.current()
	all := f.visible()
	room := max(1, h-2-len(rows)-1-f.foot(inner))
	for i := f.top(w, h); i < len(all) && room > 0; i++ {
		rows = append(rows, f.drawEntry(t, all[i], all[i] == current, inner))
		room--
	}
	rows = append(rows, paint.Blank(inner))
	said, style := current.help, t.Dim
	if f.problem != "" {
		said, style = f.problem, t.Bad
	}
	for _, l := range text.Wrap(said, max(1, inner-2)) {
		rows = append(rows, paint.Text(inner, style, " "+l))
	}
	return paint.Box(t, paint.Frame{Title: f.title, Focused: true}, w, h, rows)
}

func (f *form) drawEntry(t *theme.Theme, e *entry, here bool, w int) string {
	r := paint.NewRow(w, theme.Style{})
	mark, label := "  ", t.Dim
	if here {
		mark, label = t.Glyph.Here+" ", t.Strong
	}
	r.Put(t.Accent, mark).Col(label, e.label, f.labelWidth()).Put(t.Text, "  ")
	if len(e.choices) == 0 {
		s, _ := e.text.line(r.Room() - 1)
		style := t.Input
		if s == "" {
			s, style = "default", t.Placeholder
			if e.check != nil && e.check("") != nil {
				s = "needed"
			}
		}
		return r.Put(style, s).String()
	}
	if !here {
		return r.Put(t.Text, e.value()).String()
	}
	if total := text.Width(strings.Join(e.choices, "  ")) + 2; total > r.Room() {
		return r.Put(t.Dim, t.Glyph.Left+" ").Put(t.Strong, e.value()).Put(t.Dim, " "+t.Glyph.Right).String()
	}
	for i, c := range e.choices {
		if i == e.chosen {
			r.Put(t.Focus, "["+c+"]").Put(t.Text, " ")
		} else {
			r.Put(t.Dim, " "+c+"  ")
		}
	}
	return r.String()
}

func (f *form) cursor(_ *Model, w, h int) (int, int, bool) {
	e := f.current()
	if len(e.choices) > 0 {
		return 0, 0, false
	}
	x := 1 + 2 + f.labelWidth() + 2
	_, cx := e.text.line(w - 2 - (x - 1) - 1)
	return x + cx, 1 + f.head(w-2) + f.at - f.top(w, h), true
}

func (f *form) typing() bool { return true }

func (f *form) paste(_ *Model, s string) {
	if e := f.current(); len(e.choices) == 0 {
		e.text.insert(s)
		f.problem = ""
	}
}

func (f *form) key(m *Model, k tea.KeyPressMsg) tea.Cmd {
	e := f.current()
	switch k.String() {
	case "up", "shift+tab", "ctrl+p":
		f.at = (f.at + len(f.visible()) - 1) % len(f.visible())
		return nil
	case "down", "tab", "ctrl+n":
		f.at = (f.at + 1) % len(f.visible())
		return nil
	case "enter":
		return f.finish(m)
	}
	f.problem = ""
	if len(e.choices) == 0 {
		e.text.key(k)
		return nil
	}
	switch k.String() {
	case "left", "h":
		e.chosen = (e.chosen + len(e.choices) - 1) % len(e.choices)
	case "right", "space", "l":
		e.chosen = (e.chosen + 1) % len(e.choices)
	default:
		for i := range e.choices { // the first letter jumps
			j := (e.chosen + 1 + i) % len(e.choices)
			if k.Text != "" && strings.HasPrefix(strings.ToLower(e.choices[j]), strings.ToLower(k.Text)) {
				e.chosen = j
				break
			}
		}
	}
	return nil
}

// finish checks all values and submits them, or goes to the first that is wrong.
func (f *form) finish(m *Model) tea.Cmd {
	for i, e := range f.visible() {
		if e.check == nil {
			continue
		}
		if err := e.check(e.value()); err != nil {
			f.at, f.problem = i, e.label+": "+err.Error()
			return nil
		}
	}
	m.close(f)
	return f.submit(m, f)
}

func (f *form) mouse(_ *Model, e mouseEvent) tea.Cmd {
	if e.kind == mouseWheel {
		f.at = clamp(f.at+e.delta, 0, len(f.visible())-1)
	}
	return nil
}

func (f *form) hints(m *Model) []hint {
	ok := f.ok
	if ok == "" {
		ok = "do it"
	}
	out := []hint{{key: m.keyLabel("enter"), label: ok}}
	if len(f.visible()) > 1 {
		out = append(out, hint{key: "tab", label: "next"})
	}
	if len(f.current().choices) > 0 {
		out = append(out, hint{key: m.keyLabel("left") + m.keyLabel("right"), label: "choose"})
	}
	return append(out, closeHint("back"))
}

// The checks of entries. An empty text stands for the default and passes, unless it is needed.

func needText(s string) error {
	if s == "" {
		return fmt.Errorf("must not be empty")
	}
	return nil
}

func parseNumber(s string) (float64, error) {
	s = strings.TrimSpace(strings.ReplaceAll(s, ",", "."))
	scale := 1.0
	if p, ok := strings.CutSuffix(s, "%"); ok {
		s, scale = strings.TrimSpace(p), 0.01
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("not a number")
	}
	return v * scale, nil
}

// numberIn accepts numbers from lo to hi.
func numberIn(lo, hi float64) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		v, err := parseNumber(s)
		if err != nil {
			return err
		}
		if v < lo || v > hi {
			return fmt.Errorf("must be from %v to %v", lo, hi)
		}
		return nil
	}
}

// countIn accepts whole numbers from lo to hi.
func countIn(lo, hi int) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		v, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("not a whole number")
		}
		if v < lo || v > hi {
			return fmt.Errorf("must be from %d to %d", lo, hi)
		}
		return nil
	}
}

// ratio accepts shares: above 0, at most 1, and not empty.
func ratio(s string) error {
	v, err := parseNumber(s)
	if err != nil {
		return err
	}
	if v <= 0 || v > 1 {
		return fmt.Errorf("a share above 0 and at most 1 is wanted: 0.8, or 80 %%")
	}
	return nil
}
