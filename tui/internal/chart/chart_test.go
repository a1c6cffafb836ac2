package chart

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"

	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

func plain(ascii bool) *theme.Theme {
	return theme.New(theme.Look{Profile: colorprofile.NoTTY, ASCII: ascii})
}

func TestPlotIsExactAtEverySize(t *testing.T) {
	p := example(plain(false))
	for _, look := range []theme.Look{{Profile: colorprofile.TrueColor}, {Profile: colorprofile.ASCII, ASCII: true}} {
		th := theme.New(look)
		for w := range 70 {
			for h := range 20 {
				rows := p.Draw(th, w, h)
				if w > 0 && len(rows) != h {
					t.Fatalf("%d×%d: %d rows", w, h, len(rows))
				}
				for _, r := range rows {
					if text.Width(r) != w {
						t.Fatalf("%d×%d: row of %d cells: %q", w, h, text.Width(r), ansi.Strip(r))
					}
				}
			}
		}
	}
}

func example(t *theme.Theme) Plot {
	var cloud, front []Point
	for i := range 40 {
		x := 0.5 + float64(i)/80
		cloud = append(cloud, Point{x, 20 + 60*(1-x) + float64(i*7%11)})
		if i%8 == 0 {
			front = append(front, Point{x, 20 + 50*(1-x)})
		}
	}
	cloud = append(cloud, Point{math.NaN(), 3}, Point{0.7, math.Inf(1)})
	return Plot{
		X: Axis{Min: 0.45, Max: 1.05, Label: "inheriting ratio"}, Y: Axis{Label: "ppl"}, Empty: "no candidates yet",
		Series: []Series{{Name: "all", Style: t.Cloud, Points: cloud}, {Name: "front", Style: t.Front, Points: front, Join: true, Glyph: t.Glyph.Dot}},
		Marks:  []Mark{{Point: Point{1, 20.3}, Glyph: t.Glyph.Diamond, Label: "dense", Style: t.Dense}},
	}
}

func TestPlotDraws(t *testing.T) {
	for ascii, want := range map[bool][]string{false: {"●", "◆", "dense", "inheriting ratio", "┤", "ppl"}, true: {"*", "#", "dense", "+"}} {
		th := plain(ascii)
		got := strings.Join(example(th).Draw(th, 60, 14), "\n")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("no %q in\n%s", w, got)
			}
		}
	}
	th := plain(false)
	if got := strings.Join(Plot{Empty: "no candidates yet"}.Draw(th, 40, 8), "\n"); !strings.Contains(got, "no candidates yet") {
		t.Errorf("empty plot:\n%s", got)
	}
}

func TestNearestFindsWhatIsDrawn(t *testing.T) {
	p := example(plain(false))
	points := p.Series[1].Points
	for i, pt := range points {
		x, y, ok := p.Cell(60, 14, pt)
		if !ok {
			t.Fatalf("point %v is not drawn", pt)
		}
		if got := p.Nearest(60, 14, x, y, points); got != i {
			t.Errorf("nearest to the cell of point %d is %d", i, got)
		}
	}
	if got := p.Nearest(60, 14, 59, 0, points); got != -1 {
		t.Errorf("nearest to an empty corner is %d", got)
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		a    Axis
		n    int
		want string
	}{
		{Axis{Min: 0.45, Max: 1.05}, 6, "0.5 0.6 0.7 0.8 0.9 1.0"},
		{Axis{Min: 0, Max: 100}, 5, "0 25 50 75 100"},
		{Axis{Min: 0.79875, Max: 0.8}, 6, "0.79875 0.79900 0.79925 0.79950 0.79975 0.80000"},
		{Axis{Min: 19, Max: 61}, 3, "20 40 60"},
		{Axis{Min: 9, Max: 1100, Log: true}, 4, "10 100 1000"},
		{Axis{Min: 18, Max: 70, Log: true}, 6, "20 30 40 50 70"},
		{Axis{Min: 0, Max: 2.1e6}, 3, "0 1M 2M"},
		{Axis{Min: 1, Max: 1}, 3, ""},
	} {
		if got := strings.Join(labels(c.a.ticks(c.n)), " "); got != c.want {
			t.Errorf("ticks of %v = %q, want %q", c.a, got, c.want)
		}
	}
}

func FuzzTicks(f *testing.F) {
	f.Add(0.0, 1.0, 5, false)
	f.Add(1e-300, 1e300, 7, true)
	f.Fuzz(func(t *testing.T, lo, hi float64, n int, log bool) {
		n %= 100
		a := Axis{Min: lo, Max: hi, Log: log}
		ticks := a.ticks(n)
		if len(ticks) > max(n, 0) || !slices.IsSorted(ticks) {
			t.Fatalf("%v: %v", a, ticks)
		}
		labels(ticks)
	})
}

func TestStrip(t *testing.T) {
	th := plain(false)
	run, w := Strip(th, []float64{0, 0.1, 0.5, 1, math.NaN()}, 10, func(float64) theme.Style { return theme.Style{} })
	if run != "░▁▅█ " || w != 5 {
		t.Errorf("strip = %q, %d", run, w)
	}
	if got := Resample([]float64{1, 3, 5, 7}, 2); !slices.Equal(got, []float64{2, 6}) {
		t.Errorf("Resample = %v", got)
	}
}

func BenchmarkPlot(b *testing.B) {
	th := theme.New(theme.Look{Profile: colorprofile.TrueColor})
	p := example(th)
	for b.Loop() {
		p.Draw(th, 100, 25)
	}
}
