// Package widget contains the elements that screens are built of: lists, tables, text fields and rows, and the overlays of
// the frame: forms, pickers, pagers and questions.
package widget

import (
	"slices"

	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// A List is the cursor and scroll position of a long list.
type List struct{ At, Top int }

// Move moves the cursor within n rows.
func (l *List) Move(by, n int) { l.At = layout.Clamp(l.At+by, 0, max(0, n-1)) }

// NextMatch returns the next of n rows for which match holds, or for by of -1 the previous one; after the last comes the first. It returns
// at where there is none.
func NextMatch(at, by, n int, match func(int) bool) int {
	for i := range n {
		if k := ((at+by*(i+1))%n + n) % n; match(k) {
			return k
		}
	}
	return at
}

// Clamp keeps the cursor within n rows and the cursor's row within the visible ones.
func (l *List) Clamp(n, visible int) {
	l.At = layout.Clamp(l.At, 0, max(0, n-1))
	l.Top = layout.Clamp(l.Top, l.At-visible+1, l.At)
	l.Top = layout.Clamp(l.Top, 0, max(0, n-visible))
}

// A Column of a table. Columns are dropped from the highest rank on until the others fit.
type Column struct {
	Title string
	W     int  // least width of one that grows, else its usual width, of which it gives what it does not need
	Grow  bool // takes what width is left
	Right bool // numbers: aligned to the right
	Rank  int  // 0 is always shown
}

// A Table draws rows of cells under a head line. Of many rows only visible ones are asked for.
type Table struct {
	Columns []Column
	N       int
	List    List
	Focused bool
	Marked  func(row int) bool // rows that carry the selection's background
	Cell    func(row, col int) (string, theme.Style)
	Empty   string // shown when there is no row
}

// manyRows is the number of rows from which on only visible ones are measured.
const manyRows = 50

// need is the width of the longest cell of a column among the rows of an h-row table that are shown, of all rows unless they are many.
func (tb *Table) need(col, h int) int {
	if tb.N == 0 {
		return tb.Columns[col].W
	}
	first, last := 0, tb.N
	if tb.N > manyRows {
		first, last = tb.List.Top, min(tb.N, tb.List.Top+h-1)
	}
	n := text.Width(tb.Columns[col].Title)
	for i := first; i < last; i++ {
		s, _ := tb.Cell(i, col)
		n = max(n, text.Width(s))
	}
	return n
}

// fit chooses the columns that fit w cells and their widths, for a table of h rows.
func (tb *Table) fit(w, h int) (cols, widths []int) {
	const gap = 2
	needs := make([]int, len(tb.Columns))
	least := func(c int) int { // for which columns of a higher rank are dropped: names are worth more than those
		column := tb.Columns[c]
		switch {
		case column.Grow && column.Rank == 0:
			return layout.Clamp(needs[c], column.W, column.W*3/2)
		case column.Grow:
			return column.W
		}
		return min(column.W, needs[c])
	}
	spare := w - 2 + gap // beside the cursor's mark
	for c := range tb.Columns {
		needs[c] = tb.need(c, h)
		cols = append(cols, c)
		spare -= least(c) + gap
	}
	for spare < 0 && len(cols) > 1 {
		worst := 0
		for i, c := range cols {
			if tb.Columns[c].Rank >= tb.Columns[cols[worst]].Rank {
				worst = i
			}
		}
		c := cols[worst]
		if tb.Columns[c].Rank == 0 {
			break
		}
		spare += least(c) + gap
		cols = slices.Delete(cols, worst, worst+1)
	}
	for _, c := range cols {
		widths = append(widths, least(c))
	}
	for i, c := range cols { // the table is narrower than its columns
		if spare < 0 && tb.Columns[c].Grow {
			give := min(-spare, widths[i]-tb.Columns[c].W)
			widths[i] -= give
			spare += give
		}
	}
	take := func(i, wanted int) {
		n := layout.Clamp(wanted, 0, max(0, spare))
		widths[i] += n
		spare -= n
	}
	for i, c := range cols { // first what would be cut short, then the usual widths, then what is left
		if tb.Columns[c].Grow {
			take(i, needs[c]-widths[i])
		}
	}
	for i, c := range cols {
		take(i, tb.Columns[c].W-widths[i])
	}
	for i, c := range cols {
		if tb.Columns[c].Grow {
			take(i, spare) // all of it
		}
	}
	return cols, widths
}

// Draw draws the table on w × h cells.
func (tb *Table) Draw(t *theme.Theme, w, h int) []string {
	if w <= 0 || h <= 0 {
		return nil
	}
	cols, widths := tb.fit(w-1, h) // numbers do not touch the border
	headRow := paint.NewRow(w, theme.Style{}).Put(t.Dim, "  ")
	for i, c := range cols {
		if i > 0 {
			headRow.Put(t.Dim, "  ")
		}
		put(headRow, tb.Columns[c], t.Dim, tb.Columns[c].Title, widths[i])
	}
	rows := []string{headRow.String()}
	if tb.N == 0 {
		return append(rows, paint.Text(w, t.Dim, "  "+tb.Empty))
	}
	for i := tb.List.Top; i < min(tb.N, tb.List.Top+h-1); i++ {
		base, mark := theme.Style{}, "  "
		if tb.Marked != nil && tb.Marked(i) {
			base = t.Selected
		}
		if i == tb.List.At {
			mark = t.Glyph.Here + " "
			if tb.Focused {
				base = t.Cursor
			}
		}
		r := paint.NewRow(w, base).Put(t.Accent, mark)
		for k, c := range cols {
			if k > 0 {
				r.Put(theme.Style{}, "  ")
			}
			s, style := tb.Cell(i, c)
			put(r, tb.Columns[c], style, s, widths[k])
		}
		rows = append(rows, r.String())
	}
	return rows
}

func put(r *paint.Row, c Column, s theme.Style, str string, w int) {
	if c.Right {
		r.Num(s, text.Clip(str, w), w)
	} else {
		r.Col(s, str, w)
	}
}
