package widget

import (
	"cmp"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// HelpKey opens the help of a form. Letters are text there, and the first function keys go to screens.
const HelpKey = "f9"

// help lists all entries with what they mean, and the keys of the form.
func (f *Form) help(host screen.Host) tea.Cmd {
	return host.Open(&Pager{Title: f.Title + ": help", Width: 96, Lines: func(w int) []string {
		t := host.Theme()
		labels := max(f.labelWidth(), 11) + 2 // those of keys below too
		var rows []string
		add := func(label string, style theme.Style, s string) {
			for i, l := range text.Wrap(s, max(1, w-labels-2)) {
				r := paint.NewRow(w, theme.Style{})
				if i == 0 {
					r.Col(t.Strong, label, labels)
				} else {
					r.Pad(labels)
				}
				rows = append(rows, r.Put(style, l).String())
			}
		}
		if note := f.note(); note != "" {
			rows = append(append(rows, Paragraph(w, t.Text, note)...), paint.Blank(w))
		}
		for _, e := range f.visible() {
			add(e.label, t.Text, cmp.Or(e.help, e.value()))
			if len(e.choices) > 0 {
				add("", t.Dim, strings.Join(e.choices, ", "))
			}
		}
		rows = append(rows, paint.Blank(w))
		for _, k := range []struct{ key, does string }{
			{"tab, arrows", "go to the next or previous value"},
			{"left, right", "choose one of several values; the first letter chooses too"},
			{"letters", "replace a marked text, which is a proposal or was refused; after " + t.Glyph.Left + " or " + t.Glyph.Right + " they are added to it"},
			{"ctrl+u", "deletes the text before the cursor; an empty value has the meaning that is shown in its place"},
			{"enter", cmp.Or(f.OK, "do it") + ", with all values"},
			{"esc", "closes the form"},
		} {
			add(k.key, t.Dim, k.does)
		}
		return rows
	}})
}
