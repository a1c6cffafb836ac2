package tui

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// pieces is a backend whose units of work each wait for a value.
func pieces(b *explorertest.Backend, units ...string) map[string]chan struct{} {
	gates, came := map[string]chan struct{}{}, make(chan struct{}, 1<<12)
	gates["came"] = came // a value for each unit that is to begin
	for _, u := range units {
		gates[u] = make(chan struct{}, 1<<12)
	}
	b.Pace = func(ctx context.Context, unit string) error {
		gate, ok := gates[unit]
		if !ok {
			return nil
		}
		came <- struct{}{}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return gates
}

// TestSearchGoesBeforeAutomaticMeasurements starts a search while a draft is measured unasked: the measurement gives way, and the
// list of jobs names what each waits for.
func TestSearchGoesBeforeAutomaticMeasurements(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "windows", "candidates")
	ex, err := explorer.Open(t.Context(), explorer.Options{
		Model: "m.gguf", Backend: b, Now: b.Clock.Now, Scratch: t.TempDir(), MeasureDraft: &explorer.Measure{Seq: 512, Windows: 4},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ex.Close() })
	l := newLoopOver(t, ex, b, 120, 40, nil)
	explorertest.Do(t, ex, explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{4}}}})
	l.press("J")
	<-gates["came"]
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 20}}); err != nil {
		t.Fatal(err)
	}
	l.sees("waits for perplexity of")
	gates["windows"] <- struct{}{} // it comes to its next gate
	l.sees("waits for search at 0.80")
	for range 1 << 6 {
		gates["candidates"] <- struct{}{}
		gates["windows"] <- struct{}{}
	}
	l.until("the measurement to end", func() bool { return l.m.snap.Draft.Measured != nil })
	var ended []explorer.JobKind
	for _, j := range l.m.snap.Jobs {
		if j.State == explorer.Done {
			ended = append(ended, j.Kind)
		}
	}
	if len(ended) == 0 || ended[len(ended)-1] != explorer.JobSearch {
		t.Errorf("ended, the newest first: %v", ended)
	}
}

// TestTimeLeftTicks shows the phase of a search and a time left that falls between reports of progress.
func TestTimeLeftTicks(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "candidates")
	ex := explorertest.Open(t, b, "")
	l := newLoopOver(t, ex, b, 120, 40, nil)
	job, err := ex.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Seconds: 600}})
	if err != nil {
		t.Fatal(err)
	}
	gates["candidates"] <- struct{}{}
	l.sees("search 3/4 10:00 left")
	b.Clock.Advance(7 * time.Second)
	l.send(clockMsg{})
	if head, _, _ := strings.Cut(l.screen(), "\n"); !strings.Contains(head, "search 3/4 9:53 left") {
		t.Errorf("seven seconds later: %s", head)
	}
	if title := l.m.View().WindowTitle; strings.Contains(title, "100 %") {
		t.Errorf("title %q", title)
	}
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.StopJob{Job: job.Job}); err != nil {
		t.Fatal(err)
	}
	explorertest.Ended(t, ex, job.Job)
}

// TestPhasesTickWithoutALimit shows the time left of a phase, and then of a search that is limited in candidates: both fall between
// reports of progress.
func TestPhasesTickWithoutALimit(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "levels", "sensitivities", "candidates")
	ex := explorertest.Open(t, b, "")
	l := newLoopOver(t, ex, b, 120, 40, nil)
	l.startSearch(40)
	ticks := func(from, to, of string) {
		t.Helper()
		l.sees(from + of)
		b.Clock.Advance(7 * time.Second)
		l.send(clockMsg{})
		if s := l.screen(); strings.Count(s, to) != 2 || !strings.Contains(s, to+of) { // the corner, with the number of the phase, and the bar
			t.Errorf("seven seconds later, without %q twice:\n%s", to+of, s)
		}
	}
	steps := func(unit string, first, n int, each time.Duration) { // from a count, which is reported before the clock goes on
		for i := range n {
			if i > 0 {
				b.Clock.Advance(each)
			}
			gates[unit] <- struct{}{}
			explorertest.Until(t, ex, unit, func(s *explorer.Snapshot) bool {
				p := s.Jobs[0].Progress
				return each == 0 || p.Unit == unit && p.Done == float64(first+i)
			})
		}
	}
	steps("levels", 0, 11, 2*time.Second)
	ticks("1:40 left", "1:33 left", " of levels")
	steps("levels", 0, 49, 0)
	steps("sensitivities", 0, 31, time.Second)
	ticks("0:30 left", "0:23 left", " of sensitivity")
	steps("sensitivities", 0, 29, 0)
	steps("candidates", 6, 5, 10*time.Second)
	ticks("5:20 left", "5:13 left", "") // with what the fake re-fit takes
}

// TestPasteKeepsLinesThatEndInReturns pastes lines as terminals send them, with carriage returns, and shows them as lines.
func TestPasteKeepsLinesThatEndInReturns(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("4", "enter")
	l.send(tea.PasteMsg{Content: "alpha one\rbeta two\r    gamma three"})
	rows := map[string]int{}
	for y, row := range strings.Split(l.screen(), "\n") {
		for _, line := range []string{"alpha one", "beta two", "    gamma three"} {
			if strings.Contains(row, line) {
				rows[line] = y
			}
		}
	}
	if rows["beta two"] != rows["alpha one"]+1 || rows["    gamma three"] != rows["beta two"]+1 {
		t.Errorf("rows %v of\n%s", rows, l.screen())
	}
}

// TestUnitsAreRankedBeforeStatistics cuts by hand while the statistics are gathered: units are ranked by their weights until then.
func TestUnitsAreRankedBeforeStatistics(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "layers")
	ex := explorertest.Open(t, b, "")
	l := newLoopOver(t, ex, b, 120, 40, nil)
	job, err := ex.Do(t.Context(), explorertest.Owner, explorer.GatherStatistics{})
	if err != nil {
		t.Fatal(err)
	}
	l.press("2")
	l.sees("Ranked by weight norms alone")
	l.press("left")
	l.until("a cut by hand", func() bool { return len(l.m.snap.Draft.Steps) == 1 })
	if kept := l.m.snap.Draft.Masks.Size().Ratio; kept >= 1 {
		t.Errorf("a ratio of %g after the cut", kept)
	}
	for range 1 << 8 {
		gates["layers"] <- struct{}{}
	}
	explorertest.Ended(t, ex, job.Job)
	l.until("statistics", func() bool { return l.m.snap.Statistics.Ready })
	if s := l.screen(); strings.Contains(s, "Ranked by weight norms") {
		t.Errorf("still ranked by weights:\n%s", s)
	}
}

// TestImportFormStaysUntilTheFileIsRead submits a file that is no model: the form stays, with the reason, and keys go to it.
func TestImportFormStaysUntilTheFileIsRead(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	path := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(path, []byte("# lathe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	version, jobs := l.m.snap.Draft.Version, len(l.m.snap.Jobs)
	for what, reason := range map[string]string{"GGUF file": "valid", "recipe": "not a recipe"} {
		l.press("6", "i")
		l.write(path)
		if what == "recipe" {
			l.press("tab", "right")
		}
		l.press("enter", "enter")
		l.sees(reason)
		if len(l.m.overlays) != 1 {
			t.Errorf("%s: %d forms are open after a file that is none:\n%s", what, len(l.m.overlays), l.screen())
		}
		l.press("x", "m", "esc")
	}
	if s := l.m.snap; s.Draft.Version != version || len(s.Jobs) != jobs {
		t.Errorf("version %d of the draft after %d, %d jobs after %d", s.Draft.Version, version, len(s.Jobs), jobs)
	}
}

// TestTargetOfASearchWithoutCandidates asks for another target before there is a candidate.
func TestTargetOfASearchWithoutCandidates(t *testing.T) {
	b := explorertest.New()
	pieces(b, "candidates")
	ex := explorertest.Open(t, b, "")
	l := newLoopOver(t, ex, b, 120, 40, nil)
	job, err := ex.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.7)})
	if err != nil {
		t.Fatal(err)
	}
	l.until("the search", func() bool { return l.m.snap.Unfinished != nil })
	l.press("t")
	l.sees("0.70")
	l.press("ctrl+u")
	l.write("0.6")
	l.press("enter")
	l.sees("the search continues with the target 0.60")
	l.press("x")
	l.sees("nothing to resume")
	l.press("esc", "J")
	l.sees("search at 0.60")
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.StopJob{Job: job.Job}); err != nil {
		t.Fatal(err)
	}
	explorertest.Ended(t, ex, job.Job)
}

// TestResumedSearchAddsNoSecondSubnet resumes a search that finds nothing better: the library keeps one subnet of it.
func TestResumedSearchAddsNoSecondSubnet(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, t.TempDir())
	c := explorer.StartSearch{Target: search.Ratio(0.7), Seed: 1, Budget: explorer.Budget{Evaluations: 40}}
	first := explorertest.Do(t, ex, c).Subnet
	l := newLoopOver(t, ex, b, 120, 40, nil)
	c.Resume = true
	second := explorertest.Do(t, ex, c).Subnet
	l.press("6")
	l.until("the search to end", func() bool { return len(l.m.snap.Jobs) == 2 && l.m.snap.Jobs[0].State == explorer.Done })
	if n := len(l.m.snap.Subnets); n != 1 || first != second || first == "" {
		t.Errorf("%d subnets, %q and then %q", n, first, second)
	}
}

// TestReformComesBack cuts, opens the workspace again and shows the errors of the re-fit by layer; a damaged file of them is
// named.
func TestReformComesBack(t *testing.T) {
	dir := t.TempDir()
	open := func() *explorer.Exploration {
		b := explorertest.New()
		ex, err := explorer.Open(t.Context(), explorer.Options{Model: "m.gguf", Workspace: dir, Backend: b, Now: b.Clock.Now, Scratch: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return ex
	}
	show := func(ex *explorer.Exploration) *loop {
		return newLoopOver(t, ex, explorertest.New(), 120, 40, func(o *Options) { o.Screen = "reform" })
	}
	ex := open()
	explorertest.Do(t, ex, explorer.Cut{Target: 0.8})
	want := show(ex).screen()
	if err := ex.Close(); err != nil {
		t.Fatal(err)
	}
	ex = open()
	bars := func(s string) (out []string) {
		for _, row := range strings.Split(s, "\n") {
			if _, bar, ok := strings.Cut(row, "││"); ok {
				out = append(out, bar)
			}
		}
		return out
	}
	if got := show(ex).screen(); len(bars(want)) < 20 || !slices.Equal(bars(got), bars(want)) || !strings.Contains(got, "1.55 → 1.31 × dense") {
		t.Errorf("after a restart:\n%s\nbefore it:\n%s", got, want)
	}
	if err := ex.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "reform", "view.json"), []byte(`{"Version":1,"Model":"other"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	ex = open()
	t.Cleanup(func() { _ = ex.Close() })
	show(ex).sees("the last re-fit is not shown")
}

// TestFormsStayUntilTextsAreFound submits forms with a text that is missing: they stay, with the reason.
func TestFormsStayUntilTextsAreFound(t *testing.T) {
	for name, keys := range map[string][]string{"a search": {"1", "s"}, "a cut": {"1", "o"}, "a re-fit": {"3", "enter"}, "statistics": {"1", "S"}} {
		b := explorertest.New()
		b.Missing = []string{"notes.txt"}
		l := newLoopOver(t, explorertest.Open(t, b, ""), b, 100, 40, nil)
		l.press("esc")
		l.press(keys...)
		l.sees("window tokens")
		for range 20 {
			if strings.Contains(l.screen(), "▸ text ") {
				break
			}
			l.press("down")
		}
		l.write("notes.txt")
		l.press("enter")
		l.sees("notes.txt: file does not exist")
		if !strings.Contains(l.screen(), "▸ text ") || len(l.ex.Snapshot().Jobs) > 0 {
			t.Errorf("%s: the form has closed, or there is a job:\n%s", name, l.screen())
		}
	}
}
