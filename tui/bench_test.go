package tui

import (
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// The frame budget of the fullest screen at 200×60, with room for a machine that is busy.
//
//	go test ./tui -run xxx -bench Frame
func BenchmarkFrame(b *testing.B) {
	l := newLoop(b, 200, 60, nil)
	l.press("esc")
	frame := func(b *testing.B, change func()) {
		b.ReportAllocs()
		for b.Loop() {
			change()
			l.m.dirty = true
			l.m.View()
		}
	}
	b.Run("one pane changed", func(b *testing.B) {
		frame(b, func() { l.m.panes.forget("search.population") })
	})
	b.Run("every pane changed", func(b *testing.B) { frame(b, func() { clear(l.m.panes.drawn) }) })
	b.Run("no pane changed", func(b *testing.B) { frame(b, func() {}) })
	b.Run("nothing changed", func(b *testing.B) {
		for b.Loop() {
			l.m.View()
		}
	})
	b.Run("an edit of masks", func(b *testing.B) { // masks never seen before, in every pane of the screen
		l.press("2")
		before := l.m.snap
		n := 0
		frame(b, func() {
			n++
			now := *before
			layer := now.Draft.Masks.Layer(n % 30)
			layer.Channels = subnet.Range(1536, 0, 32+n%1500)
			now.Draft.Masks = now.Draft.Masks.With(n%30, layer)
			now.Sections[explorer.SectionDraft] += uint64(n)
			l.m.snap = &now
		})
		l.m.snap = before
	})
	for i, sc := range l.m.screens {
		b.Run("every pane of "+sc.Name(), func(b *testing.B) {
			l.m.at = i
			frame(b, func() { clear(l.m.panes.drawn) })
		})
	}
}

// forget drops the drawings of a pane.
func (p *Panes) forget(id string) {
	for k := range p.drawn {
		if k.id == id {
			delete(p.drawn, k)
		}
	}
}

// TestOnePaneIsDrawnForOneChange checks that a frame redraws only changed panes. BenchmarkFrame measures the cost.
func TestOnePaneIsDrawnForOneChange(t *testing.T) {
	l := newLoop(t, 200, 60, nil)
	l.press("esc")
	l.m.View()
	drawn := len(l.m.panes.drawn)
	l.m.panes.forget("search.population")
	if n := drawn - len(l.m.panes.drawn); n == 0 {
		t.Fatal("the pane was not there")
	}
	before := len(l.m.panes.drawn)
	l.m.dirty = true
	l.m.View()
	if n := len(l.m.panes.drawn) - before; n != 1 {
		t.Errorf("%d panes were drawn for one that changed", n)
	}
}

// TestNothingDrawnWhenNothingChanged counts drawings: none for messages that change nothing, one pane for one change.
func TestNothingDrawnWhenNothingChanged(t *testing.T) {
	l := newLoop(t, 200, 60, nil)
	l.press("esc")
	before := l.m.View()
	drawn := len(l.m.panes.drawn)
	for range 10 {
		l.send(struct{}{}) // no message of ours
		if v := l.m.View(); v.Content != before.Content || l.m.dirty {
			t.Fatal("an unknown message makes a new frame")
		}
	}
	l.send(tea.WindowSizeMsg{Width: 200, Height: 60})
	if len(l.m.panes.drawn) != drawn {
		t.Errorf("%d panes were drawn again for the size that was", len(l.m.panes.drawn)-drawn)
	}
	l.press("down")
	if n := len(l.m.panes.drawn) - drawn; n > 5 {
		t.Errorf("%d panes were drawn for one step of the cursor", n)
	}
}

// TestPanesAreShared lets two viewers of one look draw the same panes once.
func TestPanesAreShared(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	store := NewPanes()
	share := func(o *Options) { o.Panes = store }
	newLoopOver(t, ex, b, 120, 40, share)
	n := len(store.drawn)
	newLoopOver(t, ex, b, 120, 40, share)
	if len(store.drawn) != n {
		t.Errorf("a second viewer of the same look drew %d panes", len(store.drawn)-n)
	}
	newLoopOver(t, ex, b, 100, 40, share)
	if len(store.drawn) == n {
		t.Error("a viewer of another size was given the same panes")
	}
}

// TestIdleCostsNothing lets an hour pass over a quiet exploration: no message may come of it.
func TestIdleCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoop(t, 80, 24, nil)
		for waited := false; !waited; { // what opening leads to
			synctest.Wait()
			select {
			case msg := <-l.msgs:
				l.send(msg)
			default:
				waited = true
			}
		}
		if cmd := l.m.tick(); cmd != nil {
			t.Error("the clock runs although nothing does")
		}
		select {
		case msg := <-l.msgs:
			t.Errorf("a quiet exploration sends %T", msg)
		case <-time.After(time.Hour): // of the bubble's clock
		}
	})
}
