package record

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"image/color"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	uv "github.com/charmbracelet/ultraviolet"
)

// A Screen is what can be drawn: cells by column and row.
type Screen interface {
	Size() (w, h int)
	Cell(x, y int) *uv.Cell
}

// Size of a cell of a still, in pixels of its user space, and the border around it.
const (
	cellW  = 8.4
	cellH  = 17
	border = 12
)

// A Look is the colours of a terminal that the program left alone.
type Look struct{ Background, Foreground, Title string }

// Dark is the look of stills.
func Dark() Look { return Look{Background: "#15181e", Foreground: "#d5dbe5", Title: "#9aa4b2"} }

// SVG draws a screen as a still. The words in a run of cells of equal style are a text element of a fixed width, so that the
// drawing stays aligned in every font; characters that tile with their neighbours are drawn as shapes.
func SVG(w io.Writer, s Screen, title string, look Look) error {
	cols, rows := s.Size()
	width, height := float64(cols)*cellW+2*border, float64(rows)*cellH+2*border
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.1f %.1f" role="img" aria-label="%s">`+"\n", width, height, escape(title))
	fmt.Fprintf(&b, "<title>%s</title>\n", escape(title))
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" rx="8" fill="%s"/>`+"\n", look.Background)
	fmt.Fprintf(&b, `<g font-family="ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace" font-size="14" fill="%s" xml:space="preserve">`+"\n", look.Foreground)
	for y := range rows {
		for _, r := range runs(s, y, cols) {
			drawRun(&b, r, y, look)
		}
	}
	b.WriteString("</g>\n</svg>\n")
	_, err := b.WriteTo(w)
	return err
}

// A run is neighbouring cells of equal style.
type run struct {
	x     int
	cells []string // the content of each; "" in the second one of a wide character
	style uv.Style
}

func runs(s Screen, y, cols int) []run {
	var out []run
	for x := 0; x < cols; {
		c := s.Cell(x, y)
		content, width, style := " ", 1, uv.Style{}
		if c != nil {
			style = c.Style
			if c.Content != "" {
				content, width = c.Content, max(1, c.Width)
			}
		}
		if k := len(out) - 1; k < 0 || !out[k].style.Equal(&style) {
			out = append(out, run{x: x, style: style})
		}
		last := &out[len(out)-1]
		last.cells = append(last.cells, content)
		for range width - 1 {
			last.cells = append(last.cells, "")
		}
		x += width
	}
	return out
}

func drawRun(b *bytes.Buffer, r run, y int, look Look) {
	fg, bg := hex(r.style.Fg, look.Foreground), hex(r.style.Bg, "")
	if r.style.Attrs&uv.AttrReverse != 0 {
		if bg == "" {
			bg = look.Background
		}
		fg, bg = bg, fg
	}
	x, top := border+float64(r.x)*cellW, border+float64(y)*cellH
	if bg != "" {
		fmt.Fprintf(b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%d" fill="%s"/>`+"\n", x, top, float64(len(r.cells))*cellW, cellH, bg)
	}
	faint := ""
	if r.style.Attrs&uv.AttrFaint != 0 {
		faint = ` opacity="0.7"`
	}
	attr := faint
	if fg != look.Foreground {
		attr += ` fill="` + fg + `"`
	}
	if r.style.Attrs&uv.AttrBold != 0 {
		attr += ` font-weight="bold"`
	}
	if r.style.Attrs&uv.AttrItalic != 0 {
		attr += ` font-style="italic"`
	}
	if r.style.Underline != 0 {
		attr += ` text-decoration="underline"`
	}
	words := func(cells []string, at int) { // cells without shapes, of which the first is the at-th of the run
		for len(cells) > 0 && strings.TrimSpace(cells[0]) == "" {
			cells, at = cells[1:], at+1
		}
		for len(cells) > 0 && strings.TrimSpace(cells[len(cells)-1]) == "" {
			cells = cells[:len(cells)-1]
		}
		if len(cells) > 0 {
			fmt.Fprintf(b, `<text x="%.1f" y="%.1f" textLength="%.1f" lengthAdjust="spacingAndGlyphs"%s>%s</text>`+"\n",
				x+float64(at)*cellW, top+cellH*0.77, float64(len(cells))*cellW, attr, escape(strings.Join(cells, "")))
		}
	}
	fill, line, from := map[float64]string{}, "", 0
	for i, c := range r.cells {
		char, size := utf8.DecodeRuneInString(c)
		if s, ok := shapeOf(char, x+float64(i)*cellW, top); ok && size == len(c) {
			fill[s.opacity] += s.fill
			line += s.line
			words(r.cells[from:i], from)
			from = i + 1
		}
	}
	words(r.cells[from:], from)
	for _, opacity := range slices.Sorted(maps.Keys(fill)) {
		if fill[opacity] == "" {
			continue
		}
		extra := faint
		if opacity > 0 {
			extra = fmt.Sprintf(` opacity="%.2f"`, opacity)
		}
		fmt.Fprintf(b, `<path d="%s" fill="%s"%s/>`+"\n", fill[opacity], fg, extra)
	}
	if line != "" {
		fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s"%s/>`+"\n", line, fg, faint)
	}
}

func hex(c color.Color, otherwise string) string {
	if c == nil {
		return otherwise
	}
	r, g, b, _ := c.RGBA()
	return fmt.Sprintf("#%02x%02x%02x", r>>8, g>>8, b>>8)
}

func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		return ""
	}
	return b.String()
}
