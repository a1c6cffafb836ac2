package tui

import (
	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// A brush is what the mouse is painting with while its button is down. What it painted becomes one step when it is
// released.
type brush struct {
	down bool
	keep bool       // units it passes over are kept, otherwise dropped
	last int        // unit it was over last, in the order shown
	set  subnet.Set // the block's units as painted so far
}

func (s *masksScreen) mouse(m *Model, p pane, e mouseEvent) tea.Cmd {
	if p.id != "masks.left" {
		return nil
	}
	if e.kind == mouseRelease {
		return s.lift(m)
	}
	switch s.zoom {
	case zoomModel:
		return s.mouseLayers(m, p, e)
	case zoomLayer:
		return s.mouseBlocks(m, e)
	}
	return s.mouseUnits(m, p, e)
}

// mouseLayers selects layers, sets the cut where the bar is clicked, and switches heads.
func (s *masksScreen) mouseLayers(m *Model, p pane, e mouseEvent) tea.Cmd {
	masks := s.masks(m)
	if e.kind == mouseWheel {
		s.layer.move(e.delta, masks.Layers())
		return nil
	}
	row := s.layer.top + e.y - 2
	if e.y < 2 || row >= masks.Layers() {
		return nil
	}
	if e.kind == mouseDrag {
		s.extend()
		s.layer.at = row
		return nil
	}
	if e.shift {
		s.extend()
	} else {
		s.anchor = -1
	}
	again := s.layer.at == row
	s.layer.at = row
	c := newLayerColumns(masks.Geometry(), p.rect.W-2)
	lg := masks.Geometry().Layers[row]
	x := e.x - 1
	switch {
	case x >= c.attention && x < c.attention+c.attentionW:
		s.block = block{kind: subnet.Heads}
		per := lg.HeadsPerGroup()
		if per == 0 || lg.Heads+lg.KVHeads-1 > c.attentionW || m.blocked(m.action("masks.drop")) != "" {
			return nil
		}
		at := x - c.attention
		if group, in := at/(per+1), at%(per+1); in < per && group*per+in < lg.Heads {
			return s.toggleHead(m, row, group*per+in)
		}
	case x >= c.mlp && x < c.mlp+c.mlpW:
		s.block = block{kind: subnet.Channels}
		if again && m.blocked(m.action("masks.top")) == "" {
			step := max(1, s.step)
			n := (x - c.mlp + 1) * lg.FFN / max(1, c.mlpW-5)
			return s.keep(m, func(int) int { return (n + step/2) / step * step })
		}
	case again:
		return s.zoomIn()
	}
	return nil
}

func (s *masksScreen) toggleHead(m *Model, layer, head int) tea.Cmd {
	heads := s.masks(m).Layer(layer).Heads
	if heads.Has(head) {
		heads = heads.Without(head)
	} else {
		heads = heads.With(head)
	}
	return s.edit(m, explorer.SetHeads{Layer: layer, Set: heads})
}

func (s *masksScreen) mouseBlocks(m *Model, e mouseEvent) tea.Cmd {
	all := blocks(s.masks(m).Geometry().Layers[s.layer.at])
	switch e.kind {
	case mouseWheel:
		return s.nextBlock(m, e.delta)
	case mouseClick:
		if i := e.y - 2; i >= 0 && i < len(all) {
			if all[i] == s.block {
				return s.zoomIn()
			}
			s.block, s.unit, s.from = all[i], list{}, -1
		}
	}
	return nil
}

// mouseUnits paints: the first unit decides whether the brush keeps or drops what it passes over.
func (s *masksScreen) mouseUnits(m *Model, p pane, e mouseEvent) tea.Cmd {
	g := newGrid(s.units(m).N(), p.rect.W-2, p.rect.H-2)
	if e.kind == mouseWheel {
		s.unit.move(e.delta*g.columns, g.n)
		return nil
	}
	k := g.unitAt(s.unit.top, e.x-1, e.y-1)
	if k < 0 || m.blocked(m.action("masks.drop")) != "" {
		return nil
	}
	order := s.order(m)
	s.changes++
	if e.kind == mouseClick {
		s.from = -1
		set := s.units(m)
		s.brush = brush{down: true, keep: !set.Has(order[k]), last: k, set: set}
	}
	if !s.brush.down {
		return nil
	}
	lo, hi := min(s.brush.last, k), max(s.brush.last, k)
	if hi-lo > g.columns/2 { // the pointer jumped to another row: paint only where it is now
		lo, hi = k, k
	}
	s.brush.last, s.unit.at = k, k
	if s.brush.keep {
		s.brush.set = s.brush.set.With(order[lo : hi+1]...)
	} else {
		s.brush.set = s.brush.set.Without(order[lo : hi+1]...)
	}
	return nil
}

// lift ends painting and makes a step of it.
func (s *masksScreen) lift(m *Model) tea.Cmd {
	b := s.brush
	s.brush = brush{}
	s.changes++
	if !b.down || b.set.N() != s.units(m).N() {
		return nil
	}
	return s.setUnits(m, b.set)
}
