package reform

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// splitLayers places the list of the layers and the selected one, which has no area where there is no room: below the list, or where that would
// hide layers below the settings.
func splitLayers(setting, r layout.Rect, layers []explorer.LayerReform) (settings, list, detail layout.Rect) {
	const facts, least, needs = 4, 10, 20 // rows of the detail without a chart, of the list, and of the settings
	want := facts
	if slices.ContainsFunc(layers, hasCurve) {
		want = 14
	}
	beside, all := setting.Y == r.Y, len(layers)+3
	switch room := r.H - least; {
	case len(layers) == 0:
		return setting, r, layout.Rect{}
	case beside && r.H < all+want && setting.H >= needs+want:
		settings, detail = setting.CutBottom(want)
		return settings, r, detail
	case room < facts:
		return setting, r, layout.Rect{}
	default:
		list, detail = r.CutBottom(min(room, want))
		return setting, list, detail
	}
}

func hasCurve(l explorer.LayerReform) bool {
	return l.Attention != nil && len(l.Attention.Curve) > 0 || l.MLP != nil && len(l.MLP.Curve) > 0
}

// drawLayers draws a row per layer: the error of its blocks before and after the re-fit.
func (s *Screen) drawLayers(t *theme.Theme, w, h int) []string {
	layers := s.snap().Reform.Layers
	done := 0
	highest := 0.0
	for _, l := range layers {
		if l.Attention != nil && l.MLP != nil {
			done++
		}
		for _, k := range []*explorer.LayerProgress{l.Attention, l.MLP} {
			if k != nil {
				highest = max(highest, k.ErrBefore)
			}
		}
	}
	note := ""
	if len(layers) > 0 {
		note = fmt.Sprintf("%d/%d", done, len(layers))
	}
	foot := ""
	if done > 0 {
		foot = t.Glyph.Full + " after, " + t.Glyph.Shades[1] + " before"
		if w >= 56 {
			foot += " the re-fit"
		}
	}
	if part := widget.ScrollNote(s.list.Top, h-3, len(layers)); part != "" {
		foot = strings.TrimPrefix(foot+" "+t.Glyph.Divider+" "+part, " "+t.Glyph.Divider+" ")
	}
	return widget.Box(t, paint.Frame{Title: "error of each block", Note: note, Foot: foot}, w, h, func(w, h int) []string {
		if len(layers) == 0 {
			return append([]string{paint.Blank(w)}, widget.Paragraph(w, t.Dim, "Each layer gets a bar here as it is re-fitted: the relative error of its output before and after the re-fit.")...)
		}
		bar := max(4, (w-8)/2-18)
		head := paint.NewRow(w, theme.Style{}).Put(t.Dim, "   L").Pad(6).Put(t.Dim, "attention").Pad(6+(w-6)/2).Put(t.Dim, "mlp")
		rows := []string{head.String()}
		for i := s.list.Top; i < min(len(layers), s.list.Top+h-1); i++ {
			l := layers[i]
			base, mark := theme.Style{}, "  "
			if i == s.list.At {
				base, mark = t.Cursor, t.Glyph.Here+" "
			}
			r := paint.NewRow(w, base).Put(t.Accent, mark).Num(t.Text, strconv.Itoa(i), 2).Pad(6)
			errorBar(r, t, l.Attention, highest, bar)
			r.Pad(6 + (w-6)/2)
			errorBar(r, t, l.MLP, highest, bar)
			rows = append(rows, r.String())
		}
		return rows
	})
}

// errorBar draws the error after the re-fit as a solid bar and the rest of the error before it as a faint one.
func errorBar(r *paint.Row, t *theme.Theme, l *explorer.LayerProgress, highest float64, w int) {
	if l == nil {
		r.Put(t.Dropped, t.Glyph.Shades[1])
		return
	}
	if l.Kept == l.Of {
		r.Put(t.Dim, "all kept")
		return
	}
	if highest <= 0 {
		highest = 1
	}
	after := t.Glyph.HBar(max(l.ErrAfter/highest, 1/float64(8*w)), w) // the thinnest bar for the smallest error
	before := int(min(1, l.ErrBefore/highest)*float64(w) + 0.5)
	r.Put(t.Kept, after)
	if n := before - text.Width(after); n > 0 {
		r.Put(t.Removed, strings.Repeat(t.Glyph.Shades[1], n))
	}
	r.Put(t.Dim, " "+text.Small(l.ErrBefore)+t.Glyph.Right).Put(t.Text, text.Small(l.ErrAfter))
}

// drawLayer draws the selected layer: the errors of its blocks, the ridges used, and the error after each step of ADMM.
func (s *Screen) drawLayer(t *theme.Theme, w, h int) []string {
	layers := s.snap().Reform.Layers
	if s.list.At >= len(layers) {
		return widget.Box(t, paint.Frame{Title: "layer"}, w, h, func(int, int) []string { return nil })
	}
	l := layers[s.list.At]
	return widget.Box(t, paint.Frame{Title: fmt.Sprintf("layer %d", s.list.At)}, w, h, func(w, h int) []string {
		var rows []string
		p := chart.Plot{X: chart.Axis{Label: "step of ADMM"}, Y: chart.Axis{Label: "error"}, Legend: true}
		for i, b := range []struct {
			name string
			of   *explorer.LayerProgress
		}{{"attention", l.Attention}, {"mlp", l.MLP}} {
			rows = append(rows, blockFacts(t, w, b.name, b.of)...)
			if b.of == nil || len(b.of.Curve) == 0 {
				continue
			}
			points := []chart.Point{{X: 0, Y: b.of.ErrBefore}}
			for step, e := range b.of.Curve {
				points = append(points, chart.Point{X: float64(step + 1), Y: e})
			}
			p.Series = append(p.Series, chart.Series{Name: b.name, Style: t.SeriesAt(i), Points: points, Join: true})
		}
		if room := h - len(rows); len(p.Series) > 0 && room >= 3 {
			rows = append(rows, p.Draw(t, w, room)...)
		}
		return rows
	})
}

// blockFacts describes the re-fit of one block in as many words as fit.
func blockFacts(t *theme.Theme, w int, name string, k *explorer.LayerProgress) []string {
	switch {
	case k == nil:
		return widget.Fact(t, w, name, "not yet")
	case k.ErrBefore == 0 && k.Ridge == 0 && k.Curve == nil:
		return widget.Fact(t, w, name, "as in the dense model")
	}
	kept := fmt.Sprintf("%d of %d kept", k.Kept, k.Of)
	errs := fmt.Sprintf("error %s%s%s", text.Small(k.ErrBefore), t.Glyph.Right, text.Small(k.ErrAfter))
	held := ""
	if k.HeldOut > 0 {
		held = ", held-out " + text.Small(k.HeldOut)
	}
	ridge := ", no ridge"
	if k.Ridge > 0 {
		ridge = fmt.Sprintf(", ridge %.3g", k.Ridge)
		if k.Raised {
			ridge += " (raised)"
		}
	}
	if g := k.Gradient; g != nil {
		ridge += fmt.Sprintf(", %s by gradient", format.Counted(g.Steps, "step"))
	}
	return widget.Fact(t, w, name, kept+", "+errs+held+ridge, kept+", "+errs+ridge, errs+held+ridge, errs+ridge, errs)
}
