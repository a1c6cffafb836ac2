package search

import (
	"cmp"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// searchesTypes reports whether a search is over types too, so that candidates have bits per byte.
func searchesTypes(sr explorer.Search) bool { return len(sr.Plain) > 0 }

// bitsPlot is the chart of bytes against bits per byte: the candidates, their front, and the dense model in plain types.
func (s *Screen) bitsPlot(t *theme.Theme, snap *explorer.Snapshot) chart.Plot {
	sr := snap.Search
	at := func(c explorer.Candidate) chart.Point {
		return chart.Point{X: float64(c.Bytes) / 1e6, Y: c.BitsPerByte}
	}
	var cloud, front, plain []chart.Point
	top := 0.0
	for _, c := range sr.Front {
		front = append(front, at(c))
		top = max(top, c.BitsPerByte)
	}
	for _, c := range sr.Population {
		if c.Tier > 0 && c.BitsPerByte > 0 {
			cloud = append(cloud, at(c))
		}
	}
	for _, p := range sr.Plain {
		plain = append(plain, chart.Point{X: float64(p.Bytes) / 1e6, Y: p.BitsPerByte})
	}
	y := chart.Axis{Label: "bits per byte", Log: s.logY, Span: 0.05}
	if s.logY {
		y.Label, y.Span = y.Label+"  log", 1.05
	}
	y, above := limitAxis(y, cloud, top, 0)
	if above > 0 {
		y.Label += "  (" + format.Counted(above, "point") + " above)"
	}
	p := chart.Plot{X: chart.Axis{Label: "file, MB", Span: 1}, Y: y, Legend: true, Empty: "no candidate yet", Series: []chart.Series{
		{Name: "candidates", Style: t.Ages[len(t.Ages)-1], Points: cloud},
		{Name: "front", Style: t.Front, Points: front, Join: true, Glyph: t.Glyph.Dot},
		{Name: "plain types", Style: t.Dense, Points: plain, Join: true, Glyph: t.Glyph.Square},
	}}
	if c, ok := s.selected(snap); ok && c.BitsPerByte > 0 {
		mark := chart.Mark{Point: at(c), Glyph: t.Glyph.Ring, Style: t.Strong}
		if s.chosen != 0 {
			mark.Label = fmt.Sprintf("#%d", c.ID)
		}
		p.Marks = append(p.Marks, mark)
	}
	return p
}

// bitsReadOut describes a candidate of such a search, and the plain type nearest in size.
func bitsReadOut(sr explorer.Search, c explorer.Candidate) string {
	out := fmt.Sprintf("#%d: %.1f MB, %.4f bits per byte", c.ID, float64(c.Bytes)/1e6, c.BitsPerByte)
	best, distance := -1, math.Inf(1)
	for i, p := range sr.Plain {
		if d := math.Abs(float64(p.Bytes - c.Bytes)); d < distance {
			best, distance = i, d
		}
	}
	if best >= 0 {
		p := sr.Plain[best]
		out += fmt.Sprintf("; plain %s: %.1f MB, %.4f", text.Line(cmp.Or(p.Type, "file")), float64(p.Bytes)/1e6, p.BitsPerByte)
	}
	return out
}
