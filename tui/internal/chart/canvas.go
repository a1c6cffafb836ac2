// Package chart draws charts in terminal cells: points and lines on a braille grid of 2 × 4 dots per cell, with an ASCII
// form for fonts without braille, axes with round ticks, and strips of bars.
//
// Charts are values that draw themselves into rows of an exact width. They write runs of equal style instead of styling
// every cell, which is what makes a full-screen chart cheap. Numbers that are not finite are left out, never drawn wrongly.
package chart

import (
	"strings"

	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// Dots per cell.
const (
	dotsX = 2
	dotsY = 4
)

// canvas is a grid of cells that contain braille dots or a glyph each. Where several inks meet in a cell, the higher wins.
type canvas struct {
	w, h  int
	ascii bool
	dots  []uint8
	ink   []uint8 // index into inks plus one; 0 is an empty cell
	glyph []string
	inks  []theme.Style
}

func newCanvas(t *theme.Theme, w, h int) *canvas {
	w, h = max(w, 0), max(h, 0)
	return &canvas{w: w, h: h, ascii: t.Look.ASCII, dots: make([]uint8, w*h), ink: make([]uint8, w*h), glyph: make([]string, w*h)}
}

// add makes a style known and returns its ink. Inks added later lie above earlier ones.
func (c *canvas) add(s theme.Style) uint8 {
	for i, have := range c.inks {
		if have == s && i == len(c.inks)-1 {
			return uint8(i + 1)
		}
	}
	c.inks = append(c.inks, s)
	return uint8(len(c.inks))
}

// brailleBit maps a dot of a cell to its bit in U+2800.
func brailleBit(x, y int) uint8 {
	if y == 3 {
		return 0x40 << x
	}
	return 1 << (y + 3*x)
}

// dot sets the dot at column x, row y, counted in dots from the left upper corner.
func (c *canvas) dot(x, y int, ink uint8) {
	if x < 0 || y < 0 || x >= c.w*dotsX || y >= c.h*dotsY {
		return
	}
	i := y/dotsY*c.w + x/dotsX
	c.dots[i] |= brailleBit(x%dotsX, y%dotsY)
	c.ink[i] = max(c.ink[i], ink)
}

// spot sets a square of four dots, which is seen where one is not.
func (c *canvas) spot(x, y int, ink uint8) {
	x, y = min(x, c.w*dotsX-2), min(y, c.h*dotsY-2)
	for _, d := range [4][2]int{{0, 0}, {1, 0}, {0, 1}, {1, 1}} {
		c.dot(max(x, 0)+d[0], max(y, 0)+d[1], ink)
	}
}

// line sets the dots from one dot to another.
func (c *canvas) line(x0, y0, x1, y1 int, ink uint8) {
	dx, dy := abs(x1-x0), -abs(y1-y0)
	sx, sy := sign(x1-x0), sign(y1-y0)
	for e := dx + dy; ; {
		c.dot(x0, y0, ink)
		if x0 == x1 && y0 == y1 {
			return
		}
		if 2*e >= dy {
			e += dy
			x0 += sx
		} else {
			e += dx
			y0 += sy
		}
	}
}

// mark puts a one-cell glyph over the content of the cell.
func (c *canvas) mark(x, y int, glyph string, ink uint8) {
	if x < 0 || y < 0 || x >= c.w || y >= c.h {
		return
	}
	i := y*c.w + x
	if c.glyph[i] != "" && c.ink[i] > ink {
		return
	}
	c.glyph[i], c.ink[i] = glyph, ink
}

// label writes narrow text from a cell to the right, as far as there is room.
func (c *canvas) label(x, y int, s string, ink uint8) {
	for _, r := range s {
		if text.Width(string(r)) != 1 {
			continue
		}
		c.mark(x, y, string(r), ink)
		x++
	}
}

// row renders one row of cells.
func (c *canvas) row(y int) string {
	var b strings.Builder
	var open uint8
	for x := range c.w {
		i := y*c.w + x
		ink := c.ink[i]
		if ink != open {
			if open != 0 {
				b.WriteString(c.inks[open-1].Close())
			}
			if ink != 0 {
				b.WriteString(c.inks[ink-1].Open())
			}
			open = ink
		}
		switch {
		case c.glyph[i] != "":
			b.WriteString(c.glyph[i])
		case c.dots[i] == 0:
			b.WriteByte(' ')
		case c.ascii:
			b.WriteByte(asciiDots(c.dots[i]))
		default:
			b.WriteRune(0x2800 + rune(c.dots[i]))
		}
	}
	if open != 0 {
		b.WriteString(c.inks[open-1].Close())
	}
	return b.String()
}

// asciiDots is the character closest to where the dots of a cell are.
func asciiDots(d uint8) byte {
	const upper, lower = 0x1b, 0xe4
	switch {
	case d&upper != 0 && d&lower != 0:
		return ':'
	case d&upper != 0:
		return '\''
	}
	return '.'
}

func abs(v int) int {
	if v < 0 {
		return -v
	}
	return v
}

func sign(v int) int {
	switch {
	case v > 0:
		return 1
	case v < 0:
		return -1
	}
	return 0
}
