package chart

// Cell is the cell, counted from the left upper corner of the chart, in which a point is drawn on w × h cells; ok is false
// for points outside the axes.
func (p Plot) Cell(w, h int, pt Point) (x, y int, ok bool) {
	f := p.frame(w, h)
	dx, dy, ok := f.position(pt)
	return f.gutter + dx/dotsX, f.top + dy/dotsY, ok
}
