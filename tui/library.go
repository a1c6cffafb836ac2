package tui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// libraryScreen lists every subnet that was kept.
type libraryScreen struct {
	list   list
	chosen explorer.SubnetID // under the cursor, so that it stays there when the order changes
	marked map[explorer.SubnetID]bool
	sort   int // index into libraryColumns
	down   bool
}

// The columns of the library, which are also what it can be sorted by.
const (
	colName = iota
	colOrigin
	colShare
	colBytes
	colPerplexity
	colRelative
	colHeldOut
	colSpeed
	colDate
	libraryColumns
)

func newLibraryScreen() *libraryScreen {
	return &libraryScreen{marked: map[explorer.SubnetID]bool{}, sort: colDate, down: true}
}

// A libraryRow is a subnet with the numbers that compare it. Perplexities are those of the newest measurement, so rows may
// differ in their conditions; the detail says which.
type libraryRow struct {
	explorer.Subnet
	perplexity, relative, speed float64
}

// rows are the subnets in the order they are shown.
func (s *libraryScreen) rows(snap *explorer.Snapshot) []libraryRow {
	out := make([]libraryRow, len(snap.Subnets))
	for i, n := range snap.Subnets {
		out[i] = libraryRow{Subnet: n, speed: speedOf(snap, n.ID)}
		if k := newest(n); k != nil {
			out[i].perplexity, out[i].relative = k.Perplexity, k.Relative()
		}
	}
	known := func(a, b float64) (c int, both bool) { // what was not measured comes last, whichever way
		if (a > 0) != (b > 0) {
			return -cmp.Compare(a, b), false
		}
		return cmp.Compare(a, b), true
	}
	slices.SortStableFunc(out, func(a, b libraryRow) int {
		c, both := 0, true
		switch s.sort {
		case colName:
			c = cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
		case colOrigin:
			c = cmp.Compare(a.Origin, b.Origin)
		case colShare:
			c = cmp.Compare(a.Size.Ratio, b.Size.Ratio)
		case colBytes:
			c = cmp.Compare(a.Bytes, b.Bytes)
		case colPerplexity:
			c, both = known(a.perplexity, b.perplexity)
		case colRelative:
			c, both = known(a.relative, b.relative)
		case colHeldOut:
			c, both = known(a.HeldOut.Perplexity, b.HeldOut.Perplexity)
		case colSpeed:
			c, both = known(a.speed, b.speed)
		case colDate:
			c = a.Created.Compare(b.Created)
		}
		if s.down && both {
			return -c
		}
		return c
	})
	return out
}

// speedOf is the generation speed of a subnet in the newest benchmark that has it, at its shortest context; 0 if none.
func speedOf(snap *explorer.Snapshot, id explorer.SubnetID) float64 {
	for _, b := range snap.Benches {
		for _, r := range b.Rows {
			if r.Subnet == id && r.Generation.Runs > 0 {
				return r.Generation.Mean
			}
		}
	}
	return 0
}

// selected is the subnet under the cursor.
func (s *libraryScreen) selected(m *Model) (explorer.Subnet, bool) {
	rows := s.rows(m.snap)
	if len(rows) == 0 {
		return explorer.Subnet{}, false
	}
	i := slices.IndexFunc(rows, func(r libraryRow) bool { return r.ID == s.chosen })
	if i < 0 {
		i = clamp(s.list.at, 0, len(rows)-1)
	}
	return rows[i].Subnet, true
}

// markedOrChosen are the marked subnets in the order shown, or the one under the cursor.
func (s *libraryScreen) markedOrChosen(m *Model) []explorer.SubnetID {
	var out []explorer.SubnetID
	for _, r := range s.rows(m.snap) {
		if s.marked[r.ID] {
			out = append(out, r.ID)
		}
	}
	if n, ok := s.selected(m); len(out) == 0 && ok {
		out = append(out, n.ID)
	}
	return out
}

func (s *libraryScreen) follow(m *Model) {
	rows := s.rows(m.snap)
	for id := range s.marked {
		if !slices.ContainsFunc(rows, func(r libraryRow) bool { return r.ID == id }) {
			delete(s.marked, id)
		}
	}
	if i := slices.IndexFunc(rows, func(r libraryRow) bool { return r.ID == s.chosen }); i >= 0 {
		s.list.at = i
		return
	}
	s.list.at = clamp(s.list.at, 0, max(0, len(rows)-1))
	s.chosen = ""
	if len(rows) > 0 {
		s.chosen = rows[s.list.at].ID
	}
}

func (s *libraryScreen) move(m *Model, by int) tea.Cmd {
	rows := s.rows(m.snap)
	if len(rows) == 0 {
		return nil
	}
	s.list.move(by, len(rows))
	s.chosen = rows[s.list.at].ID
	return nil
}

func (s *libraryScreen) status(m *Model) string {
	out := fmt.Sprintf("%d %s", len(m.snap.Subnets), plural(len(m.snap.Subnets), "subnet", "subnets"))
	if len(s.marked) > 0 {
		out += fmt.Sprintf(", %d marked", len(s.marked))
	}
	return out
}

func (s *libraryScreen) back(*Model) (bool, tea.Cmd) {
	if len(s.marked) == 0 {
		return false, nil
	}
	clear(s.marked)
	return true, nil
}

func (s *libraryScreen) mouse(m *Model, p pane, e mouseEvent) tea.Cmd {
	switch {
	case e.kind == mouseWheel && p.id == "library.table":
		return s.move(m, e.delta)
	case e.kind == mouseClick && p.id == "library.table":
		rows := s.rows(m.snap)
		if i := s.list.top + e.y - 2; e.y >= 2 && i < len(rows) {
			again := s.chosen == rows[i].ID
			s.list.at, s.chosen = i, rows[i].ID
			if e.shift {
				s.marked[s.chosen] = true
			} else if again {
				return m.perform(m.action("library.details"))
			}
		}
	case e.kind == mouseClick && p.id == "library.front":
		rows := s.rows(m.snap)
		points := make([]chart.Point, len(rows))
		for i, r := range rows {
			points[i] = chart.Point{X: r.Size.Ratio, Y: r.relative}
		}
		plot := s.plot(m.theme, m.snap)
		if i := plot.Nearest(p.rect.W-2, p.rect.H-2, e.x-1, e.y-1, points); i >= 0 {
			s.list.at, s.chosen = i, rows[i].ID
		}
	}
	return nil
}

func (s *libraryScreen) panes(m *Model, area layout.Rect) []pane {
	snap := m.snap
	if s.chosen == "" {
		s.follow(m)
	}
	table, rest := area.CutTop(clamp(len(snap.Subnets)+3, 6, max(6, area.H*11/20)))
	var front, detail layout.Rect
	if layout.Single(area) {
		detail = rest
	} else {
		cols := rest.Columns(1, 1)
		detail, front = cols[0], cols[1]
	}
	s.list.clamp(len(snap.Subnets), max(1, table.H-3))
	rev := max(snap.Sections[explorer.SectionSubnets], snap.Sections[explorer.SectionBenches], snap.Sections[explorer.SectionModel], snap.Sections[explorer.SectionSearch])
	st := struct {
		list   list
		chosen explorer.SubnetID
		marks  string
		sort   int
		down   bool
	}{s.list, s.chosen, "", s.sort, s.down}
	if len(s.marked) > 0 {
		st.marks = fmt.Sprint(s.marked)
	}
	return []pane{
		{id: "library.table", rect: table, rev: rev, state: st, draw: func(t *theme.Theme, w, h int) []string { return s.drawTable(m, t, w, h) }},
		{id: "library.detail", rect: detail, rev: rev, state: st, draw: func(t *theme.Theme, w, h int) []string { return s.drawDetail(m, t, w, h) }},
		{id: "library.front", rect: front, rev: rev, state: st, draw: func(t *theme.Theme, w, h int) []string {
			return box(t, paint.Frame{Title: "size and perplexity"}, w, h, func(w, h int) []string { return s.plot(t, snap).Draw(t, w, h) })
		}},
	}
}

func (s *libraryScreen) drawTable(m *Model, t *theme.Theme, w, h int) []string {
	snap := m.snap
	rows := s.rows(snap)
	key := func(id string) string { return m.hintKey(m.action(id)) }
	columns := []column{
		colName: {title: "name", w: 14, grow: true}, colOrigin: {title: "origin", w: 9, rank: 4}, colShare: {title: "share", w: 6, right: true}, colBytes: {title: "bytes", w: 8, right: true, rank: 1},
		colPerplexity: {title: "ppl", w: 6, right: true}, colRelative: {title: "× dense", w: 7, right: true, rank: 3}, colHeldOut: {title: "held-out", w: 9, right: true, rank: 5},
		colSpeed: {title: "tok/s", w: 6, right: true, rank: 2}, colDate: {title: "made", w: 12, rank: 6},
	}
	arrow := t.Glyph.Up
	if s.down {
		arrow = t.Glyph.Down
	}
	columns[s.sort].title += arrow
	tb := table{columns: columns, n: len(rows), list: s.list, focused: true, empty: fmt.Sprintf("nothing yet: %s on Search adopts a candidate, %s there cuts, %s on Masks saves", key("search.adopt"), key("search.cut"), key("masks.save")),
		marked: func(i int) bool { return s.marked[rows[i].ID] },
		cell: func(i, col int) (string, theme.Style) {
			r := rows[i]
			switch col {
			case colName:
				name, style := text.Line(r.Name), t.Strong
				if s.marked[r.ID] {
					name = "+ " + name
				}
				return name, style
			case colOrigin:
				style := t.Dim
				if r.Origin == explorer.Edited {
					style = t.Yours
				}
				return string(r.Origin), style
			case colShare:
				return fmt.Sprintf("%.3f", r.Size.Ratio), t.Text
			case colBytes:
				return bytesOr(r.Bytes), t.Text
			case colPerplexity:
				return text.Perplexity(r.perplexity), t.Text
			case colRelative:
				if r.relative == 0 {
					return text.None, t.Dim
				}
				return fmt.Sprintf("%.2f", r.relative), t.Text
			case colHeldOut:
				return text.Perplexity(r.HeldOut.Perplexity), t.Dim
			case colSpeed:
				if r.speed == 0 {
					return text.None, t.Dim
				}
				return fmt.Sprintf("%.1f", r.speed), t.Text
			}
			return dateLabel(r.Created), t.Dim
		}}
	note := ""
	if n := len(snap.Trash); n > 0 {
		note = fmt.Sprintf("%d in the trash", n)
	}
	return box(t, paint.Frame{Title: "library", Note: note, Focused: true, Foot: scrollNote(s.list.top, h-3, len(rows))}, w, h, func(w, h int) []string { return tb.draw(t, w, h) })
}

// plot charts all subnets by size and perplexity, with the front of the search behind them. Perplexity is relative to the
// dense model's on the same text: a search and a measurement seldom have the same.
func (s *libraryScreen) plot(t *theme.Theme, snap *explorer.Snapshot) chart.Plot {
	var front, all []chart.Point
	if dense := snap.Search.DensePerplexity; dense > 0 {
		for _, c := range snap.Search.Front {
			if perplexity := c.Score.Perplexity(); perplexity > 0 {
				front = append(front, chart.Point{X: c.Ratio, Y: perplexity / dense})
			}
		}
		slices.SortFunc(front, func(a, b chart.Point) int { return cmp.Compare(a.X, b.X) })
	}
	p := chart.Plot{X: chart.Axis{Label: "share"}, Y: chart.Axis{Label: "ppl, × dense"}, Empty: "no subnet was measured yet", Legend: true}
	for _, r := range s.rows(snap) {
		if r.relative <= 0 {
			continue
		}
		at := chart.Point{X: r.Size.Ratio, Y: r.relative}
		all = append(all, at)
		if r.ID == s.chosen {
			p.Marks = append(p.Marks, chart.Mark{Point: at, Glyph: t.Glyph.Ring, Label: text.Clip(text.Line(r.Name), 16), Style: t.Strong})
		}
	}
	p.Series = []chart.Series{{Name: "front", Style: t.Front, Points: front, Join: true}, {Name: "library", Style: t.Subnet, Points: all, Glyph: t.Glyph.Dot}}
	return p
}
