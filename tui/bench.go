package tui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// benchScreen compares speed and memory of subnets.
type benchScreen struct {
	id    explorer.BenchID // the benchmark on the screen; "" is the newest
	list  list
	chart int // what the chart shows: index into benchCharts
}

// The quantities that the chart can show.
const (
	chartGeneration = iota
	chartPrefill
	chartFirstToken
	benchCharts
)

func newBenchScreen() *benchScreen { return &benchScreen{} }

func benchActions() []*action {
	none := func(m *Model) string {
		if _, ok := m.bench().current(m.snap); !ok {
			return "no benchmark was taken yet"
		}
		return ""
	}
	running := func(m *Model) string {
		if b, ok := m.bench().current(m.snap); !ok || b.Done {
			return "no benchmark runs"
		}
		return ""
	}
	run := func(f func(s *benchScreen, m *Model) tea.Cmd) func(*Model) tea.Cmd {
		return func(m *Model) tea.Cmd { return f(m.bench(), m) }
	}
	return []*action{
		{id: "bench.start", scope: onBench, keys: []string{"enter", "s"}, title: "Start a benchmark", short: "start", changes: true, engine: true,
			help: "Prompt and generation speed over context lengths, memory and load time; the dense model first.", run: run(func(s *benchScreen, m *Model) tea.Cmd { return s.form(m, nil) })},
		{id: "bench.stop", scope: onBench, keys: []string{"x"}, title: "Stop the benchmark", short: "stop", changes: true, when: running, run: run(func(s *benchScreen, m *Model) tea.Cmd {
			b, _ := s.current(m.snap)
			return m.do(explorer.StopJob{Job: b.Job}, nil)
		})},
		{id: "bench.list", scope: onBench, keys: []string{"l"}, title: "Go to another benchmark", short: "others", when: none, run: run((*benchScreen).pickBench)},
		{id: "bench.chart", scope: onBench, keys: []string{"tab"}, title: "Chart generation, prompt or first-token time", short: "chart", run: run(func(s *benchScreen, _ *Model) tea.Cmd {
			s.chart = (s.chart + 1) % benchCharts
			return nil
		})},
		{id: "bench.export", scope: onBench, keys: []string{"w"}, title: "Export as text, CSV, JSON or Go benchmark lines", short: "export", when: none, run: run((*benchScreen).export)},
		{id: "bench.copy", scope: onBench, keys: []string{"y"}, title: "Copy the table as text", when: none, run: run(func(s *benchScreen, m *Model) tea.Cmd {
			b, _ := s.current(m.snap)
			out, err := explorer.FormatBench(b, explorer.FormatText)
			if err != nil {
				m.fail(err)
				return nil
			}
			return m.copy(string(out), "the table")
		})},
		{id: "bench.chat", scope: onBench, keys: []string{"c"}, title: "Chat with the subnet of the row, beside the dense model", short: "chat", changes: true, engine: true, when: none, run: run(func(s *benchScreen, m *Model) tea.Cmd {
			b, _ := s.current(m.snap)
			if s.list.at >= len(b.Rows) {
				return nil
			}
			return m.chatWith(b.Rows[s.list.at].Subnet)
		})},
		{id: "bench.down", scope: onBench, keys: []string{"down", "j"}, title: "Next row", run: run(func(s *benchScreen, m *Model) tea.Cmd { return s.move(m, 1) })},
		{id: "bench.up", scope: onBench, keys: []string{"up", "k"}, title: "Previous row", run: run(func(s *benchScreen, m *Model) tea.Cmd { return s.move(m, -1) })},
		{id: "bench.pagedown", scope: onBench, keys: []string{"pgdown"}, title: "Ten rows on", run: run(func(s *benchScreen, m *Model) tea.Cmd { return s.move(m, 10) })},
		{id: "bench.pageup", scope: onBench, keys: []string{"pgup"}, title: "Ten rows back", run: run(func(s *benchScreen, m *Model) tea.Cmd { return s.move(m, -10) })},
	}
}

// current is the benchmark on the screen; ok is false when there is none.
func (s *benchScreen) current(snap *explorer.Snapshot) (explorer.Bench, bool) {
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

func (s *benchScreen) move(m *Model, by int) tea.Cmd {
	b, _ := s.current(m.snap)
	s.list.move(by, len(b.Rows))
	return nil
}

func (s *benchScreen) follow(*Model)               {}
func (s *benchScreen) back(*Model) (bool, tea.Cmd) { return false, nil }

func (s *benchScreen) status(m *Model) string {
	b, ok := s.current(m.snap)
	if !ok || b.Done {
		return ""
	}
	if j, ok := m.snap.Job(b.Job); ok {
		return text.Line(j.Progress.Step)
	}
	return ""
}

func (s *benchScreen) mouse(m *Model, p pane, e mouseEvent) tea.Cmd {
	switch {
	case e.kind == mouseWheel && p.id == "bench.table":
		return s.move(m, e.delta)
	case e.kind == mouseClick && p.id == "bench.table":
		if b, _ := s.current(m.snap); e.y >= 2 && s.list.top+e.y-2 < len(b.Rows) {
			s.list.at = s.list.top + e.y - 2
		}
	case e.kind == mouseClick && p.id == "bench.chart":
		s.chart = (s.chart + 1) % benchCharts
	}
	return nil
}

func (s *benchScreen) pickBench(m *Model) tea.Cmd {
	return m.pick("benchmarks", func(m *Model) []choice {
		var out []choice
		for _, b := range m.snap.Benches {
			names := make([]string, len(b.Settings.Subnets))
			for i, id := range b.Settings.Subnets {
				names[i] = subnetName(m.snap, id)
			}
			out = append(out, choice{title: strings.Join(names, ", "), detail: b.Created.Local().Format("2 Jan 15:04"), run: func(*Model) tea.Cmd {
				s.id, s.list = b.ID, list{}
				return nil
			}})
		}
		return out
	})
}

// form asks what to measure: the given subnets, those of the last benchmark, or those marked in the library.
func (s *benchScreen) form(m *Model, subnets []explorer.SubnetID) tea.Cmd {
	if subnets == nil {
		subnets = m.library().markedOrChosen(m)
	}
	subnets = slices.DeleteFunc(slices.Clone(subnets), func(id explorer.SubnetID) bool { return id == explorer.DenseID })
	names := make([]string, len(subnets))
	for i, id := range subnets {
		names[i] = subnetName(m.snap, id)
	}
	note := "the dense model"
	if len(names) > 0 {
		note += " against " + strings.Join(names, ", ")
	} else {
		note += " alone; mark subnets in Library to compare them"
	}
	return tea.Batch(m.show(benchID), m.openForm(&form{title: "benchmark", ok: "start", note: note, entries: []*entry{
		textEntry("prompt", "prompt tokens", "128, 512, 1024", "lengths to measure at, separated by commas", checkCounts),
		textEntry("generate", "generate", "64", "tokens generated per run", countIn(1, 1<<16)),
		textEntry("repeats", "repeats", "3", "runs per cell, after a warm-up", countIn(1, 100)),
		textEntry("threads", "threads", "", "processor threads; empty: one per core", countIn(1, 1024)),
		textEntry("gpu", "gpu layers", "", "layers on the GPU; empty: none", countIn(0, 1024)),
		choiceEntry("type", "type", "as the source", "how subnets are written", "as the source", "F16", "Q8_0", "Q4_1", "Q4_0"),
	}, submit: func(m *Model, f *form) tea.Cmd {
		b := explorer.BenchSettings{Subnets: append([]explorer.SubnetID{explorer.DenseID}, subnets...), Prompt: counts(f.get("prompt")), Generate: f.count("generate"),
			Repeats: f.count("repeats"), Threads: f.count("threads"), GPULayers: f.count("gpu"), Type: exportType(f.get("type"))}
		return m.do(explorer.StartBench{Settings: b}, func(m *Model, r explorer.Receipt) tea.Cmd {
			s.id, s.list = r.Bench, list{}
			return m.show(benchID)
		})
	}}))
}

// exportType is the tensor type that a choice stands for.
func exportType(s string) string {
	if s == "as the source" {
		return ""
	}
	return s
}

func checkCounts(s string) error {
	for _, w := range strings.Split(s, ",") {
		if n, err := strconv.Atoi(strings.TrimSpace(w)); err != nil || n < 1 || n > 1<<20 {
			return fmt.Errorf("whole numbers separated by commas are wanted")
		}
	}
	return nil
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

func (s *benchScreen) export(m *Model) tea.Cmd {
	b, _ := s.current(m.snap)
	return m.pick("export as", func(*Model) []choice {
		ext := map[string]string{explorer.FormatText: "txt", explorer.FormatCSV: "csv", explorer.FormatJSON: "json", explorer.FormatGo: "txt"}
		var out []choice
		for _, format := range explorer.BenchFormats() {
			out = append(out, choice{title: format, run: func(m *Model) tea.Cmd {
				data, err := explorer.FormatBench(b, format)
				if err != nil {
					m.fail(err)
					return nil
				}
				return m.exportText("benchmark", "bench."+ext[format], string(data))
			}})
		}
		return out
	})
}

func (s *benchScreen) panes(m *Model, area layout.Rect) []pane {
	snap := m.snap
	rev := max(snap.Sections[explorer.SectionBenches], snap.Sections[explorer.SectionJobs], snap.Sections[explorer.SectionSubnets])
	b, _ := s.current(snap)
	table, rest := area.CutTop(clamp(len(b.Rows)+3, 6, max(6, area.H*3/5)))
	words, rest := rest.CutTop(clamp(len(drawSentence(m.theme, b, area.W, 3)), 1, max(1, rest.H/4)))
	s.list.clamp(len(b.Rows), max(1, table.H-3))
	st := struct {
		id    explorer.BenchID
		list  list
		chart int
	}{b.ID, s.list, s.chart}
	return []pane{
		{id: "bench.table", rect: table, rev: rev, state: st, draw: func(t *theme.Theme, w, h int) []string { return s.drawTable(m, t, b, w, h) }},
		{id: "bench.words", rect: words, rev: rev, state: st.id, draw: func(t *theme.Theme, w, h int) []string { return drawSentence(t, b, w, h) }},
		{id: "bench.chart", rect: rest, rev: rev, state: st, draw: func(t *theme.Theme, w, h int) []string { return s.drawChart(t, b, w, h) }},
	}
}

func drawSentence(t *theme.Theme, b explorer.Bench, w, h int) []string {
	said := explorer.BenchSentence(b)
	var rows []string
	for _, l := range strings.Split(strings.TrimSpace(said), "\n") {
		for k, part := range text.Wrap(text.Line(l), max(1, w-4)) {
			mark := "  "
			if k == 0 && part != "" {
				mark = t.Glyph.Here + " "
			}
			if len(rows) < h {
				rows = append(rows, line(w).Put(t.Accent, mark).Put(t.Strong, part).String())
			}
		}
	}
	return rows
}

func (s *benchScreen) drawTable(m *Model, t *theme.Theme, b explorer.Bench, w, h int) []string {
	snap := m.snap
	pm := t.Glyph.PlusMinus
	spread := func(sp explorer.Spread) string {
		if sp.Runs == 0 {
			return text.None
		}
		return fmt.Sprintf("%.1f %s %.1f", sp.Mean, pm, sp.Deviation)
	}
	title := "speed and memory"
	if b.Settings.Repeats > 0 {
		title += fmt.Sprintf(", %d runs", b.Settings.Repeats)
	}
	note := ""
	if j, ok := snap.Job(b.Job); ok && !j.State.Ended() {
		note = string(j.State) + " " + text.Percent(j.Progress.Fraction())
	}
	empty := "nothing measured yet: " + m.hintKey(m.action("bench.start")) + " starts a benchmark"
	if snap.Model.NoRuntime != "" {
		empty = snap.Model.NoRuntime
	}
	tb := table{
		columns: []column{
			{title: "subnet", w: 12, grow: true}, {title: "context", w: 7, right: true}, {title: "generate tok/s", w: 14, right: true},
			{title: "prompt tok/s", w: 13, right: true, rank: 1}, {title: "first token", w: 11, right: true, rank: 3}, {title: "memory", w: 8, right: true, rank: 2},
			{title: "file", w: 8, right: true, rank: 4}, {title: "load", w: 7, right: true, rank: 6}, {title: "ppl", w: 6, right: true, rank: 5},
		},
		n: len(b.Rows), list: s.list, focused: true, empty: empty,
		cell: func(i, col int) (string, theme.Style) {
			r := b.Rows[i]
			style := t.Text
			if r.Subnet == explorer.DenseID {
				style = t.Dense
			}
			if r.Pending {
				style = t.Dim
			}
			switch col {
			case 0:
				return text.Line(orElse(r.Label, string(r.Subnet))), style
			case 1:
				return itoa(r.Prompt), style
			case 2:
				if r.Err != "" {
					return text.Line(r.Err), t.Bad
				}
				if r.Pending && r.Generation.Runs == 0 {
					return t.Glyph.Ellipsis, t.Pending
				}
				return spread(r.Generation), style
			case 3:
				return spread(r.Prefill), style
			case 4:
				return text.Short(secondsF(r.FirstToken.Mean)), style
			case 5:
				return bytesOr(r.Memory), style
			case 6:
				return bytesOr(r.FileBytes), style
			case 7:
				return text.Short(r.Load), style
			}
			return text.Perplexity(r.Perplexity), style
		},
	}
	return box(t, paint.Frame{Title: title, Note: note, Focused: true, Foot: scrollNote(s.list.top, h-3, len(b.Rows))}, w, h, func(w, h int) []string { return tb.draw(t, w, h) })
}

func bytesOr(n int64) string {
	if n <= 0 {
		return text.None
	}
	return text.Bytes(float64(n))
}

func (s *benchScreen) drawChart(t *theme.Theme, b explorer.Bench, w, h int) []string {
	name := [...]string{"generation, tokens per second", "prompt, tokens per second", "first token, seconds"}[s.chart]
	var ids []explorer.SubnetID
	points := map[explorer.SubnetID][]chart.Point{}
	label := map[explorer.SubnetID]string{}
	for _, r := range b.Rows {
		v := [...]explorer.Spread{r.Generation, r.Prefill, r.FirstToken}[s.chart]
		if !slices.Contains(ids, r.Subnet) {
			ids = append(ids, r.Subnet)
			label[r.Subnet] = text.Clip(text.Line(orElse(r.Label, string(r.Subnet))), 20)
		}
		if v.Runs > 0 {
			points[r.Subnet] = append(points[r.Subnet], chart.Point{X: float64(r.Prompt), Y: v.Mean})
		}
	}
	p := chart.Plot{X: chart.Axis{Label: "context, tokens"}, Y: chart.Axis{}, Legend: true, Empty: "no measurement yet"}
	for i, id := range ids {
		style, glyph := t.SeriesAt(i-1), t.Glyph.Dot
		if id == explorer.DenseID {
			style, glyph = t.Dense, t.Glyph.Diamond
		}
		p.Series = append(p.Series, chart.Series{Name: label[id], Style: style, Points: points[id], Join: true, Glyph: glyph})
	}
	return box(t, paint.Frame{Title: name, Note: "tab"}, w, h, func(w, h int) []string { return p.Draw(t, w, h) })
}
