// Package bench is the screen that compares speed and memory of subnets.
package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/explorer/report"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// A Screen compares speed and memory of subnets.
type Screen struct {
	host  screen.Host
	id    explorer.BenchID // the benchmark on the screen; "" is the newest
	list  widget.List
	chart int // the quantity that the chart shows
	find  string
}

// The quantities of the chart.
const (
	chartGeneration = iota
	chartPrefill
	chartFirstToken
	charts
)

// New returns the screen.
func New(host screen.Host) screen.Screen { return &Screen{host: host} }

// Name is the screen's name.
func (s *Screen) Name() string { return "bench" }

// Title is the name of its tab.
func (s *Screen) Title() string { return "Bench" }

func (s *Screen) snap() *explorer.Snapshot { return s.host.Snapshot() }

// Actions returns the table of actions on the screen.
func (s *Screen) Actions() []*action.Action {
	none := func() string {
		if _, ok := s.current(s.snap()); !ok {
			return "there is no benchmark yet"
		}
		return ""
	}
	running := func() string {
		if b, ok := s.current(s.snap()); !ok || b.Done {
			return "no benchmark is running"
		}
		return ""
	}
	return []*action.Action{
		{ID: "bench.start", Keys: []string{"enter", "s"}, Title: "Start a benchmark", Short: "start", Changes: true, Engine: true,
			Help: "Prompt and generation speed as llama-bench measures them, memory and load time; the dense model first.", Run: func() tea.Cmd { return s.form(s.host.Selection()) }},
		{ID: "bench.stop", Keys: []string{"x"}, Title: "Stop the benchmark", Short: "stop", Changes: true, When: running, Run: func() tea.Cmd {
			b, _ := s.current(s.snap())
			j, _ := s.snap().Job(b.Job)
			return widget.Stop(s.host, j)
		}},
		{ID: "bench.list", Keys: []string{"l"}, Title: "Go to another benchmark", Short: "others", When: none, Run: s.pickBench},
		{ID: "bench.chart", Keys: []string{"tab"}, Title: "Chart generation speed, prompt speed or first-token time", Short: "chart", Run: func() tea.Cmd {
			s.chart = (s.chart + 1) % charts
			return nil
		}},
		{ID: "bench.export", Keys: []string{"w"}, Title: "Export as text, CSV, JSON or Go benchmark lines", Short: "export", When: none, Run: s.export},
		{ID: "bench.copy", Keys: []string{"y"}, Title: "Copy the table as text", When: none, Run: func() tea.Cmd {
			b, _ := s.current(s.snap())
			out, err := report.Bench(b, report.Text)
			if err != nil {
				s.host.Fail(err)
				return nil
			}
			return s.host.Copy(string(out), "the table")
		}},
		{ID: "bench.chat", Keys: []string{"c"}, Title: "Chat with the subnet of the row, alongside the dense model", Short: "chat", Changes: true, Engine: true, When: none, Run: func() tea.Cmd {
			b, _ := s.current(s.snap())
			rows := s.rows(b)
			if s.list.At >= len(rows) {
				return nil
			}
			return s.host.Ask(screen.ChatWith{Subnet: rows[s.list.At].Subnet})
		}},
		{ID: "bench.down", Keys: []string{"down", "j"}, Title: "Next row", Run: func() tea.Cmd { return s.move(1) }},
		{ID: "bench.up", Keys: []string{"up", "k"}, Title: "Previous row", Run: func() tea.Cmd { return s.move(-1) }},
		{ID: "bench.pagedown", Keys: []string{"pgdown", "ctrl+d"}, Title: "Ten rows down", Run: func() tea.Cmd { return s.move(10) }},
		{ID: "bench.pageup", Keys: []string{"pgup", "ctrl+u"}, Title: "Ten rows up", Run: func() tea.Cmd { return s.move(-10) }},
		{ID: "bench.first", Keys: []string{"home", "g"}, Title: "First row", Run: func() tea.Cmd { return s.move(-1 << 20) }},
		{ID: "bench.last", Keys: []string{"end", "G"}, Title: "Last row", Run: func() tea.Cmd { return s.move(1 << 20) }},
	}
}

// current is the benchmark on the screen; ok is false when there is none.
func (s *Screen) current(snap *explorer.Snapshot) (explorer.Bench, bool) {
	if s.id != "" {
		if b, ok := snap.Bench(s.id); ok {
			return b, true
		}
	}
	if len(snap.Benches) > 0 {
		return snap.Benches[0], true
	}
	return explorer.Bench{}, false
}

func (s *Screen) move(by int) tea.Cmd {
	b, _ := s.current(s.snap())
	s.list.Move(by, len(s.rows(b)))
	return nil
}

// rows are the rows of a benchmark that are found.
func (s *Screen) rows(b explorer.Bench) []explorer.BenchRow {
	if s.find == "" {
		return b.Rows
	}
	var out []explorer.BenchRow
	for _, r := range b.Rows {
		if widget.Contains(cmp.Or(r.Label, string(r.Subnet))+" "+r.Test, s.find) {
			out = append(out, r)
		}
	}
	return out
}

// Find narrows the table.
func (s *Screen) Find(text string) { s.find, s.list = text, widget.List{} }

// Found returns the text that the table is narrowed by.
func (s *Screen) Found() (text string, n, of int) {
	b, _ := s.current(s.snap())
	return s.find, len(s.rows(b)), len(b.Rows)
}

// Next moves to the next row.
func (s *Screen) Next(by int) { s.move(by) }

// Follow adjusts the screen to a new snapshot.
func (s *Screen) Follow() {}

// Back handles esc.
func (s *Screen) Back() (bool, tea.Cmd) { return false, nil }

// Status returns live numbers for the footer.
func (s *Screen) Status() string {
	b, ok := s.current(s.snap())
	if !ok || b.Done {
		return ""
	}
	if j, ok := s.snap().Job(b.Job); ok {
		return text.Line(j.Progress.Step)
	}
	return ""
}

// Mouse handles a mouse event inside a pane.
func (s *Screen) Mouse(p screen.Pane, e screen.MouseEvent) tea.Cmd {
	switch {
	case e.Kind == screen.Wheel && p.ID == "bench.table":
		return s.move(e.Delta)
	case e.Kind == screen.Click && p.ID == "bench.table":
		if b, _ := s.current(s.snap()); e.Y >= 2 && s.list.Top+e.Y-2 < len(s.rows(b)) {
			s.list.At = s.list.Top + e.Y - 2
		}
	case e.Kind == screen.Click && p.ID == "bench.chart":
		s.chart = (s.chart + 1) % charts
	}
	return nil
}

func (s *Screen) pickBench() tea.Cmd {
	return widget.Pick(s.host, "benchmarks", func() []widget.Choice {
		var out []widget.Choice
		for _, b := range s.snap().Benches {
			names := make([]string, len(b.Settings.Subnets))
			for i, id := range b.Settings.Subnets {
				names[i] = subnets.Name(s.snap(), id)
			}
			out = append(out, widget.Choice{Title: strings.Join(names, ", "), Detail: b.Created.Local().Format("2 Jan 15:04"), Run: func() tea.Cmd {
				s.id, s.list = b.ID, widget.List{}
				return nil
			}})
		}
		return out
	})
}

// Answer asks what to measure of subnets.
func (s *Screen) Answer(r screen.Request) (tea.Cmd, bool) {
	if r, ok := r.(screen.Benchmark); ok {
		return s.form(r.Subnets), true
	}
	return nil, false
}

// Announce reports that a benchmark is done.
func (s *Screen) Announce(j explorer.Job) string {
	if j.Kind == explorer.JobBench {
		return "the benchmark is done: Bench shows it"
	}
	return ""
}

// form asks how to benchmark subnets beside the dense model.
func (s *Screen) form(ids []explorer.SubnetID) tea.Cmd {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id explorer.SubnetID) bool { return id == explorer.DenseID })
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = subnets.Name(s.snap(), id)
	}
	note := "the dense model"
	if len(names) > 0 {
		note += " against " + strings.Join(names, ", ")
	} else {
		note += " alone; mark subnets in Library to compare them"
	}
	return tea.Batch(s.host.Show(s.Name()), s.host.Open(&widget.Form{Title: "benchmark", OK: "start", Note: note, Entries: []*widget.Entry{
		widget.TextEntry("prompt", "prompt tokens", "512", "lengths of prompts, separated by commas (pp512)", checkCounts(1)),
		widget.TextEntry("generate", "generate", "128", "tokens generated per run (tg128)", widget.CountIn(1, 1<<16)),
		widget.TextEntry("depth", "depth", "0", "tokens in the context before each test, separated by commas", checkCounts(0)),
		widget.TextEntry("repeats", "repeats", "5", "runs per test, after a warm-up", widget.CountIn(1, 100)),
		widget.TextEntry("threads", "threads", "", "processor threads; empty: one per core", widget.CountIn(1, 1024)),
		widget.TextEntry("gpu", "gpu layers", cmp.Or(s.snap().Model.GPU, infer.GPUAuto), "off, auto for as many as fit, or a number", subnets.CheckGPU),
		widget.TextEntry("batch", "batch", "512", "prompt tokens computed at once", widget.CountIn(1, 1<<16)),
		widget.ToggleEntry("flash", "flash attention", true, "attention without the matrix of scores"),
		widget.ChoiceEntry("kv", "KV cache", infer.KVF16, "type of the KV cache; others than f16 need flash attention", infer.KVF16, infer.KVQ80, infer.KVQ40),
		subnets.TypeEntry("type of the matrices of subnets", gguf.WritableNames()...),
	}, Submit: func(f *widget.Form) tea.Cmd {
		b := explorer.BenchSettings{Subnets: append([]explorer.SubnetID{explorer.DenseID}, ids...), Prompt: counts(f.Get("prompt")), Generate: f.Count("generate"),
			Depth: counts(f.Get("depth")), Batch: f.Count("batch"), NoFlashAttention: !f.Yes("flash"), KVType: f.Get("kv"), Repeats: f.Count("repeats"), Threads: f.Count("threads"), GPULayers: subnets.GPULayers(f.Get("gpu")), Type: subnets.TypeOf(f)}
		return s.host.Do(explorer.StartBench{Settings: b}, func(r explorer.Receipt) tea.Cmd {
			s.id, s.list = r.Bench, widget.List{}
			return s.host.Show(s.Name())
		})
	}}))
}

// checkCounts checks whole numbers of at least lo, separated by commas.
func checkCounts(lo int) func(string) error {
	return func(s string) error {
		for _, w := range strings.Split(s, ",") {
			if n, err := strconv.Atoi(strings.TrimSpace(w)); err != nil || n < lo || n > 1<<20 {
				return fmt.Errorf("must be whole numbers from %d to %d, separated by commas", lo, 1<<20)
			}
		}
		return nil
	}
}

func counts(s string) []int {
	var out []int
	for _, w := range strings.Split(s, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(w)); err == nil {
			out = append(out, n)
		}
	}
	return out
}

func (s *Screen) export() tea.Cmd {
	b, _ := s.current(s.snap())
	return widget.Pick(s.host, "export as", func() []widget.Choice {
		ext := map[string]string{report.Text: "txt", report.CSV: "csv", report.JSON: "json", report.Go: "txt"}
		var out []widget.Choice
		for _, format := range report.BenchFormats() {
			out = append(out, widget.Choice{Title: format, Run: func() tea.Cmd {
				data, err := report.Bench(b, format)
				if err != nil {
					s.host.Fail(err)
					return nil
				}
				return subnets.ExportText(s.host, "benchmark", "bench."+ext[format], string(data))
			}})
		}
		return out
	})
}

// Panes lays the screen out.
func (s *Screen) Panes(area layout.Rect) []screen.Pane {
	snap := s.snap()
	rev := max(snap.Sections[explorer.SectionBenches], snap.Sections[explorer.SectionJobs], snap.Sections[explorer.SectionSubnets])
	b, _ := s.current(snap)
	table, rest := area.CutTop(layout.Clamp(len(b.Rows)+3, 6, max(6, area.H*3/5)))
	words, rest := rest.CutTop(layout.Clamp(len(drawSummary(s.host.Theme(), b, area.W, 6)), 1, max(1, rest.H/4)))
	s.list.Clamp(len(s.rows(b)), max(1, table.H-3))
	st := struct {
		id    explorer.BenchID
		list  widget.List
		chart int
		find  string
	}{b.ID, s.list, s.chart, s.find}
	return []screen.Pane{
		{ID: "bench.table", Rect: table, Rev: rev, State: st, Draw: func(t *theme.Theme, w, h int) []string { return s.drawTable(t, b, w, h) }},
		{ID: "bench.words", Rect: words, Rev: rev, State: st.id, Draw: func(t *theme.Theme, w, h int) []string { return drawSummary(t, b, w, h) }},
		{ID: "bench.chart", Rect: rest, Rev: rev, State: st, Draw: func(t *theme.Theme, w, h int) []string { return s.drawChart(t, b, w, h) }},
	}
}

// drawSummary draws the comparison in words; what does not fit into h rows is left out.
func drawSummary(t *theme.Theme, b explorer.Bench, w, h int) []string {
	var rows []string
	for i, l := range report.BenchSummary(b) {
		style := t.Strong
		if b.Busy() && i == len(report.BenchSummary(b))-1 {
			style = t.Warn
		}
		for k, part := range text.Wrap(text.Line(l), max(1, w-4)) {
			mark := "  "
			if k == 0 && part != "" {
				mark = t.Glyph.Here + " "
			}
			if len(rows) < h {
				rows = append(rows, widget.Line(w).Put(t.Accent, mark).Put(style, part).String())
			}
		}
	}
	return rows
}

func (s *Screen) drawTable(t *theme.Theme, b explorer.Bench, w, h int) []string {
	snap := s.snap()
	found := s.rows(b)
	pm := t.Glyph.PlusMinus
	spread := func(sp explorer.Spread) string {
		if sp.Runs == 0 {
			return text.None
		}
		return sp.Text(pm)
	}
	title := "speed and memory"
	if b.Settings.Repeats > 0 {
		title += ", " + format.Counted(b.Settings.Repeats, "run")
	}
	if s.find != "" {
		title += " /" + text.Line(s.find)
	}
	note := ""
	if at := slices.IndexFunc(b.Rows, func(r explorer.BenchRow) bool { return r.GPU > 0 || r.Fallback != "" }); at >= 0 {
		note = text.Clip(text.Line(cmp.Or(b.Rows[at].Fallback, b.Rows[at].Placement)), max(0, w-len(title)-8))
	}
	if j, ok := snap.Job(b.Job); ok && !b.Done && j.Kind == explorer.JobBench && !j.State.Ended() { // jobs of an earlier process had the same names
		note = string(j.State) + " " + text.Percent(j.Progress.Fraction())
	}
	empty := "nothing measured yet: " + s.host.Key("bench.start") + " starts a benchmark"
	if snap.Model.NoRuntime != "" {
		empty = snap.Model.NoRuntime
	}
	tb := widget.Table{
		Columns: []widget.Column{
			{Title: "subnet", W: 12, Grow: true}, {Title: "test", W: 11}, {Title: "tokens/s", W: 15, Right: true},
			{Title: "against dense", W: 13, Right: true, Rank: 1}, {Title: "time", W: 13, Right: true, Rank: 3}, {Title: "memory", W: 8, Right: true, Rank: 2},
			{Title: "GPU", W: 8, Right: true, Rank: 4}, {Title: "file", W: 8, Right: true, Rank: 5}, {Title: "load", W: 7, Right: true, Rank: 7}, {Title: "× dense", W: 7, Right: true, Rank: 6},
		},
		N: len(found), List: s.list, Focused: true, Empty: empty,
		Cell: func(i, col int) (string, theme.Style) {
			r := found[i]
			style := t.Text
			if r.Subnet == explorer.DenseID {
				style = t.Dense
			}
			if r.Pending {
				style = t.Dim
			}
			switch col {
			case 0:
				return text.Line(cmp.Or(r.Label, string(r.Subnet))), style
			case 1:
				return text.Line(r.Test), style
			case 2:
				if r.Err != "" {
					return text.Line(r.Err), t.Bad
				}
				if r.Pending && r.Speed.Runs == 0 {
					return t.Glyph.Ellipsis, t.Pending
				}
				return spread(r.Speed), style
			case 3:
				d, ok := report.Difference(b, r)
				switch {
				case !ok:
					return text.None, style
				case d.OneRun:
					return "one run", t.Dim
				case !d.Differs:
					return "no difference", t.Dim
				}
				return fmt.Sprintf("%s %.2f", t.Glyph.Times, d.Ratio), style
			case 4:
				return timeOf(r), style
			case 5:
				return text.BytesOr(r.Memory), style
			case 6:
				if r.GPU == 0 && r.Speed.Runs > 0 {
					return "none", style
				}
				return text.BytesOr(r.GPU), style
			case 7:
				return text.BytesOr(r.FileBytes), style
			case 8:
				return text.Short(r.Load), style
			}
			return text.Relative(r.Relative), style
		},
	}
	return widget.Box(t, paint.Frame{Title: title, Note: note, Focused: true, Foot: widget.ScrollNote(s.list.Top, h-3, len(found))}, w, h, func(w, h int) []string { return tb.Draw(t, w, h) })
}

func (s *Screen) drawChart(t *theme.Theme, b explorer.Bench, w, h int) []string {
	name := [...]string{"generation, tokens per second", "prompt, tokens per second", "first token, seconds"}[s.chart]
	var ids []explorer.SubnetID
	points, spreads := map[explorer.SubnetID][]chart.Point{}, map[explorer.SubnetID][]float64{}
	label := map[explorer.SubnetID]string{}
	for _, r := range b.Rows {
		if !slices.Contains(ids, r.Subnet) {
			ids = append(ids, r.Subnet)
			label[r.Subnet] = text.Clip(text.Line(cmp.Or(r.Label, string(r.Subnet))), 20)
		}
		if p, spread, ok := s.point(r); ok {
			points[r.Subnet], spreads[r.Subnet] = append(points[r.Subnet], p), append(spreads[r.Subnet], spread)
		}
	}
	p := chart.Plot{X: chart.Axis{Label: "tokens in the context", Integer: true, Zero: true}, Y: chart.Axis{Zero: true}, Legend: true, Empty: "no measurement yet"}
	for i, id := range ids {
		style, glyph := t.SeriesAt(i-1), t.Glyph.Dot
		if id == explorer.DenseID {
			style, glyph = t.Dense, t.Glyph.Diamond
		}
		p.Series = append(p.Series, chart.Series{Name: label[id], Style: style, Points: points[id], Spread: spreads[id], Join: true, Glyph: glyph})
	}
	note := "tab"
	if rows := s.rows(b); s.list.At < len(rows) {
		r := rows[s.list.At]
		if at, spread, ok := s.point(r); ok {
			p.Marks = append(p.Marks, chart.Mark{Point: at, Glyph: t.Glyph.Ring, Style: t.Strong})
			note = fmt.Sprintf("%s %s: %.3g", label[r.Subnet], text.Line(r.Test), at.Y)
			if r.Speed.Runs > 1 {
				note += fmt.Sprintf(" %s %.2g", t.Glyph.PlusMinus, spread)
			}
		}
	}
	return widget.Box(t, paint.Frame{Title: name, Note: note}, w, h, func(w, h int) []string { return p.Draw(t, w, h) })
}

// timeOf is the time of a test, and what it is of: a whole prompt or a token. It is text.None where the test was not measured.
func timeOf(r explorer.BenchRow) string {
	of := "prompt"
	if r.Generate > 0 {
		of = "token"
	}
	if r.Seconds() == 0 {
		return text.None
	}
	return text.Short(text.Seconds(r.Seconds())) + "/" + of
}

// point returns where a test is in the chart, over the tokens in the context at its end, and the standard deviation of its runs; ok is
// false where it is not in it.
func (s *Screen) point(r explorer.BenchRow) (p chart.Point, spread float64, ok bool) {
	p, spread = chart.Point{X: float64(r.Depth + r.Prompt + r.Generate), Y: r.Speed.Mean}, r.Speed.Deviation
	if s.chart == chartGeneration {
		return p, spread, r.Speed.Runs > 0 && r.Generate > 0
	}
	if s.chart == chartFirstToken {
		p.Y = r.Seconds()
		if r.Speed.Mean > 0 {
			spread *= p.Y / r.Speed.Mean
		}
	}
	return p, spread, r.Speed.Runs > 0 && r.Prompt > 0
}
