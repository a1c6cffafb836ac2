package tui

import (
	"sync"

	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// paneKey identifies a drawn pane.
type paneKey struct {
	id    string
	rev   uint64
	state any
	w, h  int
	look  theme.Look
	keys  string // the viewer's key map, which panes name keys of
}

// maxPanes bounds a store: the panes of some screens for a few viewers.
const maxPanes = 256

// Panes is a store of drawn panes. Viewers of one exploration may share it from several goroutines.
type Panes struct {
	mu    sync.Mutex
	drawn map[paneKey]*drawnPane
	clock uint64
}

type drawnPane struct {
	rows []string
	used uint64
}

// NewPanes returns an empty store.
func NewPanes() *Panes { return &Panes{drawn: map[paneKey]*drawnPane{}} }

// rows returns the pane's rows, drawing them if they are not in the store.
func (p *Panes) rows(t *theme.Theme, keys string, pn screen.Pane) []string {
	w, h := pn.Rect.W, pn.Rect.H
	key := paneKey{pn.ID, pn.Rev, pn.State, w, h, t.Look, keys}
	p.mu.Lock()
	p.clock++
	if d, ok := p.drawn[key]; ok {
		d.used = p.clock
		p.mu.Unlock()
		return d.rows
	}
	p.mu.Unlock()

	rows := paint.Fill(pn.Draw(t, w, h), w, h)

	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.drawn) >= maxPanes {
		p.evict()
	}
	p.drawn[key] = &drawnPane{rows, p.clock}
	return rows
}

// evict drops the half that was not used for longest.
func (p *Panes) evict() {
	limit := p.clock - maxPanes/2
	for k, d := range p.drawn {
		if d.used <= limit {
			delete(p.drawn, k)
		}
	}
	if len(p.drawn) >= maxPanes {
		clear(p.drawn)
	}
}

// compose puts panes side by side into the rows of an area. Panes must lie inside it and not overlap.
func compose(area layout.Rect, panes []screen.Pane, rows func(screen.Pane) []string) []string {
	if area.Empty() {
		return nil
	}
	type placed struct {
		screen.Pane
		rows []string
	}
	all := make([]placed, 0, len(panes))
	for _, p := range panes {
		if !p.Rect.Empty() {
			all = append(all, placed{p, rows(p)})
		}
	}
	out := make([]string, area.H)
	for y := range out {
		row, x := "", area.X
		for {
			next := -1
			for i, p := range all {
				if y+area.Y >= p.Rect.Y && y+area.Y < p.Rect.Y+p.Rect.H && p.Rect.X >= x && (next < 0 || p.Rect.X < all[next].Rect.X) {
					next = i
				}
			}
			if next < 0 {
				break
			}
			p := all[next]
			row += paint.Blank(p.Rect.X-x) + p.rows[y+area.Y-p.Rect.Y]
			x = p.Rect.X + p.Rect.W
		}
		out[y] = row + paint.Blank(area.X+area.W-x)
	}
	return out
}
