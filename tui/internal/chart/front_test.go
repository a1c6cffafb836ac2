package chart

import (
	"slices"
	"strings"
	"testing"
)

func TestFrontIsBelowAllPoints(t *testing.T) {
	points := []Point{{0.8, 3}, {0.5, 9}, {0.8, 2}, {0.7, 2.5}, {0.9, 2.2}, {1, 1}, {0.6, 9}}
	front := Front(points)
	if want := []Point{{0.5, 9}, {0.7, 2.5}, {0.8, 2}, {1, 1}}; !slices.Equal(front, want) {
		t.Errorf("front %v, want %v", front, want)
	}
}

// TestAxesHaveLeastSpans draws points that nearly coincide: the axes do not show their difference as if it filled the chart.
func TestAxesHaveLeastSpans(t *testing.T) {
	th := plain(false)
	near := []Point{{0.7995, 1.591}, {0.8, 1.59}}
	p := Plot{X: Axis{Label: "ratio", Span: 0.1}, Y: Axis{Label: "ppl", Log: true, Span: 1.25}, Series: []Series{{Name: "all", Points: near}}}
	got := strings.Join(p.Draw(th, 60, 14), "\n")
	for _, tick := range []string{"0.76", "0.84"} {
		if !strings.Contains(got, tick) {
			t.Errorf("no %s on the axis:\n%s", tick, got)
		}
	}
	if strings.Contains(got, "0.7996") {
		t.Errorf("an axis from 0.7995 to 0.8:\n%s", got)
	}
	generations := Plot{X: Axis{Label: "generation", Integer: true, Span: 4}, Y: Axis{}, Series: []Series{{Points: []Point{{1, 2}, {1, 3}}, Join: true}}}
	rows := generations.Draw(th, 60, 14)
	if axis := rows[len(rows)-2]; strings.Contains(axis, ".") || len(strings.Fields(axis)) < 4 {
		t.Errorf("generations %s", axis)
	}
}

// TestAxisOfNothingButZeros draws points without a context, as a benchmark without depths has them: the axis has no tokens below 0.
func TestAxisOfNothingButZeros(t *testing.T) {
	p := Plot{X: Axis{Label: "tokens", Integer: true, Span: 512}, Y: Axis{Zero: true}, Series: []Series{{Points: []Point{{0, 2}, {0, 3}}}}}
	rows := p.Draw(plain(false), 60, 14)
	if axis := rows[len(rows)-2]; strings.ContainsAny(axis, "-.") || !strings.Contains(axis, "400") {
		t.Errorf("tokens %s", axis)
	}
}

// TestLegendIsOutside draws a narrow chart whose legend has no room beside the label of the axis: it is above the area all the same.
func TestLegendIsOutside(t *testing.T) {
	th := plain(false)
	line := []Point{{1, 1}, {2, 2}, {3, 3}}
	p := Plot{X: Axis{Label: "generation"}, Y: Axis{Label: "KL nats/token"}, Legend: true, Series: []Series{{Name: "median", Points: line, Join: true}, {Name: "best", Points: line, Join: true}}}
	for _, size := range [][2]int{{26, 12}, {18, 12}, {26, 6}} {
		for y, row := range p.Draw(th, size[0], size[1]) {
			if y >= 2 && (strings.Contains(row, "best") || strings.Contains(row, "median")) {
				t.Errorf("%v: the legend is on row %d: %s", size, y, row)
			}
		}
	}
	if rows := p.Draw(th, 26, 12); !strings.Contains(rows[1], "median") || !strings.Contains(rows[1], "best") {
		t.Errorf("no legend:\n%s", strings.Join(rows, "\n"))
	}
}
