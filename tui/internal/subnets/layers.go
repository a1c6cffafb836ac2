package subnets

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/chart"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// LayerColumns are the columns of the list of layers: where each begins and how wide it is, in cells from the inner edge.
type LayerColumns struct {
	Attention, AttentionW int
	MLP, MLPW             int
	Cut, Loss             int // 0 where there is no room
}

// NewLayerColumns lays a list of layers out on w cells, with numbers at the right end where they fit. Heads get a cell each
// where they fit, else a cell per group.
func NewLayerColumns(g *subnet.Geometry, w int, numbers bool) LayerColumns {
	w-- // numbers do not touch the border
	c := LayerColumns{Attention: 6}
	c.AttentionW = max(AttentionWidth(g, w), len("attention"))
	c.MLP = c.Attention + c.AttentionW + 2
	room := w - c.MLP
	const loss = len("sensitivity") + 1
	switch {
	case !numbers:
	case room >= 18+loss:
		c.Cut, c.Loss, room = w-6-loss, w-loss, room-7-loss
	case room >= 16:
		c.Cut, room = w-6, room-7
	}
	c.MLPW = max(0, room)
	return c
}

// AttentionWidth returns how many cells the heads of every layer take on a row of w cells.
func AttentionWidth(g *subnet.Geometry, w int) int {
	n := 0
	for _, l := range g.Layers {
		n = max(n, headCells(l, w))
	}
	return n
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

// AttentionRun draws the heads of a layer on w cells: a glyph per head with a gap between groups, a glyph per group where
// heads do not fit, or numbers.
func AttentionRun(r *paint.Row, t *theme.Theme, masks subnet.Masks, other *subnet.Masks, i, w int) {
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

// LayerRow draws one layer of masks on one row: its heads and its MLP.
func LayerRow(t *theme.Theme, masks subnet.Masks, i, w int) string {
	c := NewLayerColumns(masks.Geometry(), w, false)
	l := masks.Layer(i)
	r := paint.NewRow(w, theme.Style{}).Num(t.Dim, strconv.Itoa(i), 4).Pad(c.Attention)
	AttentionRun(r, t, masks, nil, i, c.AttentionW)
	r.Pad(c.MLP)
	if l.Channels.IsEmpty() {
		r.Put(t.Dropped, "none")
	} else {
		r.Put(t.Kept, t.Glyph.HBar(Kept(l.Channels), max(1, c.MLPW-7))).Put(t.Dim, " "+strconv.Itoa(l.Channels.Len()))
	}
	return r.String()
}

// MLPRun draws the MLP channels of a layer on w cells: those kept, and in other colours how many more or fewer than another subnet it keeps.
func MLPRun(r *paint.Row, t *theme.Theme, masks, other subnet.Masks, i, w int) {
	v, o := Kept(masks.Layer(i).Channels), Kept(other.Layer(i).Channels)
	bar := strings.TrimRight(t.Glyph.HBar(min(v, o), w), " ") // in ASCII parts of a cell are blank
	r.Put(t.Kept, bar)
	used := text.Width(bar)
	if n := min(int(max(v, o)*float64(w)+0.5)-used, w-used); n > 0 {
		if v > o {
			r.Put(t.Added, strings.Repeat(t.Glyph.Shades[3], n))
		} else {
			r.Put(t.Removed, strings.Repeat(t.Glyph.Shades[1], n))
		}
		used += n
	}
	r.Put(t.Dropped, strings.Repeat(t.Glyph.Divider, max(0, w-used)))
}

// PairRow draws one layer of two subnets side by side, with what differs in other colours, and by how many units.
func PairRow(t *theme.Theme, a, b subnet.Masks, i, w int) string {
	g := a.Geometry()
	half := (w - 4 - 16) / 2
	heads := AttentionWidth(g, half)
	r := paint.NewRow(w, theme.Style{}).Num(t.Dim, strconv.Itoa(i), 3).Put(t.Dim, " ")
	for k, pair := range [2][2]subnet.Masks{{a, b}, {b, a}} {
		x := 4 + k*half
		r.Pad(x)
		AttentionRun(r, t, pair[0], &pair[1], i, heads)
		r.Pad(x + heads + 1)
		MLPRun(r, t, pair[0], pair[1], i, max(1, half-heads-3))
	}
	r.Pad(4 + 2*half)
	la, lb := a.Layer(i), b.Layer(i)
	for _, one := range []struct {
		name string
		a, b subnet.Set
	}{{"heads", la.Heads, lb.Heads}, {"mlp", la.Channels, lb.Channels}} {
		switch d := one.b.Len() - one.a.Len(); {
		case d > 0:
			r.Put(t.Added, fmt.Sprintf("%s %+d ", one.name, d))
		case d < 0:
			r.Put(t.Removed, fmt.Sprintf("%s %+d ", one.name, d))
		case !one.a.Equal(one.b):
			r.Put(t.Partial, fmt.Sprintf("%s %d others ", one.name, one.b.Minus(one.a).Len()))
		}
	}
	return r.String()
}

// Strips draws masks layer by layer: the fractions of heads and of MLP channels kept, and of parameters cut.
func Strips(t *theme.Theme, masks subnet.Masks, w int) []string {
	const label = 7
	heads, mlp, cut := layerFractions(masks)
	n := w - label - 1
	kept := func(v float64) theme.Style {
		if v <= 0 {
			return t.Dropped
		}
		return t.Kept
	}
	rows := []string{ruler(t, len(cut), w, label)}
	for _, s := range []struct {
		name   string
		values []float64
		style  func(float64) theme.Style
	}{{"heads", heads, kept}, {"mlp", mlp, kept}, {"cut", cut, func(v float64) theme.Style { return t.HeatAt(v) }}} {
		run, width := chart.Strip(t, s.values, n, s.style)
		rows = append(rows, widget.Line(w).Col(t.Dim, s.name, label-1).Raw(run, width).String())
	}
	return rows
}

// ruler numbers every fifth layer above a strip.
func ruler(t *theme.Theme, layers, w, label int) string {
	r := widget.Line(w).Col(t.Dim, "layer", label-1)
	n := min(layers, w-label-1)
	if n <= 0 {
		return r.String()
	}
	step := 5
	if layers > n {
		step = max(1, 5*layers/n)
	}
	for i := 0; i < layers; i += step {
		x := label + i*n/layers
		if w-r.Room() <= x {
			r.Pad(x).Put(t.Dim, strconv.Itoa(i))
		}
	}
	return r.String()
}

// layerFractions returns, per layer, the fractions of query heads and of MLP channels kept and of parameters cut.
func layerFractions(masks subnet.Masks) (heads, mlp, cut []float64) {
	g := masks.Geometry()
	for i := range masks.Layers() {
		l := masks.Layer(i)
		heads = append(heads, Kept(l.Heads))
		mlp = append(mlp, Kept(l.Channels))
		attention, ffn := g.ModuleParams(i)
		cut = append(cut, 1-float64(l.Params(g, i))/float64(max(1, attention+ffn)))
	}
	return heads, mlp, cut
}

// Kept returns the fraction of units that a set keeps.
func Kept(s subnet.Set) float64 {
	if s.N() == 0 {
		return 0
	}
	return float64(s.Len()) / float64(s.N())
}
