package tui

import (
	"slices"

	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// A list is the cursor and scroll position of a long list.
type list struct{ at, top int }

// move moves the cursor within n rows.
func (l *list) move(by, n int) { l.at = clamp(l.at+by, 0, max(0, n-1)) }

// clamp keeps the cursor within n rows and the cursor's row within the visible ones.
func (l *list) clamp(n, visible int) {
	l.at = clamp(l.at, 0, max(0, n-1))
	l.top = clamp(l.top, l.at-visible+1, l.at)
	l.top = clamp(l.top, 0, max(0, n-visible))
}

func clamp(v, lo, hi int) int { return max(lo, min(v, hi)) }

// A column of a table. Columns are dropped from the highest rank on until the others fit.
type column struct {
	title string
	w     int  // least width
	grow  bool // takes what width is left
	right bool // numbers: aligned to the right
	rank  int  // 0 is always shown
}

// A table draws rows of cells under a head line; only visible rows are asked for.
type table struct {
	columns []column
	n       int
	list    list
	focused bool
	marked  func(row int) bool // rows that carry the selection's background
	cell    func(row, col int) (string, theme.Style)
	empty   string
}

// fit chooses the columns that fit w cells and their widths.
func (tb *table) fit(w int) (cols []int, widths []int) {
	const gap = 2
	lead := 2 // the cursor's mark
	cols = make([]int, 0, len(tb.columns))
	for i := range tb.columns {
		cols = append(cols, i)
	}
	total := func() int {
		sum := lead
		for _, c := range cols {
			sum += tb.columns[c].w + gap
		}
		return sum - gap
	}
	for total() > w && len(cols) > 1 {
		worst := 0
		for i, c := range cols {
			if tb.columns[c].rank >= tb.columns[cols[worst]].rank {
				worst = i
			}
		}
		if tb.columns[cols[worst]].rank == 0 {
			break
		}
		cols = slices.Delete(cols, worst, worst+1)
	}
	spare := max(0, w-total())
	growing := 0
	for _, c := range cols {
		if tb.columns[c].grow {
			growing++
		}
	}
	for _, c := range cols {
		width := tb.columns[c].w
		if tb.columns[c].grow {
			share := spare / growing
			width += share
			spare -= share
			growing--
		}
		widths = append(widths, width)
	}
	return cols, widths
}

// draw draws the table on w × h cells.
func (tb *table) draw(t *theme.Theme, w, h int) []string {
	if w <= 0 || h <= 0 {
		return nil
	}
	cols, widths := tb.fit(w - 1) // numbers do not touch the border
	headRow := paint.NewRow(w, theme.Style{}).Put(t.Dim, "  ")
	for i, c := range cols {
		if i > 0 {
			headRow.Put(t.Dim, "  ")
		}
		put(headRow, tb.columns[c], t.Dim, tb.columns[c].title, widths[i])
	}
	rows := []string{headRow.String()}
	if tb.n == 0 {
		return append(rows, paint.Text(w, t.Dim, "  "+tb.empty))
	}
	for i := tb.list.top; i < min(tb.n, tb.list.top+h-1); i++ {
		base, mark := theme.Style{}, "  "
		if tb.marked != nil && tb.marked(i) {
			base = t.Selected
		}
		if i == tb.list.at {
			mark = t.Glyph.Here + " "
			if tb.focused {
				base = t.Cursor
			}
		}
		r := paint.NewRow(w, base).Put(t.Accent, mark)
		for k, c := range cols {
			if k > 0 {
				r.Put(theme.Style{}, "  ")
			}
			s, style := tb.cell(i, c)
			put(r, tb.columns[c], style, s, widths[k])
		}
		rows = append(rows, r.String())
	}
	return rows
}

func put(r *paint.Row, c column, s theme.Style, str string, w int) {
	if c.right {
		r.Num(s, text.Clip(str, w), w)
	} else {
		r.Col(s, str, w)
	}
}
