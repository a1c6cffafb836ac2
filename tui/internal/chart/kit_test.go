package chart

import (
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// TestAxisLabelCoversNoTick draws a chart at many sizes: the label of the x axis never hides a tick or its number.
func TestAxisLabelCoversNoTick(t *testing.T) {
	th := plain(false)
	p := example(th)
	for w := 20; w < 100; w++ {
		for h := 5; h < 20; h++ {
			rows := p.Draw(th, w, h)
			line, numbers := "", ""
			for i, r := range rows {
				if strings.Contains(r, th.Glyph.Corner) {
					line, numbers = ansi.Strip(r), ansi.Strip(rows[i+1])
				}
			}
			if line == "" {
				continue
			}
			f := p.frame(w, h)
			ticks := f.x.ticks(max(2, f.area.w/9))
			if got := strings.Count(line, th.Glyph.Tick); got != len(ticks) {
				t.Fatalf("%d×%d: %d ticks of %d on %q", w, h, got, len(ticks), line)
			}
			if last := labels(ticks)[len(ticks)-1]; w > 60 && !strings.Contains(numbers, last) {
				t.Fatalf("%d×%d: no %s in %q", w, h, last, numbers)
			}
		}
	}
}

// TestSpreadIsDrawn draws the bar of a point, and makes room for it.
func TestSpreadIsDrawn(t *testing.T) {
	th := plain(false)
	dots := func(spread []float64) int {
		p := Plot{Y: Axis{Zero: true}, Series: []Series{{Points: []Point{{1, 10}, {2, 12}}, Spread: spread}}}
		if y := p.frame(40, 12).y; y.Min > 0 || spread != nil && y.Max < 16 {
			t.Errorf("with spread %v the axis runs from %g to %g", spread, y.Min, y.Max)
		}
		n := 0
		for _, r := range strings.Join(p.Draw(th, 40, 12), "") {
			if r > 0x2800 && r < 0x2900 {
				n++
			}
		}
		return n
	}
	if without, with := dots(nil), dots([]float64{0, 4}); with <= without {
		t.Errorf("%d cells with a spread, %d without", with, without)
	}
}

// TestLinesAreDrawn draws a vertical line from top to bottom.
func TestLinesAreDrawn(t *testing.T) {
	th := plain(false)
	p := Plot{X: Axis{Min: 0, Max: 10}, Y: Axis{Min: 0, Max: 1}, Series: []Series{{Points: []Point{{0, 0}}}}, Lines: []Line{{X: 5}, {X: 50}}}
	rows := p.Draw(th, 41, 12)
	n := 0
	for _, r := range rows {
		for x, c := range []rune(ansi.Strip(r)) {
			if c > 0x2800 && c < 0x2900 && x > 15 && x < 30 {
				n++
			}
		}
	}
	if n < 8 {
		t.Errorf("%d cells of the line:\n%s", n, strings.Join(rows, "\n"))
	}
}
