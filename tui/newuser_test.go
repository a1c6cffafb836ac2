package tui

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// TestLongJobsLeaveAMessage lets long jobs end and time pass: what they made stays on the screen, with the key that goes on, until it is
// dismissed, and is in the list of messages after that.
func TestLongJobsLeaveAMessage(t *testing.T) {
	var long atomic.Bool
	b := explorertest.New()
	b.Pace = func(ctx context.Context, _ string) error {
		if long.Load() {
			b.Clock.Advance(time.Minute)
		}
		return ctx.Err()
	}
	ex := explorertest.Filled(t, b)
	l := newLoopOver(t, ex, b, 160, 40, nil)
	l.press("esc")
	long.Store(true)
	cut := ex.Snapshot().Subnets[len(ex.Snapshot().Subnets)-1].ID
	for name, c := range map[string]struct {
		start explorer.Command
		wants []string
	}{
		"cut":        {explorer.Cut{Target: 0.7, Name: "mine"}, []string{"mine is made", "c on Reform chats with it"}},
		"re-fit":     {explorer.Refit{Subnet: cut, Name: "again"}, []string{"again is made", "c on Reform chats with it"}},
		"tuning":     {explorer.Tune{Subnet: cut, Name: "tuned", Tuning: explorer.Tuning{Steps: 5}}, []string{"tuned is made", "c on Reform chats with it"}},
		"vocabulary": {explorer.TrimVocab{Subnet: cut, Name: "short", Vocab: explorer.VocabSize{Keep: 24000}}, []string{"short is made", "c on Library chats with it"}},
		"search":     {explorer.StartSearch{Target: search.Ratio(0.75), Seed: 2, Budget: explorer.Budget{Evaluations: 40}}, []string{"the search ended", "is made", "c on Search chats with the best"}},
	} {
		if _, err := ex.Do(t.Context(), explorertest.Owner, c.start); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		l.sees(c.wants[0])
		b.Clock.Advance(time.Hour)
		l.send(fadedMsg{})
		for _, want := range c.wants {
			if !strings.Contains(l.screen(), want) {
				t.Errorf("%s: %q is not on the screen an hour later:\n%s", name, want, l.screen())
			}
		}
		l.press("esc", "esc")
		if strings.Contains(l.screen(), c.wants[0]) {
			t.Errorf("%s: the message stays after esc", name)
		}
		l.press("N")
		if !strings.Contains(l.screen(), c.wants[0]) {
			t.Errorf("%s: %q is not in the list of messages:\n%s", name, c.wants[0], l.screen())
		}
		l.press("esc")
	}
}

// TestQuitNamesWhatRuns opens the question while an export runs and statistics wait, and lets the export end: the question follows.
func TestQuitNamesWhatRuns(t *testing.T) {
	var held atomic.Bool
	first, second := make(chan struct{}), make(chan struct{})
	l, _ := exporting(t, func(ctx context.Context, unit string) error {
		gate := second
		if unit == "bytes" {
			gate = first
		}
		if held.Load() {
			select {
			case <-gate:
			case <-ctx.Done():
			}
		}
		return ctx.Err()
	})
	held.Store(true)
	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.Export{Subnet: explorer.DenseID, Path: "x.gguf"}); err != nil {
		t.Fatal(err)
	}
	l.until("the export to run", l.m.busy)
	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.GatherStatistics{}); err != nil {
		t.Fatal(err)
	}
	l.until("the statistics to wait", func() bool {
		return slices.ContainsFunc(l.m.snap.Jobs, func(j explorer.Job) bool { return j.Kind == explorer.JobStatistics && !j.State.Ended() })
	})
	l.press("q")
	for _, want := range []string{"export dense to x.gguf", "statistics", "waits"} {
		if !strings.Contains(l.screen(), want) {
			t.Errorf("the question does not name %q:\n%s", want, l.screen())
		}
	}
	close(first)
	l.sees("wrote x.gguf")
	l.until("the question to follow", func() bool { return !strings.Contains(l.screen(), "export dense to x.gguf") })
	if !strings.Contains(l.screen(), "This stops: ") {
		t.Errorf("the question does not name the statistics:\n%s", l.screen())
	}
	close(second)
	l.sees("No job runs any more")
}

// TestLibraryNamesQualityAndTuning looks at a tuned subnet that was measured when it was made alone.
func TestLibraryNamesQualityAndTuning(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, "")
	made := explorertest.Do(t, ex, explorer.Cut{Target: 0.8, Tuning: explorer.Tuning{Steps: 5}}).Subnet
	l := newLoopOver(t, ex, b, 160, 50, nil)
	l.press("6", "enter")
	screen := l.screen()
	for _, want := range []string{"× dense", "measured when it was made", "re-fitted, tuned", "divergence ", "id          " + string(made)} {
		if !strings.Contains(screen, want) {
			t.Errorf("no %q in the details:\n%s", want, screen)
		}
	}
	if strings.Contains(screen, "not measured") {
		t.Errorf("a subnet with a held-out perplexity is called not measured:\n%s", screen)
	}
}

// TestTargetWithoutASearch presses the key that changes the target while no search runs.
func TestTargetWithoutASearch(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 160, 40, nil)
	l.press("1", "t")
	if len(l.m.overlays) > 0 || !strings.Contains(l.screen(), "no search runs: space starts one") {
		t.Errorf("%d forms are open:\n%s", len(l.m.overlays), l.screen())
	}
}

// TestRefusedValueIsReplaced types after a value that the form refused, and asks the form for help.
func TestRefusedValueIsReplaced(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("esc", "6", "f") // a memory size
	l.press("down")
	l.write("-5")
	l.press("enter")
	l.sees("must be from")
	l.write("200")
	if screen := l.screen(); strings.Contains(screen, "-5") || !strings.Contains(screen, "200") {
		t.Errorf("the refused value is still there:\n%s", screen)
	}
	if !strings.Contains(l.screen(), "f9 help") {
		t.Errorf("the form does not show the key of its help:\n%s", l.screen())
	}
	l.send(tea.KeyPressMsg{Code: tea.KeyF9})
	for _, want := range []string{"memory, MB", "available to the model", "ctrl+u"} {
		if !strings.Contains(l.screen(), want) {
			t.Errorf("no %q in the help:\n%s", want, l.screen())
		}
	}
	l.press("esc")
	if !strings.Contains(l.screen(), "f9 help") || !strings.Contains(l.screen(), "200") {
		t.Errorf("the form is not there after its help:\n%s", l.screen())
	}
}

// TestBenchOfOneRun measures once: no deviation, no conclusion, and times name what they are of. The axis ends near the data.
func TestBenchOfOneRun(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	cut := ex.Snapshot().Subnets[len(ex.Snapshot().Subnets)-1].ID
	explorertest.Do(t, ex, explorer.StartBench{Settings: explorer.BenchSettings{Subnets: []explorer.SubnetID{explorer.DenseID, cut}, Prompt: []int{64}, Generate: 16, Repeats: 1}})
	explorertest.Quiet(t, ex)
	l := newLoopOver(t, ex, b, 160, 40, nil)
	l.press("esc", "5")
	for _, want := range []string{"one run, not compared", "/token", "/prompt"} {
		if !strings.Contains(l.screen(), want) {
			t.Errorf("no %q on the screen:\n%s", want, l.screen())
		}
	}
	for _, bad := range []string{"±", "no difference", "500", "100"} {
		if strings.Contains(l.screen(), bad) {
			t.Errorf("%q is on the screen:\n%s", bad, l.screen())
		}
	}
}

// TestColumnsUseTheRoom shows a subnet of a name that the least width of its column would cut.
func TestColumnsUseTheRoom(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	cut := ex.Snapshot().Subnets[len(ex.Snapshot().Subnets)-1].ID
	explorertest.Do(t, ex, explorer.RenameSubnet{Subnet: cut, Name: "one-shot 0.80 s1"})
	explorertest.Do(t, ex, explorer.StartBench{Settings: explorer.BenchSettings{Subnets: []explorer.SubnetID{explorer.DenseID, cut}, Prompt: []int{64}, Generate: 16, Repeats: 2}})
	explorertest.Quiet(t, ex)
	for _, w := range []int{80, 120} {
		l := newLoopOver(t, ex, b, w, 40, nil)
		l.press("esc", "5")
		if !strings.Contains(l.screen(), "one-shot 0.80 s1 ") {
			t.Errorf("the name is cut short on %d columns:\n%s", w, l.screen())
		}
	}
}
