package masks

import (
	tea "charm.land/bubbletea/v2"
	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// A brush paints units while the mouse button is down. The whole stroke becomes one step.
type brush struct {
	down bool
	keep bool       // units it passes over are kept, otherwise dropped
	last int        // unit it was over last, in the order shown
	set  subnet.Set // the block's units as painted so far
}

// Mouse handles a mouse event inside a pane.
func (s *Screen) Mouse(p screen.Pane, e screen.MouseEvent) tea.Cmd {
	if p.ID != "masks.left" {
		return nil
	}
	if e.Kind == screen.Release {
		return s.lift()
	}
	switch s.zoom {
	case zoomModel:
		return s.mouseLayers(p, e)
	case zoomLayer:
		return s.mouseBlocks(e)
	default: // nothing for the others
	}
	return s.mouseUnits(p, e)
}

// mouseLayers selects layers, sets the cut where the bar is clicked, and switches heads.
func (s *Screen) mouseLayers(p screen.Pane, e screen.MouseEvent) tea.Cmd {
	masks := s.masks()
	if e.Kind == screen.Wheel {
		s.layer.Move(e.Delta, masks.Layers())
		return nil
	}
	row := s.layer.Top + e.Y - 2
	if e.Y < 2 || row >= masks.Layers() || masks.TrimsVocab() && e.Y >= p.Rect.H-2 {
		return nil
	}
	if e.Kind == screen.Drag {
		s.extend()
		s.layer.At = row
		return nil
	}
	if e.Shift {
		s.extend()
	} else {
		s.anchor = -1
	}
	again := s.layer.At == row
	s.layer.At = row
	c := subnets.NewLayerColumns(masks.Geometry(), p.Rect.W-2, true)
	lg := masks.Geometry().Layers[row]
	x := e.X - 1
	switch {
	case x >= c.Attention && x < c.Attention+c.AttentionW:
		s.block = block{kind: subnet.Heads}
		per := lg.HeadsPerGroup()
		if per == 0 || lg.Heads+lg.KVHeads-1 > c.AttentionW || s.host.Blocked("masks.drop") != "" {
			return nil
		}
		at := x - c.Attention
		if group, in := at/(per+1), at%(per+1); in < per && group*per+in < lg.Heads {
			return s.toggleHead(row, group*per+in)
		}
	case x >= c.MLP && x < c.MLP+c.MLPW:
		s.block = block{kind: subnet.Channels}
		if again && s.host.Blocked("masks.top") == "" {
			step := max(1, s.step)
			n := (x - c.MLP + 1) * lg.FFN / max(1, c.MLPW-5)
			return s.keep(func(int) int { return (n + step/2) / step * step })
		}
	case again:
		return s.zoomIn()
	}
	return nil
}

func (s *Screen) toggleHead(layer, head int) tea.Cmd {
	heads := s.masks().Layer(layer).Heads
	if heads.Has(head) {
		heads = heads.Without(head)
	} else {
		heads = heads.With(head)
	}
	return s.edit(draft.SetHeads{Layer: layer, Set: heads})
}

func (s *Screen) mouseBlocks(e screen.MouseEvent) tea.Cmd {
	all := blocks(s.masks().Geometry().Layers[s.layer.At])
	switch e.Kind {
	case screen.Wheel:
		return s.nextBlock(e.Delta)
	case screen.Click:
		if i := e.Y - 2; i >= 0 && i < len(all) {
			if all[i] == s.block {
				return s.zoomIn()
			}
			s.block, s.unit, s.from = all[i], widget.List{}, -1
		}
	default: // nothing for the others
	}
	return nil
}

// mouseUnits paints: the first unit decides whether the brush keeps or drops the units that it passes over.
func (s *Screen) mouseUnits(p screen.Pane, e screen.MouseEvent) tea.Cmd {
	g := newGrid(s.units().N(), p.Rect.W-2, p.Rect.H-2)
	if e.Kind == screen.Wheel {
		s.unit.Move(e.Delta*g.columns, g.n)
		return nil
	}
	k := g.unitAt(s.unit.Top, e.X-1, e.Y-1)
	if k < 0 || s.host.Blocked("masks.drop") != "" {
		return nil
	}
	order := s.order()
	s.strokes++
	if e.Kind == screen.Click {
		s.from = -1
		set := s.units()
		s.brush = brush{down: true, keep: !set.Has(order[k]), last: k, set: set}
	}
	if !s.brush.down {
		return nil
	}
	lo, hi := min(s.brush.last, k), max(s.brush.last, k)
	if hi-lo > g.columns/2 { // the pointer jumped to another row: paint only where it is now
		lo, hi = k, k
	}
	s.brush.last, s.unit.At = k, k
	if s.brush.keep {
		s.brush.set = s.brush.set.With(order[lo : hi+1]...)
	} else {
		s.brush.set = s.brush.set.Without(order[lo : hi+1]...)
	}
	return nil
}

// lift ends painting and makes a step of it.
func (s *Screen) lift() tea.Cmd {
	b := s.brush
	s.brush = brush{}
	s.strokes++
	if !b.down || b.set.N() != s.units().N() {
		return nil
	}
	return s.setUnits(b.set)
}
