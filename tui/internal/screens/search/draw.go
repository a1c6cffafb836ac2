package search

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/lathe-llm/lathe/explorer/format"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

func (s *Screen) drawChart(t *theme.Theme, w, h int) []string {
	snap := s.snap()
	title := "size and perplexity"
	switch {
	case searchesTypes(snap.Search):
		title = "size and bits per byte"
	case !showsPerplexity(snap.Search):
		title = "size and divergence"
	}
	return widget.Box(t, paint.Frame{Title: title, Note: s.readOut(snap), Focused: s.focus == partChart}, w, h, func(w, h int) []string {
		if cloud, _ := scoredPoints(snap.Search); snap.Search.Evaluated == 0 && len(cloud) == 0 {
			return s.drawWelcome(t, w)
		}
		if searchesTypes(snap.Search) {
			return s.bitsPlot(t, snap).Draw(t, w, h)
		}
		return s.plot(t, snap).Draw(t, w, h)
	})
}

// readOut is where the candidate under the cursor is in the chart.
func (s *Screen) readOut(snap *explorer.Snapshot) string {
	c, ok := s.selected(snap)
	if !ok {
		return ""
	}
	if searchesTypes(snap.Search) {
		return bitsReadOut(snap.Search, c)
	}
	v := quality(snap.Search, c.Score.Perplexity(), c.Score.Fitness)
	out := fmt.Sprintf("#%d: %.3f, ", c.ID, c.Ratio)
	switch {
	case !showsPerplexity(snap.Search):
		return out + fmt.Sprintf("%.3g", v)
	case snap.Search.DensePerplexity > 0:
		return out + text.Relative(v) + " × dense"
	}
	return out + text.Perplexity(v) + " ppl"
}

// drawWelcome draws the model and the state of the search where the chart will be.
func (s *Screen) drawWelcome(t *theme.Theme, w int) []string {
	snap, mi := s.snap(), s.snap().Model
	key := s.host.Key
	rows := []string{paint.Blank(w), widget.Line(w).Put(t.Strong, subnets.ModelName(mi)).String()}
	facts := fmt.Sprintf("%s parameters in %s, %s as %s", format.Count(float64(mi.Params)), format.Counted(mi.Layers, "layer"), format.Bytes(float64(mi.Bytes)), mi.Type())
	rows = append(rows, widget.Paragraph(w, t.Dim, facts)...)
	rows = append(rows, paint.Blank(w))
	j, runs := s.job()
	switch {
	case runs && j.Reason != "":
		rows = append(rows, s.drawReason(t, j, w)...)
	case runs && j.State == explorer.Paused:
		rows = append(rows, widget.Paragraph(w, t.Text, "The search is paused: press "+key("search.toggle")+" to resume.")...)
	case runs && snap.Awaits(j) != "":
		rows = append(rows, widget.Paragraph(w, t.Text, "The search waits for "+text.Line(snap.Awaits(j))+".")...)
	case runs && j.Progress.Step != "":
		phase := ""
		if p := j.Progress.Phase; p.Of > 1 {
			phase = fmt.Sprintf(", %d/%d %s", p.Number, p.Of, p.Name)
		}
		rows = append(rows, widget.Paragraph(w, t.Text, "Preparing the search"+phase+": "+text.Line(j.Progress.Step)+".")...)
	case runs:
		rows = append(rows, widget.Paragraph(w, t.Text, "The search is starting.")...)
	case !snap.Statistics.Ready && snap.Statistics.Layers > 0:
		rows = append(rows, widget.Paragraph(w, t.Text, fmt.Sprintf("Statistics are being gathered: layer %d of %d.", snap.Statistics.Layers, mi.Layers))...)
	default:
		state := "No search yet: " + key("search.toggle") + " starts one."
		if last, ok := s.last(); ok {
			state = "The last search: " + last.summary + ". " + key("search.toggle") + " resumes it or starts another."
		}
		rows = append(rows, widget.Paragraph(w, t.Text, state)...)
	}
	rows = append(rows, s.drawMade(t, w)...)
	if runs {
		return rows
	}
	rows = append(rows, widget.Paragraph(w, t.Dim, key("search.cut")+" makes a smaller model in one shot, without a search.")...)
	return append(rows, widget.Paragraph(w, t.Dim, key("tour")+" shows the welcome tour.")...)
}

// drawMade names the newest subnet of the library and the key that leads there; no rows where there is none.
func (s *Screen) drawMade(t *theme.Theme, w int) []string {
	all := s.snap().Subnets
	if len(all) == 0 {
		return nil
	}
	newest := slices.MaxFunc(all, func(a, b explorer.Subnet) int { return a.Created.Compare(b.Created) })
	what := fmt.Sprintf("ratio %.3f", newest.Size.Ratio)
	if f := newest.Figure(); f.Relative > 0 {
		what += ", " + text.Relative(f.Relative) + " × dense"
	}
	return widget.Paragraph(w, t.Good, fmt.Sprintf("%s shows the library of %s, the newest %s (%s).", s.host.Key("screen.library"), format.Counted(len(all), "subnet"), text.Line(newest.Name), what))
}

// drawReason draws why the search is paused although nobody paused it.
func (s *Screen) drawReason(t *theme.Theme, j explorer.Job, w int) []string {
	return widget.Paragraph(w, t.Warn, "Paused: "+text.Line(j.Reason)+". The search continues when there is room; "+s.host.Key("search.toggle")+" tries again now.")
}

// drawCandidate draws the facts about a candidate and strips of its layers.
func (s *Screen) drawCandidate(t *theme.Theme, c explorer.Candidate, w int) []string {
	rows := s.candidateFacts(t, c, w)
	if c.Masks.Layers() > 0 {
		rows = append(append(rows, paint.Blank(w)), subnets.Strips(t, c.Masks, w)...)
	}
	return rows
}

// candidateFacts are the facts about a candidate, most important first.
func (s *Screen) candidateFacts(t *theme.Theme, c explorer.Candidate, w int) []string {
	snap, sr := s.snap(), s.snap().Search
	var segs []widget.Segment
	add := func(style theme.Style, format string, args ...any) {
		segs = append(segs, widget.Segment{Style: style, Text: fmt.Sprintf(format, args...)})
	}
	if perplexity := c.Score.Perplexity(); perplexity > 0 {
		if sr.DensePerplexity > 0 {
			add(t.Subnet.With(t.Strong), "%s × dense", text.Relative(perplexity/sr.DensePerplexity))
			add(t.Text, "%s ppl", text.Perplexity(perplexity))
		} else {
			add(t.Subnet.With(t.Strong), "%s ppl", text.Perplexity(perplexity))
		}
	}
	if c.Score.KL > 0 {
		add(t.Text, "KL %.3g nats/token", c.Score.KL)
	}
	rows := widget.Flow(t, w, segs, 2)
	if n, ok := snap.Kept(c); ok {
		rows = append(rows, keptRow(t, n, w))
	}
	segs = nil
	add(t.Text, "%.3f of block parameters", c.Ratio)
	if c.Zeroed > 0 {
		add(t.Text, "%.3f more as zeros", c.Zeroed)
	}
	add(t.Dim, "%.2f with embedding", c.ShareAll)
	rows = append(rows, widget.Flow(t, w, segs, 2)...)
	segs = nil
	typ := snap.Model.Type()
	if c.BitsPerByte > 0 {
		typ = "of mixed types"
		add(t.Text, "%.4f bits per byte", c.BitsPerByte)
	}
	add(t.Text, "GGUF %s %s", typ, format.Bytes(float64(c.Bytes)))
	if advice := sr.PlainAdvice(); advice != "" && sr.Best != nil && sr.Best.ID == c.ID {
		add(t.Warn, "%s", text.Line(advice))
	}
	add(t.Dim, "source %s", format.Bytes(float64(snap.Model.Bytes)))
	if c.Masks.Layers() > 0 {
		add(t.Text, "KV %s/token", format.Bytes(float64(s.cost(c.Masks).Size.KVBytesPerToken)))
	}
	rows = append(rows, widget.Flow(t, w, segs, 2)...)
	segs = nil
	if c.Origin == search.ByHand {
		add(t.Yours, "you")
	}
	add(t.Dim, "generation %d", c.Generation)
	if c.Parent > 0 {
		add(t.Dim, "from #%d", c.Parent)
	}
	add(t.Dim, "%s", text.Line(c.Moves))
	rows = append(rows, widget.Flow(t, w, segs, 2)...)
	return rows
}

// keptRow describes the subnet of the library that was made from a candidate.
func keptRow(t *theme.Theme, n explorer.Subnet, w int) string {
	r := widget.Line(w)
	figure := n.Figure()
	switch {
	case n.Refit == "":
		r.Put(t.Warn, "not re-fitted")
	case figure.Relative > 0:
		r.Put(t.Good, "re-fitted "+text.Relative(figure.Relative)+" × dense")
	default:
		r.Put(t.Good, "re-fitted")
	}
	return r.Put(t.Dim, "  "+text.Line(n.Name)).String()
}

func (s *Screen) drawHistory(t *theme.Theme, snap *explorer.Snapshot, w, h int) []string {
	sr := snap.Search
	return widget.Box(t, paint.Frame{Title: "fitness by generation", Focused: s.focus == partHistory}, w, h, func(w, h int) []string {
		var best, median []chart.Point
		for _, g := range sr.History {
			best = append(best, chart.Point{X: float64(g.Number), Y: g.Best})
			median = append(median, chart.Point{X: float64(g.Number), Y: g.Median})
		}
		foot := historyFacts(sr, w)
		p := chart.Plot{
			X: chart.Axis{Label: "generation", Integer: true, Span: 4}, Y: chart.Axis{Label: fitnessName(sr), Span: 0.02}, Legend: true, Empty: "no generation yet",
			Series: []chart.Series{{Name: "median", Style: t.SeriesAt(4), Points: median, Join: true}, {Name: "best", Style: t.Front, Points: best, Join: true}},
		}
		for _, e := range sr.Events { // when the target changed, for example
			p.Lines = append(p.Lines, chart.Line{X: float64(e.Generation), Style: t.Faint})
		}
		if h < 8 {
			p.Y.Label = ""
		}
		rows := p.Draw(t, w, h-len(foot))
		for _, f := range foot {
			rows = append(rows, widget.Line(w).Put(t.Dim, f).String())
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

// historyFacts are the numbers under the chart of fitness, on at most two rows.
func historyFacts(sr explorer.Search, w int) []string {
	if sr.Evaluated == 0 {
		return nil
	}
	facts := []string{format.Count(float64(sr.Tokens)) + " tokens"}
	if len(sr.Workers) > 0 {
		facts = append(facts, workersFact(sr))
	}
	if sr.PrefixReuse > 0 {
		facts = append(facts, fmt.Sprintf("prefix reuse %.0f %%", 100*sr.PrefixReuse))
	}
	if sr.TierHits > 0 { // where there is more than one tier
		facts = append(facts, fmt.Sprintf("tier hits %.2f", sr.TierHits))
	}
	facts = append(facts, format.Clock(sr.Elapsed)+" spent")
	if sr.Dropped > 0 {
		facts = append(facts, fmt.Sprintf("%d dropped (NaN)", sr.Dropped))
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

func (s *Screen) drawPopulation(t *theme.Theme, snap *explorer.Snapshot, w, h int) []string {
	rows := s.candidates(snap)
	title := "population"
	if s.front {
		title = "front"
	}
	if s.find != "" {
		title += " /" + text.Line(s.find)
	}
	focused := s.focus == partPopulation
	empty := "no candidate yet"
	if s.find != "" {
		empty = "nothing matches"
	}
	list := s.list
	list.At = s.cursor(rows)
	tb := widget.Table{
		Columns: []widget.Column{
			{Title: "#", W: 5, Right: true}, {Title: "× dense", W: 7, Right: true}, {Title: "ppl", W: 6, Right: true}, {Title: "ratio", W: 5, Right: true, Rank: 1},
			{Title: "bytes", W: 7, Right: true, Rank: 3}, {Title: "moves", W: 10, Grow: true, Rank: 4}, {Title: "tier", W: 4, Rank: 2},
		},
		N: len(rows), List: list, Focused: focused, Empty: empty,
		Marked: func(i int) bool { return rows[i].ID == s.chosen },
		Cell:   func(i, col int) (string, theme.Style) { return candidateCell(t, snap.Search, rows[i], col) },
	}
	return widget.Box(t, paint.Frame{Title: title, Focused: focused, Foot: widget.ScrollNote(s.list.Top, h-3, len(rows))}, w, h, func(w, h int) []string { return tb.Draw(t, w, h) })
}

func candidateCell(t *theme.Theme, sr explorer.Search, c explorer.Candidate, col int) (string, theme.Style) {
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
		return strconv.Itoa(c.ID), style
	case 1:
		if sr.DensePerplexity <= 0 {
			return text.None, t.Dim
		}
		return text.Relative(c.Score.Perplexity() / sr.DensePerplexity), style
	case 2:
		return text.Perplexity(c.Score.Perplexity()), style
	case 3:
		return fmt.Sprintf("%.3f", c.Ratio), style
	case 4:
		return format.Bytes(float64(c.Bytes)), style
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

func (s *Screen) drawEvents(t *theme.Theme, snap *explorer.Snapshot, w, h int) []string {
	return widget.Box(t, paint.Frame{Title: "events", Focused: s.focus == partEvents}, w, h, func(w, h int) []string {
		rows := eventRows(t, snap.Search.Events, w, h)
		if len(rows) == 0 {
			rows = widget.Paragraph(w, t.Dim, "Events of the search appear here.")
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
			r := widget.Line(w)
			if k == 0 {
				r.Put(t.Dim, e.At.Local().Format("15:04:05"))
			}
			rows = append(rows, r.Pad(10).Put(t.Text, l).String())
		}
	}
	return rows
}
