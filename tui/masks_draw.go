package tui

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// layerColumns are the columns of the list of layers: where each begins and how wide it is, in cells from the inner edge.
type layerColumns struct {
	attention, attentionW int
	mlp, mlpW             int
	cut, loss             int // 0 where there is no room
}

// newLayerColumns lays the list of layers out on w cells. Heads get a cell each where they fit, else a cell per group.
func newLayerColumns(g *subnet.Geometry, w int) layerColumns {
	w-- // numbers do not touch the border
	c := layerColumns{attention: 6}
	for _, l := range g.Layers {
		c.attentionW = max(c.attentionW, headCells(l, w))
	}
	c.attentionW = max(c.attentionW, len("attention"))
	c.mlp = c.attention + c.attentionW + 2
	room := w - c.mlp
	if room >= 24 {
		c.cut, room = w-12, room-13
	} else if room >= 16 {
		c.cut, room = w-6, room-7
	}
	if c.cut > 0 && c.cut == w-12 {
		c.loss = w - 6
	}
	c.mlpW = max(0, room)
	return c
}

// headCells is how many cells the heads of a layer take on a row of w cells.
func headCells(l subnet.LayerGeometry, w int) int {
	if n := l.Heads + max(0, l.KVHeads-1); n <= w/3 {
		return n
	}
	if l.KVHeads <= w/3 {
		return l.KVHeads
	}
	return 7 // "12 of 96"
}

// attentionRun draws the heads of a layer on w cells: a glyph per head with a gap between groups, a glyph per group where
// heads do not fit, or numbers.
func attentionRun(r *paint.Row, t *theme.Theme, masks subnet.Masks, other *subnet.Masks, i, w int) {
	lg, l := masks.Geometry().Layers[i], masks.Layer(i)
	per := max(1, lg.HeadsPerGroup())
	switch {
	case l.Heads.IsEmpty():
		r.Put(t.Dropped, text.Clip("none", w))
	case lg.Heads+max(0, lg.KVHeads-1) <= w:
		for h := range lg.Heads {
			if h > 0 && h%per == 0 {
				r.Put(t.Text, " ")
			}
			glyph, style := headGlyph(t, masks, other, i, h)
			r.Put(style, glyph)
		}
	case lg.KVHeads <= w:
		for group := range lg.KVHeads {
			kept := l.Heads.Intersect(subnet.Range(lg.Heads, group*per, (group+1)*per)).Len()
			switch kept {
			case 0:
				r.Put(t.Dropped, t.Glyph.Dropped)
			case per:
				r.Put(t.Kept, t.Glyph.Kept)
			default:
				r.Put(t.Partial, t.Glyph.Partial)
			}
		}
	default:
		r.Put(t.Kept, text.Clip(fmt.Sprintf("%d/%d", l.Heads.Len(), lg.Heads), w))
	}
}

// headGlyph is how a query head is drawn: kept, dropped, or kept with fewer channels inside; other colours what differs.
func headGlyph(t *theme.Theme, masks subnet.Masks, other *subnet.Masks, layer, head int) (string, theme.Style) {
	g := masks.Geometry()
	l := masks.Layer(layer)
	kept := l.Heads.Has(head)
	glyph, style := t.Glyph.Dropped, t.Dropped
	if kept {
		glyph, style = t.Glyph.Kept, t.Kept
		group := head / max(1, g.Layers[layer].HeadsPerGroup())
		if !l.QKOf(group, g.HeadDim).IsFull() || !l.VOOf(group, g.HeadDim).IsFull() {
			glyph, style = t.Glyph.Partial, t.Partial
		}
	}
	if other != nil && other.Layer(layer).Heads.Has(head) != kept {
		style = t.Added
		if !kept {
			style = t.Removed
		}
	}
	return glyph, style
}

func (s *masksScreen) drawLayers(m *Model, t *theme.Theme, w, h int) []string {
	masks := s.masks(m)
	title := "layers"
	var other *subnet.Masks
	if o, ok := masksOf(m.snap, s.other); ok && s.other != "" {
		other, title = &o, "layers, against "+subnetName(m.snap, s.other)
	}
	return box(t, paint.Frame{Title: title, Focused: true, Foot: scrollNote(s.layer.top, h-3, masks.Layers())}, w, h, func(w, h int) []string {
		g := masks.Geometry()
		if g == nil || masks.Layers() == 0 {
			return paragraph(w, t.Dim, "No model is open.")
		}
		c := newLayerColumns(g, w)
		head := func(r *paint.Row, x int, k explorer.Part, name string) {
			style := t.Dim
			if s.part() == k {
				style = t.Focus
			}
			r.Pad(x).Put(style, name)
		}
		first := paint.NewRow(w, theme.Style{}).Put(t.Dim, "   L")
		head(first, c.attention, explorer.Attention, "attention")
		head(first, c.mlp, explorer.MLP, fmt.Sprintf("mlp %d", widest(g)))
		if c.cut > 0 {
			first.Pad(c.cut).Put(t.Dim, "  cut")
		}
		if c.loss > 0 {
			first.Pad(c.loss).Put(t.Dim, " worth")
		}
		rows := []string{first.String()}
		for i := s.layer.top; i < min(masks.Layers(), s.layer.top+h-1); i++ {
			rows = append(rows, s.drawLayer(m, t, masks, other, c, i, w))
		}
		return rows
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

func (s *masksScreen) drawLayer(m *Model, t *theme.Theme, masks subnet.Masks, other *subnet.Masks, c layerColumns, i, w int) string {
	g := masks.Geometry()
	l := masks.Layer(i)
	base, mark := theme.Style{}, " "
	if s.isSelected(i) {
		base, mark = t.Selected, "+"
	}
	if i == s.layer.at {
		base, mark = t.Cursor, t.Glyph.Here
	}
	r := paint.NewRow(w, base).Put(t.Accent, mark).Num(t.Text, itoa(i), 3)
	r.Pad(c.attention)
	attentionRun(r, t, masks, other, i, c.attentionW)
	r.Pad(c.mlp)
	switch {
	case l.Channels.IsEmpty():
		r.Put(t.Dropped, text.Clip("none", c.mlpW))
	default:
		v := share(l.Channels)
		r.Put(t.Kept, text.Clip(t.Glyph.HBar(v, max(1, c.mlpW-5)), c.mlpW))
		label, style := "", t.Dim
		if !l.Channels.IsFull() {
			label = itoa(l.Channels.Len())
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
	if c.cut > 0 {
		attention, ffn := g.ModuleParams(i)
		cut := 1 - float64(l.Params(g, i))/float64(max(1, attention+ffn))
		r.Pad(c.cut).Num(t.HeatAt(cut), text.Percent(cut), 5)
	}
	if c.loss > 0 && i < len(m.snap.Statistics.Importance) {
		im := m.snap.Statistics.Importance[i]
		r.Pad(c.loss).Num(t.Dim, smallNumber(im.AttentionLoss+im.MLPLoss), 6)
	}
	return r.String()
}

// smallNumber writes a loss: .031, 1.24.
func smallNumber(v float64) string {
	if v < 0.9995 && v > -0.9995 {
		return strings.Replace(text.Fixed(v, 3), "0.", ".", 1)
	}
	return text.Fixed(v, 2)
}

// drawBlocks draws the blocks of one layer.
func (s *masksScreen) drawBlocks(m *Model, t *theme.Theme, w, h int) []string {
	masks, i := s.masks(m), s.layer.at
	return box(t, paint.Frame{Title: fmt.Sprintf("layer %d", i), Note: "esc back", Focused: true}, w, h, func(w, h int) []string {
		all := blocks(masks.Geometry().Layers[i])
		at := max(0, slices.Index(all, s.block))
		top := clamp(at-h+2, 0, max(0, len(all)-h+1))
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
			case r.Room() < 4: // no bar says anything there
			case b.kind == subnet.Heads:
				attentionRun(r, t, masks, nil, i, r.Room())
			default:
				r.Put(t.Kept, t.Glyph.HBar(share(set), max(0, r.Room()-1)))
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
func (g grid) follow(l *list) {
	l.at = clamp(l.at, 0, max(0, g.n-1))
	rows := (g.n + g.columns - 1) / g.columns
	at := l.at / g.columns
	l.top = clamp(clamp(l.top, at-g.visible+1, at), 0, max(0, rows-g.visible))
}

// unitAt is the place in the order of the units that is drawn at a cell inside the box; -1 for none.
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

// drawUnits draws the units of the block: height and colour tell how important a unit is, its glyph whether it is kept.
func (s *masksScreen) drawUnits(m *Model, t *theme.Theme, w, h int) []string {
	set := s.units(m)
	scores := s.block.importance(m.snap.Statistics, s.layer.at)
	how := "in place"
	if s.sorted && scores != nil {
		how = "by importance"
	}
	var had subnet.Set
	if o, ok := masksOf(m.snap, s.other); ok && s.other != "" {
		had = s.block.set(o, s.layer.at)
	}
	title := fmt.Sprintf("layer %d · %s %s", s.layer.at, s.block.name(), how)
	return box(t, paint.Frame{Title: title, Focused: true, Foot: fmt.Sprintf("%d of %d kept", set.Len(), set.N())}, w, h, func(w, h int) []string {
		g := newGrid(set.N(), w, h)
		order := s.order(m)
		highest := 0.0
		for _, v := range scores {
			highest = max(highest, v)
		}
		var rows []string
		for y := s.unit.top; y < s.unit.top+h && y*g.columns < g.n; y++ {
			r := paint.NewRow(w, theme.Style{}).Num(t.Dim, itoa(y*g.columns), gridLabel-1).Put(t.Dim, " ")
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
						glyph = t.Glyph.Bar(math.Sqrt(max(0, scores[u]) / highest)) // as beside
					}
				}
				if had.N() == g.n && had.Has(u) != set.Has(u) {
					style = t.Added
					if had.Has(u) {
						style = t.Removed
					}
				}
				if s.from >= 0 && k >= min(s.from, s.unit.at) && k <= max(s.from, s.unit.at) {
					style = style.With(t.Selected)
				}
				if k == s.unit.at {
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
