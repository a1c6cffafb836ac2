package widget

import (
	"fmt"

	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// Tabs is the line of tabs of a screen that shows one pane at a time.
func Tabs(id string, r layout.Rect, at int, names []string) screen.Pane {
	return screen.Pane{ID: id, Rect: r, State: at, Draw: func(t *theme.Theme, w, _ int) []string {
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

// TabAt finds the name at a column of a line of tabs.
func TabAt(names []string, x int) (int, bool) {
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

// Box draws content into a bordered box of w × h cells.
func Box(t *theme.Theme, f paint.Frame, w, h int, content func(w, h int) []string) []string {
	var rows []string
	if w >= 4 && h >= 2 {
		rows = content(w-2, h-2)
	}
	return paint.Box(t, f, w, h, rows)
}

// Line starts a row with one cell of margin.
func Line(w int) *paint.Row { return paint.NewRow(w, theme.Style{}).Pad(1) }

// FactLabel is the width of the labels of facts.
const FactLabel = 12

// Fact returns a row with a label and a text: the first form that fits, else the last one cut short. Without a form, or
// with an empty one, it returns no row.
func Fact(t *theme.Theme, w int, label string, forms ...string) []string {
	shown := ""
	for _, f := range forms {
		if shown = f; text.Width(f) <= w-FactLabel-2 {
			break
		}
	}
	if shown == "" {
		return nil
	}
	return []string{Line(w).Col(t.Dim, label, FactLabel).Put(t.Text, text.Clip(shown, max(1, w-FactLabel-2))).String()}
}

// Paragraph breaks text into rows with a margin.
func Paragraph(w int, s theme.Style, str string) []string {
	var rows []string
	for _, l := range text.Wrap(str, max(1, w-2)) {
		rows = append(rows, Line(w).Put(s, l).String())
	}
	return rows
}

// A Segment is a piece of text that stays on one row.
type Segment struct {
	Style theme.Style
	Text  string
}

// Flow puts segments into as few rows of w cells as possible, with a gap between them.
func Flow(t *theme.Theme, w int, segs []Segment, gap int) []string {
	var rows []string
	r := Line(w)
	first := true
	for _, s := range segs {
		if s.Text == "" {
			continue
		}
		if !first && text.Width(s.Text)+gap > r.Room()-1 {
			rows = append(rows, r.String())
			r, first = Line(w), true
		}
		if !first {
			r.Put(t.Text, text.Spaces(gap))
		}
		r.Put(s.Style, s.Text)
		first = false
	}
	return append(rows, r.String())
}

// ScrollNote returns which part of a list is on the screen: "1–6 of 12"; "" where all of it is.
func ScrollNote(top, h, n int) string {
	if n <= h {
		return ""
	}
	return fmt.Sprintf("%d–%d of %d", top+1, min(n, top+h), n)
}
