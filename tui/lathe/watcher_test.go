package main

import (
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer"
)

// guarded is a writer that is only written to with the lock of a watcher.
type guarded struct {
	t *testing.T
	w *watcher
	n int
}

func (g *guarded) Write(p []byte) (int, error) {
	if g.w.mu.TryLock() {
		g.w.mu.Unlock()
		g.t.Errorf("%q is written without the lock", p)
	}
	g.n++
	return len(p), nil
}

// TestWatcherWritesOneAfterAnother: notes come from other goroutines than progress.
func TestWatcherWritesOneAfterAnother(t *testing.T) {
	w := &watcher{title: "zeroshot"}
	out := &guarded{t: t, w: w}
	w.p = progress{w: out, live: true, now: time.Now}
	w.Progress(1, 2, "tasks", "")
	w.Note("a worker has gone")
	w.p.shown = time.Time{}
	w.Progress(2, 2, "tasks", "")
	w.clear()
	if out.n < 4 {
		t.Errorf("%d writes", out.n)
	}
}

// TestAnswersAfter finds new answers also where as many are kept as before.
func TestAnswersAfter(t *testing.T) {
	var all []explorer.Answer
	for i := range 5 {
		all = append(all, explorer.Answer{Candidate: i + 1})
	}
	last := lastAnswer(all[:3])
	kept := append(all[:1:1], all[2:4]...) // three of four are kept, as before
	if got := answersAfter(kept, last); len(got) != 1 || got[0].Candidate != 4 {
		t.Errorf("after one more: %+v", got)
	}
	if got := answersAfter(kept, lastAnswer(kept)); len(got) != 0 {
		t.Errorf("after none: %+v", got)
	}
	for _, one := range []explorer.Answer{lastAnswer(nil), {Candidate: 99}} {
		if got := answersAfter(all, one); len(got) != 5 {
			t.Errorf("after %+v: %+v", one, got)
		}
	}
}
