// Package layout computes where everything goes: pure arithmetic over rectangles of cells, tested without drawing.
//
// Every function accepts any size, down to nothing, and returns rectangles inside the one it was given that do not
// overlap; a rectangle without room is empty (W or H of 0) and is not drawn.
package layout

// Rect is a rectangle of cells. X grows to the right, Y downwards.
type Rect struct{ X, Y, W, H int }

// Empty reports whether there is nothing to draw in r.
func (r Rect) Empty() bool { return r.W <= 0 || r.H <= 0 }

// Contains reports whether the cell is inside r.
func (r Rect) Contains(x, y int) bool { return x >= r.X && x < r.X+r.W && y >= r.Y && y < r.Y+r.H }

// Inset takes dx cells off both sides, and dy rows off top and bottom.
func (r Rect) Inset(dx, dy int) Rect {
	return Rect{r.X + dx, r.Y + dy, max(0, r.W-2*dx), max(0, r.H-2*dy)}
}

// Inside is where the content of a box with borders goes.
func (r Rect) Inside() Rect { return r.Inset(1, 1) }

// CutTop splits off the top h rows.
func (r Rect) CutTop(h int) (top, rest Rect) {
	h = min(max(h, 0), max(r.H, 0))
	return Rect{r.X, r.Y, r.W, h}, Rect{r.X, r.Y + h, r.W, r.H - h}
}

// CutBottom splits off the bottom h rows.
func (r Rect) CutBottom(h int) (rest, bottom Rect) {
	h = min(max(h, 0), max(r.H, 0))
	return Rect{r.X, r.Y, r.W, r.H - h}, Rect{r.X, r.Y + r.H - h, r.W, h}
}

// CutLeft splits off the left w columns.
func (r Rect) CutLeft(w int) (left, rest Rect) {
	w = min(max(w, 0), max(r.W, 0))
	return Rect{r.X, r.Y, w, r.H}, Rect{r.X + w, r.Y, r.W - w, r.H}
}

// Columns splits r into columns whose widths are in proportion to the weights and add up to W.
func (r Rect) Columns(weights ...int) []Rect {
	out := make([]Rect, len(weights))
	x := r.X
	for i, w := range shares(r.W, weights) {
		out[i] = Rect{x, r.Y, w, r.H}
		x += w
	}
	return out
}

// Rows splits r into rows whose heights are in proportion to the weights and add up to H.
func (r Rect) Rows(weights ...int) []Rect {
	out := make([]Rect, len(weights))
	y := r.Y
	for i, h := range shares(r.H, weights) {
		out[i] = Rect{r.X, y, r.W, h}
		y += h
	}
	return out
}

// shares splits total in proportion to the weights; the parts add up to total.
func shares(total int, weights []int) []int {
	out := make([]int, len(weights))
	sum := 0
	for _, w := range weights {
		sum += max(w, 0)
	}
	if sum == 0 || total <= 0 {
		return out
	}
	acc, used := 0, 0
	for i, w := range weights {
		acc += max(w, 0)
		end := total * acc / sum
		out[i] = end - used
		used = end
	}
	return out
}

// Center is a rectangle of at most w × h cells in the middle of r.
func (r Rect) Center(w, h int) Rect {
	w, h = min(w, max(r.W, 0)), min(h, max(r.H, 0))
	return Rect{r.X + (r.W-w)/2, r.Y + (r.H-h)/2, w, h}
}
