package tui

import (
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer/explorertest"
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
		n := 0
		frame(b, func() {
			n++
			l.m.search().list.at = n % 12
			l.m.search().chosen = l.m.snap.Search.Population[n%12].ID
			l.m.panes.forget("search.population")
		})
	})
	b.Run("every pane changed", func(b *testing.B) { frame(b, func() { clear(l.m.panes.drawn) }) })
	b.Run("no pane changed", func(b *testing.B) { frame(b, func() {}) })
	b.Run("nothing changed", func(b *testing.B) {
		for b.Loop() {
			l.m.View()
		}
	})
	for id := range screenCount {
		b.Run("every pane of "+id.name(), func(b *testing.B) {
			l.m.active = id
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

// TestFrameCost holds the frame of the fullest screen to its budget: 5 ms when one pane changed.
func TestFrameCost(t *testing.T) {
	l := newLoop(t, 200, 60, nil)
	best := time.Hour
	for n := range 20 {
		l.m.search().chosen = l.m.snap.Search.Population[n%12].ID
		l.m.panes.forget("search.population")
		l.m.dirty = true
		began := time.Now()
		l.m.View()
		best = min(best, time.Since(began))
	}
	if best > 5*time.Millisecond {
		t.Errorf("a frame with one changed pane takes %v", best)
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

// TestIdleCostsNothing waits on a quiet exploration and counts messages: there must be none.
func TestIdleCostsNothing(t *testing.T) {
	l := newLoop(t, 80, 24, nil)
	l.until("the first messages", func() bool { return len(l.msgs) == 0 })
	if cmd := l.m.tick(); cmd != nil {
		t.Error("the clock runs although nothing does")
	}
	select {
	case msg := <-l.msgs:
		t.Errorf("a quiet exploration sends %T", msg)
	case <-time.After(300 * time.Millisecond):
	}
}
