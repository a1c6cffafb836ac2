package record

import (
	"fmt"
	"strings"
)

// A shape is how a character that tiles with its neighbours is drawn: fonts leave gaps between such cells, and few have the
// braille patterns in the width of their letters.
type shape struct {
	fill    string  // filled outline, as SVG path data
	line    string  // strokes, as SVG path data
	opacity float64 // of the fill; 0 is opaque
}

// shapeOf draws a character in the cell whose upper left corner is at x, y; ok is false for characters that fonts draw.
func shapeOf(c rune, x, y float64) (s shape, ok bool) {
	rect := func(x0, y0, x1, y1 float64) string { // in fractions of the cell
		return fmt.Sprintf("M%.2f %.2fh%.2fv%.2fh%.2fz", x+x0*cellW, y+y0*cellH, (x1-x0)*cellW, (y1-y0)*cellH, (x0-x1)*cellW)
	}
	switch {
	case c > 0x2800 && c <= 0x28ff:
		return shape{fill: braille(c, x, y)}, true
	case c >= 0x2581 && c <= 0x2588: // ▁ to █
		return shape{fill: rect(0, 1-float64(c-0x2580)/8, 1, 1)}, true
	case c >= 0x2589 && c <= 0x258f: // ▉ to ▏
		return shape{fill: rect(0, 0, float64(0x2590-c)/8, 1)}, true
	case c >= 0x2591 && c <= 0x2593: // ░ to ▓
		return shape{fill: rect(0, 0, 1, 1), opacity: float64(c-0x2590) / 4}, true
	}
	const left, right, up, down = 1, 2, 4, 8
	arms := map[rune]int{'─': left | right, '│': up | down, '├': up | down | right, '┤': up | down | left, '┬': left | right | down, '┴': left | right | up,
		'┼': left | right | up | down, '└': up | right, '┌': down | right, '┐': down | left, '┘': up | left}[c]
	mx, my := x+0.5*cellW, y+0.5*cellH
	var b strings.Builder
	for _, arm := range []struct {
		bit  int
		x, y float64
	}{{left, x, my}, {right, x + cellW, my}, {up, mx, y}, {down, mx, y + cellH}} {
		if arms&arm.bit != 0 {
			fmt.Fprintf(&b, "M%.2f %.2fL%.2f %.2f", mx, my, arm.x, arm.y)
		}
	}
	if corner, ok := map[rune][2]float64{'╭': {1, 1}, '╮': {-1, 1}, '╰': {1, -1}, '╯': {-1, -1}}[c]; ok { // towards which sides it opens
		dx, dy := corner[0]*cellW/2, corner[1]*cellH/2
		fmt.Fprintf(&b, "M%.2f %.2fQ%.2f %.2f %.2f %.2fV%.2f", mx+dx, my, mx, my, mx, my+dy/2, my+dy)
	}
	return shape{line: b.String()}, b.Len() > 0
}

// braille draws the dots of a pattern: bits 0 to 2 and 6 are the left column from above, 3 to 5 and 7 the right one.
func braille(c rune, x, y float64) string {
	const size = 1.7
	var b strings.Builder
	for bit, at := range [8][2]float64{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {0, 3}, {1, 3}} {
		if c&(1<<bit) != 0 {
			cx, cy := x+(at[0]+0.5)*cellW/2, y+(at[1]+0.5)*cellH/4
			fmt.Fprintf(&b, "M%.1f %.1fh%gv%gh-%gz", cx-size/2, cy-size/2, size, size, size)
		}
	}
	return b.String()
}
