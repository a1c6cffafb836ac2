package search

import (
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// plot is the chart of size against quality: candidates by their age, the front, the library and the dense model.
func (s *Screen) plot(t *theme.Theme, snap *explorer.Snapshot) chart.Plot {
	sr := snap.Search
	cloud, full := scoredPoints(sr)
	front := chart.Front(full)
	top := 0.0
	for _, p := range front {
		top = max(top, p.Y)
	}
	label := fitnessName(sr)
	if showsPerplexity(sr) {
		label = "ppl"
		if sr.DensePerplexity > 0 {
			label = "ppl, × dense"
		}
	}
	y := chart.Axis{Log: s.logY, Label: label, Span: 0.1}
	if s.logY {
		y.Span = 1.25
	}
	dense := 0.0
	if sr.DensePerplexity > 0 && showsPerplexity(sr) {
		dense = 1
	}
	x := chart.Axis{Label: "inheriting ratio", Span: 0.1}
	if s.near {
		x, y, dense = s.surroundings(sr, x, y)
	} else {
		var above int
		if y, above = limitAxis(y, cloud, top, dense); above > 0 {
			y.Label += "  (" + format.Counted(above, "point") + " above)"
		}
	}
	if s.logY {
		y.Label += "  log"
	}
	p := chart.Plot{X: x, Y: y, Legend: true, Empty: "no candidate yet"}
	for i, style := range t.Ages { // the oldest below the youngest
		name := ""
		switch i {
		case 0:
			name = "old"
		case len(t.Ages) - 1:
			name = "young"
		}
		p.Series = append(p.Series, chart.Series{Name: name, Style: style, Points: cloud[i*len(cloud)/len(t.Ages) : (i+1)*len(cloud)/len(t.Ages)]})
	}
	p.Series = append(p.Series, chart.Series{Name: "front", Style: t.Front, Points: front, Join: true, Glyph: t.Glyph.Dot})
	if dense > 0 || s.near && sr.DensePerplexity > 0 && showsPerplexity(sr) {
		var kept []chart.Point
		for _, n := range snap.Subnets {
			if r := n.Figure().Relative; r > 0 {
				kept = append(kept, chart.Point{X: n.Size.Ratio, Y: r})
			}
		}
		p.Series = append(p.Series, chart.Series{Name: "library", Style: t.Subnet, Points: kept, Glyph: t.Glyph.Square})
		p.Marks = append(p.Marks, chart.Mark{Point: chart.Point{X: 1, Y: 1}, Glyph: t.Glyph.Diamond, Label: "dense", Style: t.Dense})
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

// surroundings are axes around the population, with a margin of its own size.
func (s *Screen) surroundings(sr explorer.Search, x, y chart.Axis) (chart.Axis, chart.Axis, float64) {
	lo, hi := chart.Point{X: math.Inf(1), Y: math.Inf(1)}, chart.Point{X: math.Inf(-1), Y: math.Inf(-1)}
	for _, c := range sr.Population {
		v := quality(sr, c.Score.Perplexity(), c.Score.Fitness)
		if c.Tier == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		lo, hi = chart.Point{X: min(lo.X, c.Ratio), Y: min(lo.Y, v)}, chart.Point{X: max(hi.X, c.Ratio), Y: max(hi.Y, v)}
	}
	if lo.X > hi.X {
		return x, y, 0
	}
	dx, dy := max(hi.X-lo.X, 0.02), max(hi.Y-lo.Y, 0.02*hi.Y)
	x.Min, x.Max = lo.X-dx, hi.X+dx
	y.Min, y.Max = max(lo.Y-dy, lo.Y/2), hi.Y+dy
	return x, y, 0
}

// scoredPoints are the candidates as the chart shows them, those of the generation under way included, and of these the ones that were
// scored on all of the text: scores on less text do not compare well enough for a front.
func scoredPoints(sr explorer.Search) (cloud, full []chart.Point) {
	tier, known := 1, make(map[int]bool, len(sr.Cloud))
	for _, p := range sr.Cloud {
		tier, known[p.ID] = max(tier, p.Tier), true
	}
	all := slices.Concat(sr.Front, sr.Population)
	for _, c := range all {
		tier = max(tier, c.Tier)
	}
	add := func(of int, p chart.Point) {
		cloud = append(cloud, p)
		if of == tier {
			full = append(full, p)
		}
	}
	for _, p := range sr.Cloud { // the oldest first
		add(p.Tier, chart.Point{X: p.Ratio, Y: quality(sr, p.Perplexity(), p.Fitness)})
	}
	for _, c := range all {
		if c.Tier > 0 && !known[c.ID] {
			known[c.ID] = true
			add(c.Tier, chart.Point{X: c.Ratio, Y: quality(sr, c.Score.Perplexity(), c.Score.Fitness)})
		}
	}
	return cloud, full
}

// limitAxis ends an axis above the bulk of the points, so that a few very bad candidates do not flatten the rest, and
// counts the points above it.
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
