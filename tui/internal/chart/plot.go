package chart

import (
	"iter"
	"math"
	"strings"

	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// A Point is a position in the units of the axes.
type Point struct{ X, Y float64 }

// A Series is a set of points drawn alike: joined by a line, marked by a glyph, or as single dots. Later series lie
// above earlier ones.
type Series struct {
	Name   string
	Style  theme.Style
	Points []Point
	Join   bool      // connect the points in order
	Glyph  string    // mark every point with it
	Spread []float64 // half the length of the bar through each point, which shows how certain it is; nil for none
}

// A Mark is a highlighted point with a label beside it.
type Mark struct {
	Point
	Glyph, Label string
	Style        theme.Style
}

// A Line is a vertical line across the chart, such as for an event.
type Line struct {
	X     float64
	Style theme.Style
}

// A Plot is a chart of series over two axes.
type Plot struct {
	X, Y   Axis
	Series []Series
	Marks  []Mark
	Lines  []Line
	Legend bool   // name the series above the area; without room there they are not named
	Empty  string // shown in the middle of a chart without points
}

// plotFrame is where the parts of a drawn plot are, in cells.
type plotFrame struct {
	x, y     Axis
	gutter   int // columns of y labels, axis line included
	area     struct{ w, h int }
	top      int  // rows above the area
	legend   bool // the last of them is the legend, and nothing else
	yticks   []float64
	ylabels  []string
	hasXAxis bool
	xLabel   bool // the label of the x axis has a row of its own
}

// frame lays the plot out on w × h cells. Small charts lose the x axis first, then the labels of the y axis.
func (p Plot) frame(w, h int) plotFrame {
	f := plotFrame{x: p.X.fit(p.values(false)), y: p.Y.fit(p.values(true))}
	f.hasXAxis = h >= 5 && w >= 16
	f.area.h = h
	if f.hasXAxis {
		f.area.h -= 2
		if f.xLabel = p.X.Label != "" && h >= 10; f.xLabel {
			f.area.h--
		}
	}
	if (p.Y.Label != "" || p.Legend) && f.area.h >= 4 {
		f.top = 1
		f.area.h--
		if f.legend = p.Legend && p.Y.Label != "" && !p.legendFits(w) && f.area.h >= 8; f.legend {
			f.top++
			f.area.h--
		}
	}
	if w >= 16 && h >= 3 {
		f.yticks = f.y.ticks(max(2, f.area.h/2))
		f.ylabels = labels(f.yticks)
		for _, l := range f.ylabels {
			f.gutter = max(f.gutter, text.Width(l))
		}
		f.gutter += 2
	}
	f.area.w = max(0, w-f.gutter)
	return f
}

func (p Plot) values(y bool) iter.Seq[float64] {
	return func(yield func(float64) bool) {
		for pt := range p.points() {
			v := pt.X
			if y {
				v = pt.Y
			}
			if !yield(v) {
				return
			}
		}
	}
}

func (p Plot) points() iter.Seq[Point] {
	return func(yield func(Point) bool) {
		for _, s := range p.Series {
			for i, pt := range s.Points {
				d := 0.0
				if i < len(s.Spread) {
					d = s.Spread[i]
				}
				if !yield(Point{pt.X, pt.Y - d}) || d > 0 && !yield(Point{pt.X, pt.Y + d}) {
					return
				}
			}
		}
		for _, m := range p.Marks {
			if !yield(m.Point) {
				return
			}
		}
	}
}

// Nearest is the index of the point that is drawn closest to a cell, and -1 when none is within four cells of it.
func (p Plot) Nearest(w, h, cx, cy int, points []Point) int {
	f := p.frame(w, h)
	best, dist := -1, 33
	for i, pt := range points {
		dx, dy, ok := f.position(pt)
		if !ok {
			continue
		}
		x, y := f.gutter+dx/dotsX-cx, f.top+dy/dotsY-cy
		if d := x*x + 4*y*y; d < dist {
			best, dist = i, d
		}
	}
	return best
}

// position is the dot of a point within the area.
func (f plotFrame) position(pt Point) (x, y int, ok bool) {
	px, py := f.x.at(pt.X), f.y.at(pt.Y)
	if !(px >= -1e-9 && px <= 1+1e-9 && py >= -1e-9 && py <= 1+1e-9) {
		return 0, 0, false
	}
	return int(math.Round(px * float64(f.area.w*dotsX-1))), int(math.Round((1 - py) * float64(f.area.h*dotsY-1))), true
}

// Draw draws the plot on w × h cells.
func (p Plot) Draw(t *theme.Theme, w, h int) []string {
	if w <= 0 || h <= 0 {
		return nil
	}
	if p.isEmpty() {
		rows := make([]string, (h-1)/2, h)
		for i := range rows {
			rows[i] = paint.Blank(w)
		}
		msg := text.Clip(p.Empty, w)
		return paint.Fill(append(rows, paint.Text(w, t.Dim, text.Spaces((w-text.Width(msg))/2)+msg)), w, h)
	}
	f := p.frame(w, h)
	if f.area.w <= 0 || f.area.h <= 0 {
		return paint.Fill(nil, w, h)
	}
	c := newCanvas(t, f.area.w, f.area.h)
	for _, l := range p.Lines {
		ink := c.add(l.Style)
		if at := f.x.at(l.X); at >= 0 && at <= 1 {
			x := int(math.Round(at * float64(f.area.w*dotsX-1)))
			for y := 0; y < f.area.h*dotsY; y += 2 {
				c.dot(x, y, ink)
			}
		}
	}
	for _, s := range p.Series {
		p.drawSeries(c, f, s)
	}
	for _, m := range p.Marks {
		x, y, ok := f.position(m.Point)
		if !ok {
			continue
		}
		ink := c.add(m.Style)
		cx, cy := x/dotsX, y/dotsY
		c.mark(cx, cy, m.Glyph, ink)
		if m.Label != "" {
			if cx+2+text.Width(m.Label) > f.area.w {
				cx = max(-2, cx-text.Width(m.Label)-3) // all of it is inside
			}
			c.label(cx+2, cy, m.Label, ink)
		}
	}
	return p.assemble(t, f, c, w, h)
}

// isEmpty reports whether there is no point that can be drawn.
func (p Plot) isEmpty() bool {
	for pt := range p.points() {
		if sum := pt.X + pt.Y; !math.IsNaN(sum) && !math.IsInf(sum, 0) {
			return false
		}
	}
	return true
}

func (p Plot) drawSeries(c *canvas, f plotFrame, s Series) {
	ink := c.add(s.Style)
	haveLast, lastX, lastY := false, 0, 0
	for i, pt := range s.Points {
		x, y, ok := f.position(pt)
		if !ok {
			haveLast = false
			continue
		}
		if i < len(s.Spread) && s.Spread[i] > 0 {
			low, high := f.y.at(pt.Y-s.Spread[i]), f.y.at(pt.Y+s.Spread[i])
			dots := float64(f.area.h*dotsY - 1)
			if !math.IsNaN(low + high) {
				c.line(x, int(math.Round((1-min(high, 1))*dots)), x, int(math.Round((1-max(low, 0))*dots)), ink)
			}
		}
		switch {
		case s.Join && haveLast:
			c.line(lastX, lastY, x, y, ink)
		case s.Glyph == "" && !s.Join:
			c.spot(x, y, ink)
		case s.Join:
			c.dot(x, y, ink)
		}
		if s.Glyph != "" {
			c.mark(x/dotsX, y/dotsY, s.Glyph, ink)
		}
		haveLast, lastX, lastY = true, x, y
	}
}

// legendFits reports whether the legend has room beside the label of the y axis.
func (p Plot) legendFits(w int) bool { return text.Width(p.Y.Label)+p.legendWidth() <= w }

func (p Plot) legendWidth() int {
	n := 0
	for _, s := range p.Series {
		if s.Name != "" {
			n += text.Width(s.Name) + 4
		}
	}
	return n
}

// topRows are the rows above the area: the label of the y axis and the legend, on a row of its own where it has no room beside it.
func (p Plot) topRows(t *theme.Theme, f plotFrame, w int) []string {
	r := paint.NewRow(w, theme.Style{}).Put(t.Label, p.Y.Label)
	if !p.Legend || !f.legend && p.Y.Label != "" && !p.legendFits(w) {
		return []string{r.String()}
	}
	var rows []string
	if f.legend {
		rows = append(rows, r.String())
		r = paint.NewRow(w, theme.Style{})
	}
	room, named := w, 0
	for _, s := range p.Series {
		if s.Name != "" {
			named++
		}
	}
	r.Pad(w - min(p.legendWidth(), room))
	for _, s := range p.Series {
		if s.Name != "" {
			name := s.Name
			if p.legendWidth() > room {
				name = text.Clip(name, max(1, room/named-4))
			}
			r.Put(t.Label, "  ").Put(s.Style, s.sign(t)).Put(t.Label, " "+name)
		}
	}
	return append(rows, r.String())
}

// sign is the symbol of a series in the legend.
func (s Series) sign(t *theme.Theme) string {
	switch {
	case s.Glyph != "":
		return s.Glyph
	case s.Join:
		return t.Glyph.H
	case t.Look.ASCII:
		return ":"
	}
	return "·"
}

// assemble puts axes around the canvas.
func (p Plot) assemble(t *theme.Theme, f plotFrame, c *canvas, w, h int) []string {
	rows := make([]string, 0, h)
	if f.top > 0 {
		rows = append(rows, p.topRows(t, f, w)...)
	}
	at := map[int]string{}
	for i, v := range f.yticks {
		row := int(math.Round((1-f.y.at(v))*float64(f.area.h*dotsY-1))) / dotsY
		if _, taken := at[row]; !taken {
			at[row] = f.ylabels[i]
		}
	}
	for y := range f.area.h {
		r := paint.NewRow(w, theme.Style{})
		if f.gutter > 0 {
			line := t.Glyph.V
			if _, ok := at[y]; ok {
				line = t.Glyph.Tee
			}
			r.Num(t.Label, at[y], f.gutter-2).Put(t.Axis, " "+line)
		}
		rows = append(rows, r.Raw(c.row(y), c.w).String())
	}
	if f.hasXAxis {
		rows = append(rows, p.xAxis(t, f, w)...)
	}
	return paint.Fill(rows, w, h)
}

func (p Plot) xAxis(t *theme.Theme, f plotFrame, w int) []string {
	ticks := f.x.ticks(max(2, f.area.w/9))
	names := labels(ticks)
	line := make([]string, f.area.w)
	for i := range line {
		line[i] = t.Glyph.H
	}
	under := paint.NewRow(w, theme.Style{}).Pad(f.gutter)
	for i, v := range ticks {
		x := int(math.Round(f.x.at(v)*float64(f.area.w*dotsX-1))) / dotsX
		if x < 0 || x >= len(line) {
			continue
		}
		line[x] = t.Glyph.Tick
		start := max(f.gutter+x-text.Width(names[i])/2, f.gutter)
		if used := w - under.Room(); (start > used || used == f.gutter) && start+text.Width(names[i]) <= w {
			under.Pad(start).Put(t.Label, names[i])
		}
	}
	// The label is below the ticks or, without a row for it, on the axis where it covers no tick.
	over := paint.NewRow(w, theme.Style{}).Pad(f.gutter - 1)
	n := text.Width(p.X.Label)
	free := len(line)
	for free > 0 && line[free-1] != t.Glyph.Tick {
		free--
	}
	if !f.xLabel && n > 0 && len(line)-free > n+1 {
		over.Put(t.Axis, t.Glyph.Corner+strings.Join(line[:len(line)-n-1], "")).Put(t.Label, " "+p.X.Label)
	} else {
		over.Put(t.Axis, t.Glyph.Corner+strings.Join(line, ""))
	}
	rows := []string{over.String(), under.String()}
	if f.xLabel {
		rows = append(rows, paint.NewRow(w, theme.Style{}).Pad(w-n).Put(t.Label, p.X.Label).String())
	}
	return rows
}
