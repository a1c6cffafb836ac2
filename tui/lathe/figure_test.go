package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The page of results, and the figure that is drawn from its tables.
const (
	resultsPage   = "../../search/docs/results.md"
	resultsFigure = "../../search/docs/results.svg"
)

// A measured point: block parameters kept, and perplexity relative to the dense model.
type measured struct{ ratio, relative float64 }

// A line of the figure.
type measuredLine struct {
	name, colour string
	points       []measured
}

// linesOf reads the figure's lines from the tables of the page of results: the cuts and searches that are published, and the
// methods that are compared with them.
func linesOf(page string) ([]measuredLine, map[float64]float64, error) {
	cell := regexp.MustCompile(`\s*\|\s*`)
	number := func(text string) float64 {
		v, err := strconv.ParseFloat(strings.TrimSuffix(strings.Trim(text, "*` "), " MB"), 64)
		if err != nil {
			return math.NaN()
		}
		return v
	}
	search := measuredLine{name: "lathe search", colour: "#0a7d5a"}
	cut := measuredLine{name: "lathe cut", colour: "#1f6feb"}
	others := []measuredLine{{name: "OBS, exact re-fit", colour: "#8250df"}, {name: "FLAP", colour: "#bf5b04"}, {name: "the paper's importance", colour: "#6e7781"}}
	keys := []string{"`obs`", "`flap`", "`paper-init`"}
	sizes := map[float64]float64{}
	best := func(l *measuredLine, ratio, relative float64) {
		for i, p := range l.points {
			if p.ratio == ratio {
				l.points[i].relative = min(p.relative, relative)
				return
			}
		}
		l.points = append(l.points, measured{ratio, relative})
	}
	section := ""
	for _, line := range strings.Split(page, "\n") {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = title
		}
		if m := regexp.MustCompile(`file \(F16; dense ([0-9.]+) MB\)`).FindStringSubmatch(line); m != nil {
			sizes[1] = number(m[1])
		}
		cells := cell.Split(strings.Trim(line, "| "), -1)
		switch {
		case section == "Size and quality" && len(cells) == 6 && !math.IsNaN(number(cells[0])):
			ratio, relative := number(cells[0]), number(cells[4])
			sizes[ratio] = number(cells[5])
			if strings.HasPrefix(cells[1], "`lathe search") {
				best(&search, ratio, relative)
			} else {
				best(&cut, ratio, relative)
			}
		case section == "All presets on equal terms" && len(cells) >= 6:
			for i, key := range keys {
				if cells[0] == key {
					best(&others[i], 0.8, number(cells[1]))
					best(&others[i], 0.6, number(cells[4]))
				}
			}
		}
	}
	lines := append([]measuredLine{search, cut}, others...)
	for _, l := range lines {
		if len(l.points) < 2 {
			return nil, nil, fmt.Errorf("the tables have %d figures of %s, want at least 2", len(l.points), l.name)
		}
		for _, p := range l.points {
			if !(p.relative >= 1) || math.IsNaN(sizes[p.ratio]) || sizes[p.ratio] == 0 {
				return nil, nil, fmt.Errorf("%s at %g: %g × dense in %g MB", l.name, p.ratio, p.relative, sizes[p.ratio])
			}
		}
	}
	return lines, sizes, nil
}

// drawResults draws the lines over the size of the file, with × dense on a logarithmic axis.
func drawResults(lines []measuredLine, sizes map[float64]float64) []byte {
	const (
		w, h                     = 800, 380
		left, right, top, bottom = 64, 240, 34, 56
		most                     = 8.0
	)
	lo, hi := sizes[1], sizes[1]
	for _, s := range sizes {
		lo = min(lo, s)
	}
	lo, hi = math.Floor(lo/20)*20-10, math.Ceil(hi/20)*20
	x := func(mb float64) float64 { return left + (mb-lo)/(hi-lo)*(w-left-right) }
	y := func(relative float64) float64 { return h - bottom - math.Log(relative)/math.Log(most)*(h-top-bottom) }
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" font-family="system-ui,sans-serif" font-size="13" fill="#24292f">`+"\n", w, h)
	title := "SmolLM2-135M-Instruct: size of the file against perplexity on WikiText-2 test, relative to the dense model"
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" rx=\"8\" fill=\"#ffffff\"/>\n", title)
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"20\" font-weight=\"600\">Perplexity on WikiText-2 test, × dense (SmolLM2-135M-Instruct)</text>\n", left-44)
	for _, v := range []float64{1, 1.2, 1.5, 2, 3, 4, 6, 8} {
		fmt.Fprintf(&b, "<path d=\"M%d %.1fH%d\" stroke=\"#d0d7de\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", left, y(v), w-right, left-8, y(v)+4, v)
	}
	for _, ratio := range []float64{1, 0.8, 0.6} {
		if s := sizes[ratio]; s > 0 {
			fmt.Fprintf(&b, "<path d=\"M%.1f %dV%d\" stroke=\"#d0d7de\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f MB</text><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" fill=\"#57606a\">ratio %g</text>\n",
				x(s), top, h-bottom, x(s), h-bottom+18, s, x(s), h-bottom+34, ratio)
		}
	}
	fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" fill=\"#57606a\">F16 file</text>\n", w-right+12, h-bottom+18)
	fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/><text x=\"%.1f\" y=\"%.1f\">dense</text>\n", x(sizes[1]), y(1), x(sizes[1])+10, y(1)-6)
	for i, l := range lines {
		width, dash := 3, ""
		if i > 1 {
			width, dash = 2, ` stroke-dasharray="5 4"`
		}
		path := fmt.Sprintf("M%.1f %.1f", x(sizes[1]), y(1))
		for _, p := range l.points {
			path += fmt.Sprintf("L%.1f %.1f", x(sizes[p.ratio]), y(p.relative))
		}
		fmt.Fprintf(&b, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"%d\"%s/>\n", path, l.colour, width, dash)
		for _, p := range l.points {
			fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"/>\n", x(sizes[p.ratio]), y(p.relative), l.colour)
		}
		at := top + 14 + 22*(len(lines)-1-i)
		words := fmt.Sprintf("%s, %.2f", l.name, l.points[len(l.points)-1].relative)
		fmt.Fprintf(&b, "<path d=\"M%d %dh18\" stroke=\"%s\" stroke-width=\"%d\"%s/><text x=\"%d\" y=\"%d\">%s</text>\n", w-right+14, at-4, l.colour, width, dash, w-right+38, at, words)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// TestResultsFigure compares the figure with the tables; -update draws it anew.
func TestResultsFigure(t *testing.T) {
	page, err := os.ReadFile(resultsPage)
	if err != nil {
		t.Fatal(err)
	}
	lines, sizes, err := linesOf(string(page))
	if err != nil {
		t.Fatalf("%s: %v", resultsPage, err)
	}
	want := drawResults(lines, sizes)
	if err := xml.Unmarshal(want, new(struct{ XMLName xml.Name })); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(resultsFigure, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(resultsFigure)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("search/docs/results.svg is not drawn from the tables of results.md: run go test ./tui/lathe -run ResultsFigure -update")
	}
	if _, _, err := linesOf(strings.ReplaceAll(string(page), "`flap`", "`flop`")); err == nil {
		t.Error("a table without a method is accepted")
	}
}
