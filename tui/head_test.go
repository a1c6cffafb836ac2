package tui

import (
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/lathe-llm/lathe/explorer"
)

// TestTabsStay draws the head line beside jobs whose texts have other lengths: the names of the screens stay where they are. Every time in it is named.
func TestTabsStay(t *testing.T) {
	for _, w := range []int{80, 120, 160} {
		l := newLoop(t, w, 24, nil)
		l.press("esc")
		at := map[int]bool{}
		now := l.m.now()
		for _, p := range []explorer.Progress{
			{Left: 9 * time.Second, At: now},
			{Left: 20 * time.Minute, At: now},
			{Spent: 12 * time.Second, At: now},
			{PhaseLeft: 3 * time.Minute, At: now, Phase: explorer.Phase{Number: 2, Of: 5, Name: "measuring"}},
		} {
			snap := *l.m.snap
			snap.Jobs = []explorer.Job{{ID: "j1", Kind: explorer.JobStatistics, State: explorer.Running, Progress: p}}
			l.m.snap = &snap
			head := ansi.Strip(l.m.drawHead(w))
			at[strings.Index(head, "1 Search")] = true
			want := "left"
			if p.Spent > 0 {
				want = "so far"
			}
			if !strings.Contains(head, want) {
				t.Errorf("%d columns: %q does not have %q", w, head, want)
			}
		}
		if len(at) != 1 {
			t.Errorf("%d columns: the tabs begin at %v", w, at)
		}
	}
}
