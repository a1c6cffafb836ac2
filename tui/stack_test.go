package tui

import (
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/exp/golden"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// startSearch starts a search of some candidates.
func (l *loop) startSearch(candidates int) {
	l.t.Helper()
	if _, err := l.ex.Do(l.t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.8), Seed: 1, Budget: explorer.Budget{Evaluations: candidates}}); err != nil {
		l.t.Fatal(err)
	}
}

// TestPreparationFillsTheStack begins a search by its keys and lets it prepare module by module: the picture of the model fills with what is
// measured.
func TestPreparationFillsTheStack(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "levels", "sensitivities", "candidates")
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 120, 40, nil)
	l.press("space", "enter")
	step := func(unit string, n int) {
		for range n {
			gates[unit] <- struct{}{}
		}
	}
	known := func() int {
		n := 0
		for _, p := range l.m.snap.Preparation.Modules {
			if p.Levels > 0 {
				n++
			}
		}
		return n
	}
	step("levels", 20)
	l.until("levels of twenty modules", func() bool { return known() == 20 })
	for _, size := range [][2]int{{60, 18}, {80, 24}, {120, 40}} {
		l.send(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		if size[0] == 60 {
			l.press("tab", "tab", "tab", "tab")
		}
		t.Run(fmt.Sprintf("levels-%dx%d", size[0], size[1]), func(t *testing.T) { golden.RequireEqual(t, l.screen()+"\n") })
	}
	before := strings.Count(l.screen(), "░")
	step("levels", 20)
	l.until("levels of forty modules", func() bool { return known() == 40 })
	if now := strings.Count(l.screen(), "░"); now >= before {
		t.Errorf("%d cells without a measurement, %d before more was measured:\n%s", now, before, l.screen())
	}
	step("levels", 20)
	step("sensitivities", 30)
	l.sees("sensitivity: loss at half the width")
	l.until("half of the sensitivities", func() bool {
		n := 0
		for _, p := range l.m.snap.Preparation.Modules {
			if p.Measured {
				n++
			}
		}
		return n == 30
	})
	t.Run("sensitivities-120x40", func(t *testing.T) { golden.RequireEqual(t, l.screen()+"\n") })
	step("sensitivities", 30)
	step("candidates", 8)
	l.sees("best at 0.80")
	if strings.Contains(l.screen(), "sensitivity: loss") {
		t.Errorf("the stack shows measurements although there is a candidate:\n%s", l.screen())
	}
}

// TestSearchFlickersAndGlows lets a search try candidates: the one that is tried shows in the stack at every other beat, and the layers that a
// new best changes glow until time has passed. When the search is paused, the picture is at rest.
func TestSearchFlickersAndGlows(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "candidates")
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 120, 40, nil)
	l.startSearch(400)
	glows := func() bool { // a mark beside the number of a layer
		for _, row := range strings.Split(l.screen(), "\n") {
			if r := []rune(row); len(r) > 5 && r[0] == '│' && strings.ContainsAny(string(r[4]), "●○") {
				return true
			}
		}
		return false
	}
	found := 0
	for evaluated := 6; !glows() || !strings.Contains(l.screen(), "▒"); evaluated++ {
		if found = evaluated; evaluated > 300 {
			t.Fatalf("no accepted move glows after %d candidates:\n%s", evaluated, l.screen())
		}
		gates["candidates"] <- struct{}{}
		l.until("a candidate", func() bool { return l.m.snap.Search.Evaluated > evaluated })
	}
	if !strings.Contains(l.screen(), "▒") {
		t.Errorf("after %d candidates the one that is tried is not in the stack:\n%s", found, l.screen())
	}
	tried := l.screen()
	b.Clock.Advance(250 * time.Millisecond)
	l.send(clockMsg{})
	if l.screen() == tried {
		t.Error("the candidate that is tried does not flicker")
	}
	b.Clock.Advance(4 * time.Second)
	l.send(clockMsg{})
	if glows() {
		t.Errorf("an accepted move glows after four seconds:\n%s", l.screen())
	}
	j := l.m.snap.Search.Job
	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.PauseJob{Job: j}); err != nil {
		t.Fatal(err)
	}
	gates["candidates"] <- struct{}{}
	l.until("the pause", func() bool {
		now, _ := l.m.snap.Job(j)
		return now.State == explorer.Paused
	})
	still := l.screen()
	b.Clock.Advance(250 * time.Millisecond)
	l.send(clockMsg{})
	if l.screen() != still {
		t.Errorf("a paused search moves:\n%s\n%s", still, l.screen())
	}
	if l.m.tick() != nil {
		t.Error("the clock runs while the search is paused")
	}
}

// TestChartHasDenseAndLibrary checks that the chart always has the dense model and the library on it, and zooms.
func TestChartHasDenseAndLibrary(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("esc")
	for _, want := range []string{"dense", "■", "library", "old", "young"} {
		if !strings.Contains(l.screen(), want) {
			t.Errorf("no %q on the chart:\n%s", want, l.screen())
		}
	}
	l.press("+")
	if strings.Contains(l.screen(), "dense●") || strings.Contains(l.screen(), "dense ") && strings.Contains(l.screen(), "◆") {
		t.Errorf("zoomed to the population, the chart shows dense:\n%s", l.screen())
	}
	l.press("+")
	if !strings.Contains(l.screen(), "◆") {
		t.Errorf("zoomed out, the chart lacks dense:\n%s", l.screen())
	}
}
