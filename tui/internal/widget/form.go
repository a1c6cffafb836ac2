package widget

import (
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// An Entry is one value of a form: a text, or one of several choices.
type Entry struct {
	ID     string
	Hidden func(f *Form) bool // nil: always shown
	// Follows returns the text for the other values of the form, until the text is edited; nil leaves it.
	Follows func(f *Form) string
	// Own returns, for the other values of the form, which value the first choice or an empty text is for; nil or "" is none.
	Own func(f *Form) string

	label   string
	help    string // shown while the entry has the cursor
	text    Field
	choices []string // non-empty: the value is one of these
	chosen  int
	check   func(string) error // nil: every text passes
	fresh   bool               // the text is a proposal or was refused: the first character replaces it
	edited  bool
}

// TextEntry is an entry for a text, which check lets pass; nil lets every text pass.
func TextEntry(id, label, value, help string, check func(string) error) *Entry {
	return &Entry{ID: id, label: label, help: help, text: NewField(value, false), check: check, fresh: value != ""}
}

// ChoiceEntry is an entry with a value among choices.
func ChoiceEntry(id, label, value, help string, choices ...string) *Entry {
	return &Entry{ID: id, label: label, help: help, choices: choices, chosen: max(0, slices.Index(choices, value))}
}

// ToggleEntry is an entry for yes or no.
func ToggleEntry(id, label string, on bool, help string) *Entry {
	value := "no"
	if on {
		value = "yes"
	}
	return ChoiceEntry(id, label, value, help, "yes", "no")
}

// refuse has the next character replace the text.
func (e *Entry) refuse() {
	e.fresh = !e.text.Empty()
	e.text.End()
}

func (e *Entry) value() string {
	if len(e.choices) > 0 {
		return e.choices[e.chosen]
	}
	return strings.TrimSpace(e.text.String())
}

// unset is what an empty value means, as the help has it behind "empty: ".
func (e *Entry) unset() string {
	if _, meaning, ok := strings.Cut(e.help, "empty: "); ok {
		return meaning
	}
	return "empty"
}

// owned returns how a value that is for another is shown.
func (e *Entry) owned(f *Form, value string) string {
	if e.Own != nil {
		if own := e.Own(f); own != "" {
			return value + ": " + own
		}
	}
	return value
}

// shown returns the choice as it is shown.
func (e *Entry) shown(f *Form) string {
	if e.chosen == 0 {
		return e.owned(f, e.value())
	}
	return e.value()
}

// A Form asks for a few values at once.
type Form struct {
	Title, Note string
	NoteOf      func(f *Form) string // the note for the values entered; nil: Note
	Entries     []*Entry
	OK          string // what enter does
	Submit      func(f *Form) tea.Cmd
	// Stays leaves the form open when it is submitted: Submit closes it once the values are accepted, or calls Reject.
	Stays bool

	at      int
	problem string
	waits   bool // submitted, and neither closed nor rejected
}

// Reject shows why the values that were submitted are not accepted, so that they can be corrected.
func (f *Form) Reject(err error) {
	f.problem, f.waits = strings.TrimPrefix(text.Line(format.Error(err)), explorer.ErrInvalid.Error()+": "), false
}

// Send submits a form that Stays by a command: the form closes when the exploration accepts it, and shows its error otherwise.
func (f *Form) Send(host screen.Host, c explorer.Command, then func(explorer.Receipt) tea.Cmd) tea.Cmd {
	return host.Try(c, func(r explorer.Receipt) tea.Cmd {
		host.Close(f)
		if then == nil {
			return nil
		}
		return then(r)
	}, func(err error) bool {
		f.Reject(err)
		return host.Shows(f) // otherwise the error becomes a message
	})
}

var _ screen.Overlay = (*Form)(nil)

func (f *Form) note() string {
	if f.NoteOf != nil {
		return f.NoteOf(f)
	}
	return f.Note
}

func (f *Form) entry(id string) *Entry {
	i := slices.IndexFunc(f.Entries, func(e *Entry) bool { return e.ID == id })
	if i < 0 {
		panic(fmt.Sprintf("widget: no entry %q in the form %q", id, f.Title))
	}
	return f.Entries[i]
}

// Get returns the value of an entry. Number and Count are for entries whose check lets only numbers pass, and read an
// empty text as 0.
func (f *Form) Get(id string) string { return f.entry(id).value() }

// Yes reports whether a ToggleEntry is set.
func (f *Form) Yes(id string) bool { return f.Get(id) == "yes" }

// Number returns the value of an entry as a number; empty is 0.
func (f *Form) Number(id string) float64 {
	v, err := ParseNumber(f.Get(id))
	if err != nil {
		return 0
	}
	return v
}

// Count returns the value of an entry as a whole number; empty is 0.
func (f *Form) Count(id string) int { return int(f.Number(id)) }

// visible are the entries that are not hidden.
func (f *Form) visible() []*Entry {
	out := make([]*Entry, 0, len(f.Entries))
	for _, e := range f.Entries {
		if e.Hidden == nil || !e.Hidden(f) {
			out = append(out, e)
		}
	}
	return out
}

func (f *Form) current() *Entry {
	v := f.visible()
	f.at = layout.Clamp(f.at, 0, len(v)-1)
	return v[f.at]
}

func (f *Form) labelWidth() int {
	n := 0
	for _, e := range f.Entries {
		n = max(n, text.Width(e.label))
	}
	return n
}

// Place centres the box in the body.
func (f *Form) Place(_ screen.Host, body layout.Rect) layout.Rect {
	w := Width(body, f.width())
	return body.Center(w, height(body, f.head(w-2)+len(f.visible())+3+f.foot(w-2)))
}

// width is that of the box: more than the usual one where entries need it, up to a width that is still read at a glance.
func (f *Form) width() int {
	const least, most = 72, 100
	n := 0
	for _, e := range f.Entries {
		need := text.Width(e.unset())
		if len(e.choices) > 0 {
			need = text.Width(strings.Join(e.choices, "  ")) + 3
		}
		if need+f.labelWidth()+8 <= most { // others do not fit anyway
			n = max(n, need)
		}
	}
	return min(max(least, n+f.labelWidth()+8), most)
}

// foot is the number of rows below the entries: enough for the longest help of one of them and the problem.
func (f *Form) foot(w int) int {
	n := len(text.Wrap(f.problem, max(1, w-2)))
	for _, e := range f.Entries {
		n = max(n, len(text.Wrap(e.help, max(1, w-2))))
	}
	return n
}

// head is the number of rows above the entries.
func (f *Form) head(w int) int {
	note := f.note()
	if note == "" {
		return 0
	}
	return len(text.Wrap(note, max(1, w-2))) + 1
}

// top is the first visible entry when only some fit.
func (f *Form) top(w, h int) int {
	room := max(1, h-2-f.head(w-2)-1-f.foot(w-2))
	return layout.Clamp(f.at-room+1, 0, max(0, len(f.visible())-room))
}

// Draw draws the box.
func (f *Form) Draw(host screen.Host, w, h int) []string {
	t := host.Theme()
	inner := w - 2
	var rows []string
	if note := f.note(); note != "" {
		for _, l := range text.Wrap(note, max(1, inner-2)) {
			rows = append(rows, paint.Text(inner, t.Dim, " "+l))
		}
		rows = append(rows, paint.Blank(inner))
	}
	current := f.current()
	all := f.visible()
	room := max(1, h-2-len(rows)-1-f.foot(inner))
	top := f.top(w, h)
	foot := ScrollNote(top, room, len(all))
	for i := top; i < len(all) && room > 0; i++ {
		rows = append(rows, f.drawEntry(t, all[i], all[i] == current, inner))
		room--
	}
	rows = append(rows, paint.Blank(inner))
	shown, style := current.help, t.Dim
	if f.problem != "" {
		shown, style = f.problem, t.Bad
	}
	for _, l := range text.Wrap(shown, max(1, inner-2)) {
		rows = append(rows, paint.Text(inner, style, " "+l))
	}
	return paint.Box(t, paint.Frame{Title: f.Title, Foot: foot, Focused: true}, w, h, rows)
}

func (f *Form) drawEntry(t *theme.Theme, e *Entry, here bool, w int) string {
	r := paint.NewRow(w, theme.Style{})
	mark, label := "  ", t.Dim
	if here {
		mark, label = t.Glyph.Here+" ", t.Strong
	}
	r.Put(t.Accent, mark).Col(label, e.label, f.labelWidth()).Put(t.Text, "  ")
	if len(e.choices) == 0 {
		s, _ := e.text.Line(r.Room() - 1)
		style := t.Input
		if s == "" {
			s, style = text.Clip(e.owned(f, e.unset()), r.Room()-1), t.Placeholder
			if e.check != nil && e.check("") != nil {
				s = "needed"
			}
		}
		if here && e.fresh {
			style = style.With(t.Selected)
		}
		return r.Put(style, s).String()
	}
	if !here {
		return r.Put(t.Text, e.shown(f)).String()
	}
	own := strings.TrimPrefix(e.owned(f, e.choices[0]), e.choices[0])
	if total := text.Width(strings.Join(e.choices, "  ")+own) + 2; total > r.Room() {
		return r.Put(t.Dim, t.Glyph.Left+" ").Put(t.Strong, e.shown(f)).Put(t.Dim, " "+t.Glyph.Right).String()
	}
	for i, c := range e.choices {
		if i == 0 {
			c += own
		}
		if i == e.chosen {
			r.Put(t.Focus, "["+c+"]").Put(t.Text, " ")
		} else {
			r.Put(t.Dim, " "+c+"  ")
		}
	}
	return r.String()
}

// Cursor returns the position of the text cursor.
func (f *Form) Cursor(w, h int) (int, int, bool) {
	e := f.current()
	if len(e.choices) > 0 {
		return 0, 0, false
	}
	x := 1 + 2 + f.labelWidth() + 2
	_, cx := e.text.Line(w - 2 - (x - 1) - 1)
	return x + cx, 1 + f.head(w-2) + f.at - f.top(w, h), true
}

// Typing reports true: letters are text.
func (f *Form) Typing() bool { return true }

// Paste inserts pasted text and returns how many characters there is no room for.
func (f *Form) Paste(s string) (lost int) {
	if e := f.current(); len(e.choices) == 0 {
		if e.fresh {
			e.text.Set("")
			e.fresh = false
		}
		lost = e.text.Insert(s)
		e.edited, f.problem = true, ""
	}
	return lost
}

// Key handles a key press.
func (f *Form) Key(host screen.Host, k tea.KeyPressMsg) tea.Cmd {
	e := f.current()
	switch k.String() {
	case "up", "shift+tab", "ctrl+p":
		f.at = (f.at + len(f.visible()) - 1) % len(f.visible())
		return nil
	case "down", "tab", "ctrl+n":
		f.at = (f.at + 1) % len(f.visible())
		return nil
	case "enter":
		return f.finish(host)
	case HelpKey:
		return f.help(host)
	}
	f.problem = ""
	defer f.follow()
	if len(e.choices) == 0 {
		was := e.text.String()
		defer func() { e.edited = e.edited || e.text.String() != was }()
		if e.fresh && k.Text != "" && k.Mod&(tea.ModCtrl|tea.ModAlt|tea.ModMeta|tea.ModSuper) == 0 {
			e.text.Set("")
		}
		e.fresh = false
		e.text.Key(k)
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

// follow updates the texts that follow other values.
func (f *Form) follow() {
	for _, e := range f.Entries {
		if e.Follows == nil || e.edited {
			continue
		}
		if s := e.Follows(f); s != e.text.String() {
			e.text.Set(s)
			e.fresh = true
		}
	}
}

// finish checks all values and submits them, or goes to the first that is wrong.
func (f *Form) finish(host screen.Host) tea.Cmd {
	for i, e := range f.visible() {
		if e.check == nil {
			continue
		}
		if err := e.check(e.value()); err != nil {
			f.at, f.problem = i, e.label+": "+format.Error(err)
			e.refuse()
			return nil
		}
	}
	if f.waits {
		return nil
	}
	if f.Stays {
		f.waits = true
		return f.Submit(f)
	}
	host.Close(f)
	return f.Submit(f)
}

// Mouse handles a mouse event inside the box.
func (f *Form) Mouse(_ screen.Host, e screen.MouseEvent) tea.Cmd {
	if e.Kind == screen.Wheel {
		f.at = layout.Clamp(f.at+e.Delta, 0, len(f.visible())-1)
	}
	return nil
}

// Hints returns the keys of the box.
func (f *Form) Hints(host screen.Host) []screen.Hint {
	ok := f.OK
	if ok == "" {
		ok = "do it"
	}
	out := []screen.Hint{{Key: host.Theme().Glyph.Return, Label: ok}}
	if len(f.visible()) > 1 {
		out = append(out, screen.Hint{Key: "tab", Label: "next"})
	}
	if len(f.current().choices) > 0 {
		out = append(out, screen.Hint{Key: host.Theme().Glyph.Left + host.Theme().Glyph.Right, Label: "choose"})
	}
	return append(out, screen.Hint{Key: HelpKey, Label: "help"}, EscHint("back"))
}
