// Package library is the screen that lists the subnets of a workspace.
package library

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// A Screen lists the subnets of the library.
type Screen struct {
	costs  subnets.Costs
	host   screen.Host
	list   widget.List
	chosen explorer.SubnetID // under the cursor, so that it stays there when the order changes
	marked map[explorer.SubnetID]bool
	sort   int // index into libraryColumns
	down   bool
	find   string
	// restored are the subnets whose deletion was undone, the last one to be deleted again first.
	restored []explorer.SubnetID
}

// The columns of the table. It can be sorted by each of them.
const (
	colName = iota
	colOrigin
	colShare
	colBytes
	colRelative
	colPerplexity
	colText
	colWeights
	colSpeed
	colDate
	libraryColumns
)

// New returns the screen.
func New(host screen.Host) screen.Screen {
	return &Screen{host: host, marked: map[explorer.SubnetID]bool{}, sort: colDate, down: true}
}

// Name is the screen's name.
func (s *Screen) Name() string { return "library" }

// Title is the name of its tab.
func (s *Screen) Title() string { return "Library" }

func (s *Screen) snap() *explorer.Snapshot { return s.host.Snapshot() }

// cost returns what masks of the model cost.
func (s *Screen) cost(masks subnet.Masks) subnets.Cost {
	return s.costs.Of(masks, &s.snap().Model)
}

// A libraryRow is a subnet with the numbers it is compared by. Rows may differ in the
// text of their figure, which the detail shows.
type libraryRow struct {
	explorer.Subnet
	perplexity, relative, speed float64
	text                        string // that these were measured on
}

// rows are the subnets that are found, in the order they are shown.
func (s *Screen) rows(snap *explorer.Snapshot) []libraryRow {
	out := make([]libraryRow, 0, len(snap.Subnets))
	for _, n := range snap.Subnets {
		if s.find != "" && !widget.Contains(strings.Join([]string{string(n.ID), n.Name, string(n.Origin), weights(n), n.Method.Preset, n.Note, n.Author}, " "), s.find) {
			continue
		}
		f := n.Figure()
		out = append(out, libraryRow{Subnet: n, speed: speedOf(snap, n.ID), perplexity: f.Perplexity, relative: f.Relative, text: measuredOn(f)})
	}
	known := func(a, b float64) (c int, both bool) { // subnets without a measurement come last in both directions
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
		case colText:
			c = cmp.Compare(a.text, b.text)
		case colWeights:
			c = cmp.Compare(weights(a.Subnet), weights(b.Subnet))
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

// measuredOn names the text of a figure, "" where there is none.
func measuredOn(f explorer.Figure) string {
	if f.Perplexity <= 0 {
		return ""
	}
	return baseName(f.Text)
}

// usualText is the text that most rows are measured on: figures on others do not compare with theirs.
func usualText(rows []libraryRow) string {
	count, most := map[string]int{}, ""
	for _, r := range rows {
		if r.text == "" {
			continue
		}
		if count[r.text]++; most == "" || count[r.text] > count[most] {
			most = r.text
		}
	}
	return most
}

// weights describes the weights of a subnet.
func weights(n explorer.Subnet) string {
	switch {
	case n.Method.Tune != nil:
		return "re-fitted, tuned"
	case n.Refitted():
		return "re-fitted"
	}
	return "original"
}

// speedOf returns the generation speed of a subnet in the newest benchmark that has it, at its smallest depth; 0 if none.
func speedOf(snap *explorer.Snapshot, id explorer.SubnetID) float64 {
	for _, b := range snap.Benches {
		for _, r := range b.Rows {
			if r.Subnet == id && r.Generate > 0 && r.Speed.Runs > 0 {
				return r.Speed.Mean
			}
		}
	}
	return 0
}

// selected is the subnet under the cursor.
func (s *Screen) selected() (explorer.Subnet, bool) {
	rows := s.rows(s.snap())
	if len(rows) == 0 {
		return explorer.Subnet{}, false
	}
	i := slices.IndexFunc(rows, func(r libraryRow) bool { return r.ID == s.chosen })
	if i < 0 {
		i = layout.Clamp(s.list.At, 0, len(rows)-1)
	}
	return rows[i].Subnet, true
}

// Selection returns the marked subnets in the order shown, or the one under the cursor.
func (s *Screen) Selection() []explorer.SubnetID {
	var out []explorer.SubnetID
	for _, r := range s.rows(s.snap()) {
		if s.marked[r.ID] {
			out = append(out, r.ID)
		}
	}
	if n, ok := s.selected(); len(out) == 0 && ok {
		out = append(out, n.ID)
	}
	return out
}

// Follow adjusts the screen to a new snapshot.
func (s *Screen) Follow() {
	rows := s.rows(s.snap())
	for id := range s.marked {
		if !slices.ContainsFunc(rows, func(r libraryRow) bool { return r.ID == id }) {
			delete(s.marked, id)
		}
	}
	if i := slices.IndexFunc(rows, func(r libraryRow) bool { return r.ID == s.chosen }); i >= 0 {
		s.list.At = i
		return
	}
	s.list.At = layout.Clamp(s.list.At, 0, max(0, len(rows)-1))
	s.chosen = ""
	if len(rows) > 0 {
		s.chosen = rows[s.list.At].ID
	}
}

// Find narrows the table.
func (s *Screen) Find(text string) {
	s.find = text
	s.Follow()
}

// Found returns the text that the table is narrowed by.
func (s *Screen) Found() (text string, n, of int) {
	return s.find, len(s.rows(s.snap())), len(s.snap().Subnets)
}

// Next moves to the next subnet.
func (s *Screen) Next(by int) { s.move(by) }

// Answer goes to a subnet, or moves the cursor to a new one unless the screen is shown.
func (s *Screen) Answer(r screen.Request) (tea.Cmd, bool) {
	if show, ok := r.(screen.ShowSubnet); ok {
		s.find, s.chosen = "", show.Subnet
		s.Follow()
		return s.host.Show(s.Name()), true
	}
	made, ok := r.(screen.Made)
	if ok && s.host.Active() != s.Name() {
		s.chosen = made.Subnet
		s.Follow()
	}
	return nil, ok
}

// Announce reports files that were written or read, and measurements.
func (s *Screen) Announce(j explorer.Job) string {
	snap := s.snap()
	switch j.Kind {
	case explorer.JobExport, explorer.JobRecipe:
		out := ""
		if j.Kind == explorer.JobRecipe && j.Result != "" {
			out = subnets.Name(snap, j.Result) + " is in the library"
		}
		if j.Output != "" {
			bytes := int64(0)
			if j.Report != nil && j.Report.Path == j.Output { // not of a recipe, whose report is that of the file that it builds
				bytes = j.Report.Bytes
			}
			out = strings.TrimPrefix(out+"; "+subnets.Wrote(s.host, j.Output, bytes), "; ")
		}
		return out
	case explorer.JobVocab:
		if n, ok := snap.Subnet(j.Result); ok {
			return text.Line(n.Name) + " is made; " + s.host.Key("library.chat") + " on Library chats with it"
		}
	case explorer.JobFit:
		if j.Fit != nil {
			return fmt.Sprintf("%s is %s", j.Title, j.Fit.Name)
		}
	case explorer.JobImport:
		return subnets.Name(snap, j.Result) + " is in the library"
	case explorer.JobMeasure:
		if n, ok := snap.Subnet(j.Result); ok && len(n.Measurements) > 0 {
			out := "the perplexity of " + subnets.Name(snap, j.Result) + " is "
			if r := n.Measurements[0].Relative(); r > 0 {
				return out + text.Relative(r) + " × dense (" + text.Perplexity(n.Measurements[0].Perplexity) + ")"
			}
			return out + text.Perplexity(n.Measurements[0].Perplexity)
		}
	default: // nothing for the others
	}
	return ""
}

func (s *Screen) move(by int) tea.Cmd {
	rows := s.rows(s.snap())
	if len(rows) == 0 {
		return nil
	}
	s.list.Move(by, len(rows))
	s.chosen = rows[s.list.At].ID
	return nil
}

// Status returns live numbers for the footer.
func (s *Screen) Status() string {
	out := format.Counted(len(s.snap().Subnets), "subnet")
	if len(s.marked) > 0 {
		out += fmt.Sprintf(", %d marked", len(s.marked))
	}
	return out
}

// Back handles esc.
func (s *Screen) Back() (bool, tea.Cmd) {
	if len(s.marked) == 0 {
		return false, nil
	}
	clear(s.marked)
	return true, nil
}

// Mouse handles a mouse event inside a pane.
func (s *Screen) Mouse(p screen.Pane, e screen.MouseEvent) tea.Cmd {
	switch {
	case e.Kind == screen.Wheel && p.ID == "library.table":
		return s.move(e.Delta)
	case e.Kind == screen.Click && p.ID == "library.table":
		rows := s.rows(s.snap())
		if i := s.list.Top + e.Y - 2; e.Y >= 2 && i < len(rows) {
			again := s.chosen == rows[i].ID
			s.list.At, s.chosen = i, rows[i].ID
			if e.Shift {
				s.marked[s.chosen] = true
			} else if again {
				return s.host.Perform("library.details")
			}
		}
	case e.Kind == screen.Click && p.ID == "library.front":
		rows := s.rows(s.snap())
		points := make([]chart.Point, len(rows))
		for i, r := range rows {
			points[i] = chart.Point{X: r.Size.Ratio, Y: r.relative}
		}
		plot := s.plot(s.host.Theme(), s.snap())
		if i := plot.Nearest(p.Rect.W-2, p.Rect.H-2, e.X-1, e.Y-1, points); i >= 0 {
			s.list.At, s.chosen = i, rows[i].ID
		}
	}
	return nil
}

// Panes lays the screen out.
func (s *Screen) Panes(area layout.Rect) []screen.Pane {
	snap := s.snap()
	if s.chosen == "" {
		s.Follow()
	}
	table, rest := area.CutTop(layout.Clamp(len(snap.Subnets)+3, 6, max(6, area.H*11/20)))
	var front, detail layout.Rect
	if layout.Single(area) {
		detail = rest
	} else {
		cols := rest.Columns(1, 1)
		detail, front = cols[0], cols[1]
	}
	s.list.Clamp(len(s.rows(snap)), max(1, table.H-3))
	rev := max(snap.Sections[explorer.SectionSubnets], snap.Sections[explorer.SectionBenches], snap.Sections[explorer.SectionModel], snap.Sections[explorer.SectionSearch])
	st := struct {
		list   widget.List
		chosen explorer.SubnetID
		marks  string
		sort   int
		down   bool
		find   string
	}{s.list, s.chosen, "", s.sort, s.down, s.find}
	if len(s.marked) > 0 {
		st.marks = fmt.Sprint(s.marked)
	}
	return []screen.Pane{
		{ID: "library.table", Rect: table, Rev: rev, State: st, Draw: func(t *theme.Theme, w, h int) []string { return s.drawTable(t, w, h) }},
		{ID: "library.detail", Rect: detail, Rev: rev, State: st, Draw: func(t *theme.Theme, w, h int) []string { return s.drawDetail(t, w, h) }},
		{ID: "library.front", Rect: front, Rev: rev, State: st, Draw: func(t *theme.Theme, w, h int) []string {
			note := ""
			if n, ok := s.selected(); ok && n.Figure().Relative > 0 {
				note = fmt.Sprintf("%.3f, %s × dense", n.Size.Ratio, text.Relative(n.Figure().Relative))
			}
			return widget.Box(t, paint.Frame{Title: "size and perplexity", Note: note}, w, h, func(w, h int) []string { return s.plot(t, snap).Draw(t, w, h) })
		}},
	}
}

func (s *Screen) drawTable(t *theme.Theme, w, h int) []string {
	snap := s.snap()
	rows := s.rows(snap)
	key := s.host.Key
	usual, names, others := usualText(rows), map[string]int{}, false
	for _, r := range rows {
		names[r.Name]++
		others = others || r.relative > 0 && r.text != usual
	}
	columns := []widget.Column{
		colName: {Title: "name", W: 14, Grow: true}, colOrigin: {Title: "origin", W: 9, Rank: 4}, colShare: {Title: "ratio", W: 6, Right: true}, colBytes: {Title: "bytes", W: 8, Right: true, Rank: 1},
		colRelative: {Title: "× dense", W: 7, Right: true}, colPerplexity: {Title: "ppl", W: 6, Right: true, Rank: 3}, colText: {Title: "on", W: 10, Grow: true, Rank: 5}, colWeights: {Title: "weights", W: 9, Rank: 5},
		colSpeed: {Title: "tok/s", W: 6, Right: true, Rank: 2}, colDate: {Title: "made", W: 12, Rank: 6},
	}
	arrow := t.Glyph.Up
	if s.down {
		arrow = t.Glyph.Down
	}
	columns[s.sort].Title += arrow
	tb := widget.Table{Columns: columns, N: len(rows), List: s.list, Focused: true, Empty: fmt.Sprintf("nothing yet: %s on Search adopts a candidate, %s there cuts, %s on Masks saves", key("search.adopt"), key("search.cut"), key("masks.save")),
		Marked: func(i int) bool { return s.marked[rows[i].ID] },
		Cell: func(i, col int) (string, theme.Style) {
			r := rows[i]
			switch col {
			case colName:
				name, style := text.Line(r.Name), t.Strong
				if names[r.Name] > 1 {
					name += " (" + string(r.ID) + ")"
				}
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
				return text.BytesOr(r.Bytes), t.Text
			case colPerplexity:
				return text.Perplexity(r.perplexity), t.Text
			case colRelative:
				if r.relative > 0 && r.text != usual {
					return text.Relative(r.relative) + "*", t.Partial
				}
				return text.Relative(r.relative), t.Strong
			case colText:
				return r.text, t.Dim
			case colWeights:
				if r.Method.Tune != nil { // after a re-fit, as the details have it
					return "tuned", t.Dim
				}
				return weights(r.Subnet), t.Dim
			case colSpeed:
				if r.speed == 0 {
					return text.None, t.Dim
				}
				return fmt.Sprintf("%.1f", r.speed), t.Text
			}
			return text.Date(r.Created), t.Dim
		}}
	title := "library"
	if s.find != "" {
		title += " /" + text.Line(s.find)
		tb.Empty = "nothing matches"
	}
	note := ""
	if n := len(snap.Trash); n > 0 {
		note = fmt.Sprintf("%d in the trash", n)
	}
	if others {
		note = strings.TrimSuffix("* not on "+usual+", "+note, ", ")
	}
	return widget.Box(t, paint.Frame{Title: title, Note: note, Focused: true, Foot: widget.ScrollNote(s.list.Top, h-3, len(rows))}, w, h, func(w, h int) []string { return tb.Draw(t, w, h) })
}

// plot charts all subnets by size and perplexity, with the front of the search behind them. Perplexity is relative to the
// dense model's on the same text, because searches and measurements rarely use the same text.
func (s *Screen) plot(t *theme.Theme, snap *explorer.Snapshot) chart.Plot {
	var front, all []chart.Point
	if dense := snap.Search.DensePerplexity; dense > 0 {
		for _, c := range snap.Search.Front {
			if perplexity := c.Score.Perplexity(); perplexity > 0 {
				front = append(front, chart.Point{X: c.Ratio, Y: perplexity / dense})
			}
		}
		front = chart.Front(front)
	}
	p := chart.Plot{X: chart.Axis{Label: "ratio", Span: 0.1}, Y: chart.Axis{Label: "ppl, × dense", Span: 0.5}, Empty: "no subnet is measured yet", Legend: true}
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
