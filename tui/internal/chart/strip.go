package chart

import (
	"math"
	"strings"

	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// Strip draws one value in [0, 1] per column as bars of eight heights, coloured by paint. With fewer columns than values,
// a column shows the mean of its values; with more, the strip is as wide as there are values. It returns the run and its
// width in cells.
func Strip(t *theme.Theme, values []float64, w int, paint func(v float64) theme.Style) (run string, width int) {
	columns := Resample(values, w)
	var b strings.Builder
	var open theme.Style
	for i, v := range columns {
		s := paint(v)
		if i == 0 || s != open {
			b.WriteString(open.Close())
			b.WriteString(s.Open())
			open = s
		}
		switch {
		case math.IsNaN(v):
			b.WriteByte(' ')
		case v <= 0:
			b.WriteString(t.Glyph.Shades[1])
		default:
			b.WriteString(t.Glyph.Bar(v))
		}
	}
	b.WriteString(open.Close())
	return b.String(), len(columns)
}

// Resample reduces values to at most w means of neighbours.
func Resample(values []float64, w int) []float64 {
	n := len(values)
	if w <= 0 {
		return nil
	}
	if n <= w {
		return values
	}
	out := make([]float64, w)
	for i := range out {
		lo, hi := i*n/w, (i+1)*n/w
		sum := 0.0
		for _, v := range values[lo:hi] {
			sum += v
		}
		out[i] = sum / float64(hi-lo)
	}
	return out
}
