package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/durable"
)

// writeFigure draws the comparison to an SVG file.
func (r compareResult) writeFigure(path string) error {
	return durable.Write(path, 0o644, func(w io.Writer) error {
		_, err := w.Write(r.figure())
		return err
	})
}

// figure draws the perplexity relative to the dense model against the ratio, on a logarithmic axis: one panel for each text.
func (r compareResult) figure() []byte {
	const (
		w, panel                 = 800, 360
		left, right, top, bottom = 64, 220, 40, 48
	)
	colours := [...]string{"#1f6feb", "#0a7d5a", "#8250df", "#bf5b04", "#cf222e", "#6e7781", "#9a6700", "#1b7c83", "#bf3989", "#24292f"}
	lo, most := 1.0, 1.0
	for i := range r.Texts {
		for _, l := range r.lines(i) {
			for _, p := range l.points {
				lo = min(lo, p.ratio)
			}
		}
	}
	lo = math.Floor(10*lo-1e-9) / 10
	var b bytes.Buffer
	h := panel * len(r.Texts)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" font-family="system-ui,sans-serif" font-size="13" fill="#24292f">`+"\n", w, h)
	fmt.Fprintf(&b, "<title>Perplexity relative to the dense model against the ratio of block parameters</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n")
	for i, t := range r.Texts {
		lines := r.lines(i)
		most = 1.1
		for _, l := range lines {
			for _, p := range l.points {
				most = max(most, p.most)
			}
		}
		x := func(ratio float64) float64 { return left + (ratio-lo)/(1-lo)*(w-left-right) }
		y := func(relative float64) float64 {
			return panel - bottom - math.Log(max(relative, 1))/math.Log(most)*(panel-top-bottom)
		}
		fmt.Fprintf(&b, "<g transform=\"translate(0 %d)\">\n<text x=\"20\" y=\"22\" font-weight=\"600\">Perplexity on %s, × dense (%.2f)</text>\n", i*panel, escape(t.Name), t.Dense.Perplexity)
		for _, v := range relativeTicks(most) {
			fmt.Fprintf(&b, "<path d=\"M%d %.1fH%d\" stroke=\"#d0d7de\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", left, y(v), w-right, left-8, y(v)+4, v)
		}
		for tick := math.Round(10 * lo); tick <= 10; tick++ {
			fmt.Fprintf(&b, "<path d=\"M%.1f %dV%d\" stroke=\"#eaeef2\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", x(tick/10), top, panel-bottom, x(tick/10), panel-bottom+18, tick/10)
		}
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%d\" fill=\"#57606a\">ratio of block parameters</text>\n<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>\n", w-right+14, panel-bottom+18, x(1), y(1))
		for k, l := range lines {
			colour := colours[k%len(colours)]
			path := ""
			for _, p := range l.points {
				path += fmt.Sprintf("%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[path == ""], x(p.ratio), y(p.relative))
			}
			path += fmt.Sprintf("L%.1f %.1f", x(1), y(1))
			fmt.Fprintf(&b, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", path, colour)
			for _, p := range l.points {
				if p.most > p.least {
					fmt.Fprintf(&b, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"%s\"/>\n", x(p.ratio), y(p.least), y(p.most), colour)
				}
				fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"><title>%s at %.3f: %.3f</title></circle>\n", x(p.ratio), y(p.relative), colour, escape(l.name), p.ratio, p.relative)
			}
			at := top + 14 + 20*k
			fmt.Fprintf(&b, "<path d=\"M%d %dh18\" stroke=\"%s\" stroke-width=\"3\"/><text x=\"%d\" y=\"%d\">%s</text>\n", w-right+14, at-4, colour, w-right+38, at, escape(l.name))
		}
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// relativeTicks are at most eight labels of a logarithmic axis from 1.
func relativeTicks(most float64) []float64 {
	ticks := []float64{1}
	for _, steps := range [][]float64{{1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4}, {1.2, 1.4, 1.6, 1.8, 2}, {1.5, 2, 3, 4, 6, 8}} {
		if most <= steps[len(steps)-1] {
			return append(ticks, slices.DeleteFunc(steps, func(v float64) bool { return v > most })...)
		}
	}
	factor := math.Pow(10, math.Ceil(math.Log10(most)/6))
	for v := factor; v <= most; v *= factor {
		ticks = append(ticks, v)
	}
	if len(ticks) < 3 {
		ticks = []float64{1, math.Round(math.Sqrt(most)), math.Floor(most)}
	}
	return ticks
}

// escape returns text as XML.
func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // a buffer takes everything
	return b.String()
}
