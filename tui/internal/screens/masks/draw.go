package masks

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

func (s *Screen) drawLayers(t *theme.Theme, w, h int) []string {
	masks := s.masks()
	title := "layers"
	var other *subnet.Masks
	if o, ok := subnets.Masks(s.snap(), s.other); ok && s.other != "" {
		other, title = &o, "layers, against "+subnets.Name(s.snap(), s.other)
	}
	return widget.Box(t, paint.Frame{Title: title, Focused: true, Foot: widget.ScrollNote(s.layer.Top, h-3, masks.Layers())}, w, h, func(w, h int) []string {
		g := masks.Geometry()
		if g == nil || masks.Layers() == 0 {
			return widget.Paragraph(w, t.Dim, "No model is open.")
		}
		c := subnets.NewLayerColumns(g, w, true)
		head := func(r *paint.Row, x int, k draft.Module, name string) {
			style := t.Dim
			if s.part() == k {
				style = t.Focus
			}
			r.Pad(x).Put(style, name)
		}
		first := paint.NewRow(w, theme.Style{}).Put(t.Dim, "   L")
		head(first, c.Attention, draft.Attention, "attention")
		head(first, c.MLP, draft.MLP, fmt.Sprintf("mlp %d", widest(g)))
		if c.Cut > 0 {
			first.Pad(c.Cut).Put(t.Dim, "  cut")
		}
		if c.Loss > 0 {
			first.Pad(c.Loss).Put(t.Dim, " sensitivity")
		}
		rows := []string{first.String()}
		last := s.drawVocab(t, masks, w)
		for i := s.layer.Top; i < min(masks.Layers(), s.layer.Top+h-1-len(last)); i++ {
			rows = append(rows, s.drawLayer(t, masks, other, c, i, w))
		}
		return append(rows, last...)
	})
}

// widest is the largest number of MLP channels of any layer.
func widest(g *subnet.Geometry) int {
	n := 0
	for _, l := range g.Layers {
		n = max(n, l.FFN)
	}
	return n
}

func (s *Screen) drawLayer(t *theme.Theme, masks subnet.Masks, other *subnet.Masks, c subnets.LayerColumns, i, w int) string {
	g := masks.Geometry()
	l := masks.Layer(i)
	base, mark := theme.Style{}, " "
	if s.isSelected(i) {
		base, mark = t.Selected, "+"
	}
	if i == s.layer.At {
		base, mark = t.Cursor, t.Glyph.Here
	}
	r := paint.NewRow(w, base).Put(t.Accent, mark).Num(t.Text, strconv.Itoa(i), 3)
	r.Pad(c.Attention)
	subnets.AttentionRun(r, t, masks, other, i, c.AttentionW)
	r.Pad(c.MLP)
	switch {
	case l.Channels.IsEmpty():
		r.Put(t.Dropped, text.Clip("none", c.MLPW))
	default:
		v := subnets.Kept(l.Channels)
		r.Put(t.Kept, text.Clip(t.Glyph.HBar(v, max(1, c.MLPW-5)), c.MLPW))
		label, style := "", t.Dim
		if !l.Channels.IsFull() {
			label = strconv.Itoa(l.Channels.Len())
		}
		if other != nil {
			if d := l.Channels.Len() - other.Layer(i).Channels.Len(); d != 0 {
				label, style = fmt.Sprintf("%+d", d), t.Added
				if d < 0 {
					style = t.Removed
				}
			}
		}
		if label != "" {
			r.Put(style, " "+label)
		}
	}
	if c.Cut > 0 {
		attention, ffn := g.ModuleParams(i)
		cut := 1 - float64(l.Params(g, i))/float64(max(1, attention+ffn))
		r.Pad(c.Cut).Num(t.HeatAt(cut), text.Percent(cut), 5)
	}
	if c.Loss > 0 && i < len(s.snap().Statistics.Sensitivity) {
		of := s.snap().Statistics.Sensitivity[i]
		r.Pad(c.Loss).Num(t.Dim, text.Small(of.Attention+of.MLP), len(" sensitivity"))
	}
	return r.String()
}

// drawBlocks draws the blocks of one layer.
func (s *Screen) drawBlocks(t *theme.Theme, w, h int) []string {
	masks, i := s.masks(), s.layer.At
	return widget.Box(t, paint.Frame{Title: fmt.Sprintf("layer %d", i), Note: "esc back", Focused: true}, w, h, func(w, h int) []string {
		all := blocks(masks.Geometry().Layers[i])
		at := max(0, slices.Index(all, s.block))
		top := layout.Clamp(at-h+2, 0, max(0, len(all)-h+1))
		rows := []string{paint.NewRow(w, theme.Style{}).Col(t.Dim, "  block", 26).Num(t.Dim, "kept", 13).String()}
		for k := top; k < min(len(all), top+h-1); k++ {
			b := all[k]
			set := b.set(masks, i)
			base, mark := theme.Style{}, "  "
			if k == at {
				base, mark = t.Cursor, t.Glyph.Here+" "
			}
			r := paint.NewRow(w, base).Put(t.Accent, mark).Col(t.Text, b.name(), 24).Num(t.Text, fmt.Sprintf("%d of %d", set.Len(), set.N()), 13).Put(t.Text, "  ")
			switch {
			case r.Room() < 4: // too little for a bar
			case b.kind == subnet.Heads:
				subnets.AttentionRun(r, t, masks, nil, i, r.Room())
			default:
				r.Put(t.Kept, t.Glyph.HBar(subnets.Kept(set), max(0, r.Room()-1)))
			}
			rows = append(rows, r.String())
		}
		return rows
	})
}

// A grid lays units out in rows of cells behind a label.
type grid struct{ n, columns, cell, visible int }

const gridLabel = 7

// newGrid lays n units out on w × h cells.
func newGrid(n, w, h int) grid {
	g := grid{n: n, cell: 1, visible: max(1, h)}
	room := max(1, w-gridLabel-1)
	if n*2 <= room*g.visible/2 {
		g.cell = 2
	}
	g.columns = max(1, room/g.cell)
	for _, round := range []int{16, 8} {
		if g.columns >= round {
			g.columns -= g.columns % round
			break
		}
	}
	return g
}

// follow scrolls so that the row of the cursor is visible; top counts rows of the grid.
func (g grid) follow(l *widget.List) {
	l.At = layout.Clamp(l.At, 0, max(0, g.n-1))
	rows := (g.n + g.columns - 1) / g.columns
	at := l.At / g.columns
	l.Top = layout.Clamp(layout.Clamp(l.Top, at-g.visible+1, at), 0, max(0, rows-g.visible))
}

// unitAt returns the position, in the order shown, of the unit at a cell inside the box; -1 for none.
func (g grid) unitAt(top, x, y int) int {
	col := (x - gridLabel) / g.cell
	if x < gridLabel || y < 0 || y >= g.visible || col >= g.columns {
		return -1
	}
	if i := (top+y)*g.columns + col; i < g.n {
		return i
	}
	return -1
}

// drawUnits draws the units of the block: a bar as high as its importance for a kept unit, another glyph for a dropped one.
func (s *Screen) drawUnits(t *theme.Theme, w, h int) []string {
	set := s.units()
	scores := s.block.importance(s.snap().Statistics, s.layer.At)
	how := "by position"
	if s.sorted && scores != nil {
		how = "by importance"
	}
	var had subnet.Set
	if o, ok := subnets.Masks(s.snap(), s.other); ok && s.other != "" {
		had = s.block.set(o, s.layer.At)
	}
	title := fmt.Sprintf("layer %d · %s %s", s.layer.At, s.block.name(), how)
	return widget.Box(t, paint.Frame{Title: title, Focused: true, Foot: fmt.Sprintf("%d of %d kept", set.Len(), set.N())}, w, h, func(w, h int) []string {
		g := newGrid(set.N(), w, h)
		order := s.order()
		highest := 0.0
		for _, v := range scores {
			highest = max(highest, v)
		}
		var rows []string
		for y := s.unit.Top; y < s.unit.Top+h && y*g.columns < g.n; y++ {
			r := paint.NewRow(w, theme.Style{}).Num(t.Dim, strconv.Itoa(y*g.columns), gridLabel-1).Put(t.Dim, " ")
			for x := range g.columns {
				k := y*g.columns + x
				if k >= g.n {
					break
				}
				u := order[k]
				glyph, style := t.Glyph.Dropped, t.Dropped
				if set.Has(u) {
					glyph, style = t.Glyph.Kept, t.Kept
					if len(scores) == g.n && highest > 0 {
						glyph = t.Glyph.Bar(math.Sqrt(max(0, scores[u]) / highest))
					}
				}
				if had.N() == g.n && had.Has(u) != set.Has(u) {
					style = t.Added
					if had.Has(u) {
						style = t.Removed
					}
				}
				if s.from >= 0 && k >= min(s.from, s.unit.At) && k <= max(s.from, s.unit.At) {
					style = style.With(t.Selected)
				}
				if k == s.unit.At {
					style = style.With(t.Caret)
				}
				r.Put(style, glyph)
				if g.cell == 2 {
					r.Put(t.Text, " ")
				}
			}
			rows = append(rows, r.String())
		}
		return rows
	})
}
