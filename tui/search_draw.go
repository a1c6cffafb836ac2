package tui

import (
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// plot is the chart of size against quality.
func (s *searchScreen) plot(t *theme.Theme, snap *explorer.Snapshot) chart.Plot {
	sr := snap.Search
	var cloud, front []chart.Point
	for _, p := range sr.Cloud {
		cloud = append(cloud, chart.Point{X: p.Ratio, Y: quality(sr, p.Perplexity(), p.Fitness)})
	}
	top := 0.0
	for _, c := range sr.Front {
		y := quality(sr, c.Score.Perplexity(), c.Score.Fitness)
		front = append(front, chart.Point{X: c.Ratio, Y: y})
		if !math.IsNaN(y) {
			top = max(top, y)
		}
	}
	slices.SortFunc(front, func(a, b chart.Point) int {
		switch {
		case a.X < b.X:
			return -1
		case a.X > b.X:
			return 1
		}
		return 0
	})
	label := fitnessName(sr)
	if showsPerplexity(sr) {
		label = "ppl"
	}
	y := chart.Axis{Log: s.logY, Label: label}
	dense := sr.DensePerplexity
	if !showsPerplexity(sr) || squeezes(1, cloud, front) {
		dense = 0
	}
	y, above := limitAxis(y, cloud, top, dense)
	if above > 0 {
		y.Label += fmt.Sprintf("  (%d points above)", above)
	}
	if s.logY {
		y.Label += "  log"
	}
	p := chart.Plot{
		X: chart.Axis{Label: "share of parameters"}, Y: y, Empty: "no candidate yet",
		Series: []chart.Series{
			{Name: "candidates", Style: t.Cloud, Points: cloud},
			{Name: "front", Style: t.Front, Points: front, Join: true, Glyph: t.Glyph.Dot},
		},
	}
	if dense > 0 {
		p.Marks = append(p.Marks, chart.Mark{Point: chart.Point{X: 1, Y: dense}, Glyph: t.Glyph.Diamond, Label: "dense", Style: t.Dense})
	}
	for _, c := range slices.Concat(sr.Front, sr.Population) {
		if c.Origin == search.ByHand {
			p.Marks = append(p.Marks, chart.Mark{Point: chart.Point{X: c.Ratio, Y: quality(sr, c.Score.Perplexity(), c.Score.Fitness)}, Glyph: t.Glyph.Star, Label: "you", Style: t.Yours})
			break
		}
	}
	if c, ok := s.selected(snap); ok {
		mark := chart.Mark{Point: chart.Point{X: c.Ratio, Y: quality(sr, c.Score.Perplexity(), c.Score.Fitness)}, Glyph: t.Glyph.Ring, Style: t.Strong}
		if s.chosen != 0 {
			mark.Label = fmt.Sprintf("#%d", c.ID)
		}
		p.Marks = append(p.Marks, mark)
	}
	return p
}

// squeezes reports whether a mark at x would leave the points no more than a sliver of the axis.
func squeezes(x float64, lists ...[]chart.Point) bool {
	const least = 0.1
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, p := range slices.Concat(lists...) {
		lo, hi = min(lo, p.X), max(hi, p.X)
	}
	return hi-lo < least*(max(hi, x)-min(lo, x))
}

// limitAxis cuts an axis off above the bulk of the points, so that a few very bad candidates do not flatten the rest, and
// counts what is then above it.
func limitAxis(y chart.Axis, cloud []chart.Point, front, dense float64) (chart.Axis, int) {
	values := make([]float64, 0, len(cloud))
	for _, p := range cloud {
		if !math.IsNaN(p.Y) && !math.IsInf(p.Y, 0) && p.Y > 0 {
			values = append(values, p.Y)
		}
	}
	if len(values) < 20 {
		return y, 0
	}
	slices.Sort(values)
	lo, bulk := values[0], max(values[len(values)*9/10], front)
	if dense > 0 {
		lo = min(lo, dense)
	}
	if values[len(values)-1] <= bulk*1.3 || bulk <= lo {
		return y, 0
	}
	margin := (bulk - lo) * 0.05
	y.Min, y.Max = max(lo-margin, lo*0.9), bulk+margin
	above := 0
	for _, v := range values {
		if v > y.Max {
			above++
		}
	}
	return y, above
}

func (s *searchScreen) drawChart(m *Model, t *theme.Theme, w, h int) []string {
	snap := m.snap
	title := "size × perplexity"
	if !showsPerplexity(snap.Search) {
		title = "size × divergence"
	}
	if t.Look.ASCII {
		title = "size and quality"
	}
	return box(t, paint.Frame{Title: title, Focused: s.focus == partChart}, w, h, func(w, h int) []string {
		if snap.Search.Evaluated == 0 {
			return s.drawWelcome(m, t, w)
		}
		return s.plot(t, snap).Draw(t, w, h)
	})
}

// drawWelcome stands where the chart will be while there is nothing to chart.
func (s *searchScreen) drawWelcome(m *Model, t *theme.Theme, w int) []string {
	snap, mi := m.snap, m.snap.Model
	key := func(id string) string { return m.keyLabel(m.keys.first(m.action(id))) }
	rows := []string{paint.Blank(w), line(w).Put(t.Strong, modelName(mi)).String()}
	facts := fmt.Sprintf("%s parameters in %d layers, %s as %s", text.Count(float64(mi.Params)), mi.Layers, text.Bytes(float64(mi.Bytes)), mi.FileType)
	rows = append(rows, paragraph(w, t.Dim, facts)...)
	rows = append(rows, paint.Blank(w))
	j, runs := s.job(m)
	switch {
	case runs && j.State == explorer.Paused:
		rows = append(rows, paragraph(w, t.Text, "The search stands still: "+key("search.toggle")+" lets it go on.")...)
	case runs && j.Progress.Step != "":
		rows = append(rows, paragraph(w, t.Text, "The search is being prepared: "+text.Line(j.Progress.Step)+".")...)
	case runs:
		rows = append(rows, paragraph(w, t.Text, "The search is about to begin.")...)
	case !snap.Statistics.Ready && snap.Statistics.Layers > 0:
		rows = append(rows, paragraph(w, t.Text, fmt.Sprintf("Statistics are being gathered: layer %d of %d.", snap.Statistics.Layers, mi.Layers))...)
	default:
		said := "No search yet: " + key("search.toggle") + " starts one."
		if last, ok := s.last(m); ok {
			said = "The last search: " + last.said + ". " + key("search.toggle") + " takes it up or starts another."
		}
		rows = append(rows, paragraph(w, t.Text, said)...)
	}
	if runs {
		return rows
	}
	return append(rows, paragraph(w, t.Dim, key("search.cut")+" cuts a smaller model at once, without a search.")...)
}

// drawBest draws the candidate in hand, and below it what happened last where the events have no pane of their own.
func (s *searchScreen) drawBest(m *Model, t *theme.Theme, alone bool, w, h int) []string {
	snap := m.snap
	c, ok := s.selected(snap)
	title := "best"
	if ok {
		title = "best at " + targetName(snap.Search.Target)
		if s.chosen != 0 {
			title = fmt.Sprintf("candidate #%d", c.ID)
		}
	}
	return box(t, paint.Frame{Title: title, Focused: s.focus == partBest}, w, h, func(w, h int) []string {
		if !ok {
			return paragraph(w, t.Dim, "The best subnet so far is shown here.")
		}
		rows := m.drawCandidate(t, c, w, h)
		if room := h - len(rows) - 2; alone && room >= 2 && len(snap.Search.Events) > 0 {
			rows = append(rows, paint.Blank(w), line(w).Put(t.Title, "events").String())
			rows = append(rows, eventRows(t, snap.Search.Events, w, room)...)
		}
		return rows
	})
}

// drawCandidate draws what is known about a candidate, most important first.
func (m *Model) drawCandidate(t *theme.Theme, c explorer.Candidate, w, h int) []string {
	snap, sr := m.snap, m.snap.Search
	var segs []segment
	say := func(style theme.Style, format string, args ...any) {
		segs = append(segs, segment{style, fmt.Sprintf(format, args...)})
	}
	if perplexity := c.Score.Perplexity(); perplexity > 0 {
		say(t.Subnet.With(t.Strong), "%s ppl", text.Perplexity(perplexity))
		if sr.DensePerplexity > 0 {
			say(t.Text, "%.2f × dense", perplexity/sr.DensePerplexity)
		}
	}
	if c.Score.KL > 0 {
		say(t.Text, "KL %.3g nats/token", c.Score.KL)
	}
	rows := flow(t, w, segs, 2)
	segs = nil
	say(t.Text, "%.3f of block parameters", c.Ratio)
	say(t.Dim, "%.2f with embedding", c.ShareAll)
	rows = append(rows, flow(t, w, segs, 2)...)
	segs = nil
	say(t.Text, "GGUF %s %s", snap.Model.FileType, text.Bytes(float64(c.Bytes)))
	say(t.Dim, "source %s", text.Bytes(float64(snap.Model.Bytes)))
	if c.Masks.Layers() > 0 {
		say(t.Text, "KV %s/token", text.Bytes(float64(m.cost(c.Masks).size.KVBytesPerToken)))
	}
	rows = append(rows, flow(t, w, segs, 2)...)
	segs = nil
	if c.Origin == search.ByHand {
		say(t.Yours, "you")
	}
	say(t.Dim, "generation %d", c.Generation)
	if c.Parent > 0 {
		say(t.Dim, "from #%d", c.Parent)
	}
	say(t.Dim, "%s", text.Line(c.Moves))
	rows = append(rows, flow(t, w, segs, 2)...)
	if c.Masks.Layers() > 0 && len(rows)+4 > h { // the strips say more than where it came from
		rows = rows[:max(1, h-4)]
	}
	if len(rows)+5 <= h {
		rows = append(rows, paint.Blank(w))
	}
	if c.Masks.Layers() > 0 {
		rows = append(rows, drawStrips(t, c.Masks, w)...)
	}
	return rows
}

// drawStrips draws masks layer by layer: shares of heads and of MLP channels kept, and how much of the layer is cut.
func drawStrips(t *theme.Theme, masks subnet.Masks, w int) []string {
	const label = 7
	heads, mlp, cut := layerShares(masks)
	n := w - label - 1
	kept := func(v float64) theme.Style {
		if v <= 0 {
			return t.Dropped
		}
		return t.Kept
	}
	rows := []string{ruler(t, len(cut), w, label)}
	for _, s := range []struct {
		name   string
		values []float64
		style  func(float64) theme.Style
	}{{"heads", heads, kept}, {"mlp", mlp, kept}, {"cut", cut, func(v float64) theme.Style { return t.HeatAt(v) }}} {
		run, width := chart.Strip(t, s.values, n, s.style)
		rows = append(rows, line(w).Col(t.Dim, s.name, label-1).Raw(run, width).String())
	}
	return rows
}

// ruler numbers every fifth layer above a strip.
func ruler(t *theme.Theme, layers, w, label int) string {
	r := line(w).Col(t.Dim, "layer", label-1)
	n := min(layers, w-label-1)
	if n <= 0 {
		return r.String()
	}
	step := 5
	if layers > n {
		step = max(1, 5*layers/n)
	}
	for i := 0; i < layers; i += step {
		x := label + i*n/layers
		if w-r.Room() <= x {
			r.Pad(x).Put(t.Dim, itoa(i))
		}
	}
	return r.String()
}

// layerShares are, per layer, the shares of query heads and of MLP channels kept and the share of parameters cut.
func layerShares(masks subnet.Masks) (heads, mlp, cut []float64) {
	g := masks.Geometry()
	for i := range masks.Layers() {
		l := masks.Layer(i)
		heads = append(heads, share(l.Heads))
		mlp = append(mlp, share(l.Channels))
		attention, ffn := g.ModuleParams(i)
		cut = append(cut, 1-float64(l.Params(g, i))/float64(max(1, attention+ffn)))
	}
	return heads, mlp, cut
}

// share is the share of units that a set keeps.
func share(s subnet.Set) float64 {
	if s.N() == 0 {
		return 0
	}
	return float64(s.Len()) / float64(s.N())
}

func (s *searchScreen) drawHistory(t *theme.Theme, snap *explorer.Snapshot, w, h int) []string {
	sr := snap.Search
	return box(t, paint.Frame{Title: "fitness by generation", Focused: s.focus == partHistory}, w, h, func(w, h int) []string {
		var best, median []chart.Point
		for _, g := range sr.History {
			best = append(best, chart.Point{X: float64(g.Number), Y: g.Best})
			median = append(median, chart.Point{X: float64(g.Number), Y: g.Median})
		}
		foot := historyFacts(sr, w)
		p := chart.Plot{
			X: chart.Axis{Label: "generation"}, Y: chart.Axis{Label: fitnessName(sr)}, Legend: true, Empty: "no generation yet",
			Series: []chart.Series{{Name: "median", Style: t.SeriesAt(4), Points: median, Join: true}, {Name: "best", Style: t.Front, Points: best, Join: true}},
		}
		if h < 8 {
			p.Y.Label = ""
		}
		rows := p.Draw(t, w, h-len(foot))
		for _, f := range foot {
			rows = append(rows, line(w).Put(t.Dim, f).String())
		}
		return rows
	})
}

func fitnessName(sr explorer.Search) string {
	switch sr.Fitness {
	case "", "kl":
		return "KL nats/token"
	case "perplexity":
		return "NLL nats/token"
	}
	return text.Line(sr.Fitness)
}

// historyFacts are the numbers under the progress chart, in as many rows as they take.
func historyFacts(sr explorer.Search, w int) []string {
	if sr.Evaluated == 0 {
		return nil
	}
	facts := []string{text.Count(float64(sr.Tokens)) + " tokens"}
	if sr.PrefixReuse > 0 {
		facts = append(facts, fmt.Sprintf("prefix reuse %.0f %%", 100*sr.PrefixReuse))
	}
	if sr.TierHits > 0 { // where there is more than one tier
		facts = append(facts, fmt.Sprintf("tier hits %.2f", sr.TierHits))
	}
	facts = append(facts, text.Clock(sr.Elapsed)+" spent")
	if sr.Dropped > 0 {
		facts = append(facts, fmt.Sprintf("%d dropped (no number)", sr.Dropped))
	}
	rows := []string{""}
	for _, f := range facts {
		last := &rows[len(rows)-1]
		switch {
		case *last == "":
			*last = f
		case text.Width(*last)+3+text.Width(f) > w-2:
			rows = append(rows, f)
		default:
			*last += " · " + f
		}
	}
	if len(rows) > 2 {
		rows = rows[:2]
	}
	return rows
}

func (s *searchScreen) drawPopulation(t *theme.Theme, snap *explorer.Snapshot, w, h int) []string {
	rows := s.candidates(snap)
	title := "population"
	if s.front {
		title = "front"
	}
	focused := s.focus == partPopulation
	tb := table{
		columns: []column{
			{title: "#", w: 5, right: true}, {title: "KL", w: 6, right: true}, {title: "ppl", w: 6, right: true}, {title: "share", w: 5, right: true, rank: 1},
			{title: "bytes", w: 7, right: true, rank: 3}, {title: "moves", w: 10, grow: true, rank: 4}, {title: "tier", w: 4, rank: 2},
		},
		n: len(rows), list: s.list, focused: focused, empty: "no candidate yet",
		marked: func(i int) bool { return rows[i].ID == s.chosen },
		cell:   func(i, col int) (string, theme.Style) { return candidateCell(t, rows[i], col) },
	}
	return box(t, paint.Frame{Title: title, Focused: focused, Foot: scrollNote(s.list.top, h-3, len(rows))}, w, h, func(w, h int) []string { return tb.draw(t, w, h) })
}

func candidateCell(t *theme.Theme, c explorer.Candidate, col int) (string, theme.Style) {
	style := t.Text
	scoring := c.Tiers > 0 && c.Tier < c.Tiers
	if scoring {
		style = t.Dim
	}
	switch col {
	case 0:
		if c.Origin == search.ByHand {
			return "you", t.Yours
		}
		return itoa(c.ID), style
	case 1:
		if c.Score.KL <= 0 {
			return text.None, t.Dim
		}
		return fmt.Sprintf("%.3f", c.Score.KL), style
	case 2:
		return text.Perplexity(c.Score.Perplexity()), style
	case 3:
		return fmt.Sprintf("%.3f", c.Ratio), style
	case 4:
		return text.Bytes(float64(c.Bytes)), style
	case 5:
		return text.Line(c.Moves), t.Dim
	}
	if c.Tiers == 0 {
		return "", t.Dim
	}
	if scoring {
		style = t.Pending
	}
	return fmt.Sprintf("%d/%d", c.Tier, c.Tiers), style
}

func (s *searchScreen) drawEvents(t *theme.Theme, snap *explorer.Snapshot, w, h int) []string {
	return box(t, paint.Frame{Title: "events", Focused: s.focus == partEvents}, w, h, func(w, h int) []string {
		rows := eventRows(t, snap.Search.Events, w, h)
		if len(rows) == 0 {
			rows = paragraph(w, t.Dim, "What happens during a search is listed here.")
		}
		return rows
	})
}

// eventRows lists events on at most h rows, the newest first.
func eventRows(t *theme.Theme, events []search.Event, w, h int) []string {
	var rows []string
	for _, e := range slices.Backward(events) {
		for k, l := range text.Wrap(text.Line(e.Text), max(1, w-11)) {
			if len(rows) == h {
				return rows
			}
			r := line(w)
			if k == 0 {
				r.Put(t.Dim, e.At.Local().Format("15:04:05"))
			}
			rows = append(rows, r.Pad(10).Put(t.Text, l).String())
		}
	}
	return rows
}
