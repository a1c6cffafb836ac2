package tui

import (
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// tabsPane is the line of tabs of a screen that shows one part at a time.
func (m *Model) tabsPane(id string, r layout.Rect, at int, names []string) pane {
	return pane{id: id, rect: r, state: at, draw: func(t *theme.Theme, w, _ int) []string {
		row := paint.NewRow(w, theme.Style{})
		for i, n := range names {
			style := t.Dim
			if i == at {
				style = t.Focus
			}
			row.Put(t.Text, " ").Put(style, n).Put(t.Text, " ")
		}
		return []string{row.Right(t.Dim, "tab").String()}
	}}
}

// tabHit finds the name at a column of a line of tabs.
func tabHit(names []string, x int) (int, bool) {
	at := 0
	for i, n := range names {
		end := at + text.Width(n) + 2
		if x >= at && x < end {
			return i, true
		}
		at = end
	}
	return 0, false
}

// box draws content into a bordered box of w × h cells.
func box(t *theme.Theme, f paint.Frame, w, h int, content func(w, h int) []string) []string {
	var rows []string
	if w >= 4 && h >= 2 {
		rows = content(w-2, h-2)
	}
	return paint.Box(t, f, w, h, rows)
}

// line starts a row with one cell of margin.
func line(w int) *paint.Row { return paint.NewRow(w, theme.Style{}).Pad(1) }

// factLabel is the width of the labels of facts.
const factLabel = 12

// fact is a row that says one thing under a label: the first form that fits, else the last one cut short. Without a form,
// or with an empty one, it is no row.
func fact(t *theme.Theme, w int, label string, forms ...string) []string {
	said := ""
	for _, f := range forms {
		if said = f; text.Width(f) <= w-factLabel-2 {
			break
		}
	}
	if said == "" {
		return nil
	}
	return []string{line(w).Col(t.Dim, label, factLabel).Put(t.Text, text.Clip(said, max(1, w-factLabel-2))).String()}
}

// paragraph breaks text into rows with a margin.
func paragraph(w int, s theme.Style, str string) []string {
	var rows []string
	for _, l := range text.Wrap(str, max(1, w-2)) {
		rows = append(rows, line(w).Put(s, l).String())
	}
	return rows
}

// A segment is a piece of text that stays on one row.
type segment struct {
	style theme.Style
	text  string
}

// flow puts segments into as few rows of w cells as they take, with a gap between them.
func flow(t *theme.Theme, w int, segs []segment, gap int) []string {
	var rows []string
	r := line(w)
	first := true
	for _, s := range segs {
		if s.text == "" {
			continue
		}
		if !first && text.Width(s.text)+gap > r.Room()-1 {
			rows = append(rows, r.String())
			r, first = line(w), true
		}
		if !first {
			r.Put(t.Text, text.Spaces(gap))
		}
		r.Put(s.style, s.text)
		first = false
	}
	return append(rows, r.String())
}
