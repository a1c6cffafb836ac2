package tui

import (
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// entry goes to an entry of the form on the screen.
func (l *loop) entry(label string) {
	l.t.Helper()
	for range 40 {
		if strings.Contains(l.screen(), "▸ "+label+" ") {
			return
		}
		l.press("down")
	}
	l.t.Fatalf("no entry %s:\n%s", label, l.screen())
}

// TestStoppingAsks stops jobs by the key of their screen and in the list of jobs: where the work is lost it asks first, and no leaves the
// job alone; what keeps its work stops at once.
func TestStoppingAsks(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "layers", "windows")
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 100, 30, nil)
	running := func(kind explorer.JobKind) explorer.Job {
		t.Helper()
		<-gates["came"]
		var job explorer.Job
		l.until("the job to run", func() bool {
			for _, j := range l.m.snap.Jobs {
				if j.Kind == kind && j.State == explorer.Running {
					job = j
				}
			}
			return job.ID != ""
		})
		return job
	}
	state := func(j explorer.Job) explorer.JobState {
		now, _ := l.m.snap.Job(j.ID)
		return now.State
	}
	l.press("esc", "o", "enter")
	cut := running(explorer.JobCut)
	l.until("the screen of the cut", func() bool { return l.on("reform") && len(l.m.overlays) == 0 })
	b.Clock.Advance(2 * time.Minute)
	l.press("x")
	l.sees("its work is lost")
	if s := l.screen(); !strings.Contains(s, "J pauses it") {
		t.Errorf("the question does not name the key that keeps the work:\n%s", s)
	}
	l.press("n")
	if got := state(cut); got != explorer.Running {
		t.Errorf("no leaves the cut %s", got)
	}
	l.press("J", "enter")
	l.sees("pause")
	l.press("down", "enter") // the same in the list of jobs
	l.sees("its work is lost")
	l.press("y")
	l.until("the cut to stop", func() bool { return state(cut) == explorer.Stopped })

	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.GatherStatistics{}); err != nil {
		t.Fatal(err)
	}
	gathering := running(explorer.JobStatistics)
	l.press("J", "enter")
	l.sees("pause")
	l.press("down", "enter")
	l.until("the statistics to stop, whose layers stay", func() bool { return state(gathering) == explorer.Stopped })
}

// TestFormsShowTheTime opens the forms of cuts and re-fits: the time comes from one that was made alike, in proportion to the tokens, and
// there is none where nothing was.
func TestFormsShowTheTime(t *testing.T) {
	l := newLoop(t, 100, 40, nil) // its cut took 41 s with 8 windows
	l.press("esc", "o")
	l.sees("Takes about 2:44")
	l.sees("first cut took 41 s with 8")
	l.sees("× 2048 tokens.")
	l.entry("windows")
	l.write("8")
	l.sees("Takes about 41 s")
	l.press("ctrl+u")
	l.write("800") // too far from what was measured
	none := func(what string) {
		t.Helper()
		if s := l.screen(); strings.Contains(s, "Takes") {
			t.Errorf("%s has a time:\n%s", what, s)
		}
	}
	none("a hundred times as much text")
	l.press("ctrl+u")
	l.write("8")
	l.entry("preset")
	l.press("right")
	none("another preset")
	l.press("left")
	l.sees("Takes about 41 s")
	l.entry("tune")
	l.write("10m")
	l.sees("Takes about 10:41")
	l.sees("at most 10:00: first")
	l.press("esc", "3", "enter")
	l.sees("Takes about 2:44: without L14 attention")

	b := explorertest.New()
	l = newLoopOver(t, explorertest.Open(t, b, ""), b, 100, 40, nil)
	l.press("o")
	l.sees("one-shot cut")
	none("a workspace without a cut")
}

// TestSavedDraft saves an edited and measured draft: the line of the draft names the subnet, which has the measurement, until the next
// edit.
func TestSavedDraft(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 120, 40, nil)
	explorertest.Do(t, l.ex, explorer.GatherStatistics{})
	l.until("statistics", func() bool { return l.m.snap.Statistics.Ready })
	l.press("esc", "2", "left")
	l.sees("1 change")
	l.settle()
	l.press("p")
	l.sees("✓ true")
	l.press("w", "ctrl+u")
	l.write("thinner")
	l.press("enter")
	l.sees("saved as thinner  ")
	if s := l.screen(); strings.Contains(s, "1 change") {
		t.Errorf("a saved draft counts its changes:\n%s", s)
	}
	n, ok := l.m.snap.Saved()
	if !ok || len(n.Measurements) != 1 || n.Measurements[0].Perplexity != l.m.snap.Draft.Measured.Perplexity {
		t.Errorf("the subnet has the measurements %+v", n.Measurements)
	}
	l.press("6")
	l.sees("edited by hand")
	l.press("2", "left")
	l.sees("2 changes")
}

// TestMethodOfAnEditedSubnet shows how a subnet that was re-fitted and then edited was made.
func TestMethodOfAnEditedSubnet(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("esc", "6")
	for _, n := range l.m.snap.Subnets {
		if n.Origin != explorer.Edited {
			continue
		}
		for l.selected().ID != n.ID {
			l.press("down")
		}
		l.sees("edited by hand, after ladder")
		return
	}
	t.Fatal("no subnet was edited")
}

// TestFileNotSmaller keeps one channel less than all of a layer: files store such widths in larger types, and the screen says so.
func TestFileNotSmaller(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 80, 24, nil)
	l.press("esc", "2")
	all := l.m.snap.Draft.Masks
	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.Edit{Mutations: []draft.Mutation{draft.KeepTop{Layers: []int{0}, Module: draft.MLP, Count: 1535}}}); err != nil {
		explorertest.Do(t, l.ex, explorer.GatherStatistics{})
		explorertest.Do(t, l.ex, explorer.Edit{Mutations: []draft.Mutation{draft.KeepTop{Layers: []int{0}, Module: draft.MLP, Count: 1535}}})
	}
	l.sees("85.4 MB (widths not × 32 take larger types)")
	draftOf := l.ex.Snapshot().Draft
	if explorer.NotSmaller(all, draftOf.Masks, 0, draftOf.Bytes) != "" {
		t.Error("an unknown size has a reason")
	}
}

// TestOnlyRepeatableSubnetsOfferRecipes adopts a candidate, whose weights a recipe could not repeat, and opens the forms of export.
func TestOnlyRepeatableSubnetsOfferRecipes(t *testing.T) {
	b := explorertest.New()
	b.Weights = true
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 120, 40, nil)
	explorertest.Do(t, l.ex, explorer.Cut{Target: 0.8, Name: "a cut"})
	explorertest.Do(t, l.ex, explorer.StartSearch{Target: search.Ratio(0.8), Seed: 1, Budget: explorer.Budget{Evaluations: 40}})
	adopted := explorertest.Do(t, l.ex, explorer.Adopt{Candidate: l.ex.Snapshot().Search.Population[3].ID, Name: "adopted"}).Subnet
	l.until("the subnets", func() bool { _, ok := l.m.snap.Subnet(adopted); return ok })
	l.press("esc", "6")
	offers := func(name string) string {
		t.Helper()
		l.press("home")
		for range 10 {
			if n, ok := l.m.snap.Subnet((host{l.m}).Selection()[0]); ok && n.Name == name {
				break
			}
			l.press("down")
		}
		l.press("e")
		l.sees("HF folder")
		s := l.screen()
		l.press("esc")
		return s
	}
	if s := offers("a cut"); !strings.Contains(s, " recipe ") {
		t.Errorf("the recipe of a cut is not offered:\n%s", s)
	}
	if s := offers("adopted"); strings.Contains(s, " recipe  ") || !strings.Contains(s, "no recipe") {
		t.Errorf("a recipe that cannot be written is offered:\n%s", s)
	}
}

// TestColumnsOfAChat votes twice on one reply, adds a column, and looks at titles.
func TestColumnsOfAChat(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("esc", "4", ">", ">", "<")
	l.sees("votes: dense 1, first cut 0")
	l.press("+")
	l.sees("add a column")
	if s := l.screen(); strings.Contains(s, "  dense ") || strings.Contains(s, "▸ dense") {
		t.Errorf("a column that there is already is offered:\n%s", s)
	}
	l.press("esc", "n", "enter")
	l.until("the chat", func() bool { return l.on("chat") && l.m.typing() })
	l.write("Tell me of lathes and of their makers")
	l.press("enter")
	l.until("the title in the first row", func() bool { return strings.Contains(strings.Split(l.screen(), "\n")[2], "Tell me of lathes") })
}

// TestLoadingComesBeforeReading follows a reply of a model that is not loaded: it is loaded, and then it reads the prompt.
func TestLoadingComesBeforeReading(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("esc", "4", "n", "down", "down", "down", "enter")
	l.until("the chat", func() bool { return l.on("chat") && l.m.typing() })
	l.write("hello")
	l.press("enter")
	read := false
	l.until("the reply", func() bool {
		s := l.screen()
		if strings.Contains(s, "reading the prompt") {
			read = true
		} else if read && strings.Contains(s, "loading the model") {
			t.Error("the model is loaded after it has read the prompt")
		}
		return strings.Contains(s, "31.0")
	})
}

// TestModelShowsTheSpaceOfTheWorkspace opens the facts about a model whose workspace has files.
func TestModelShowsTheSpaceOfTheWorkspace(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, t.TempDir())
	explorertest.Do(t, ex, explorer.Cut{Target: 0.8})
	l := newLoopOver(t, ex, b, 120, 40, nil)
	l.until("its size", func() bool { return l.m.snap.Workspace.Bytes > 0 })
	l.press("esc", "I")
	l.sees("B in /")
}

// TestKeyMapProblemsAreShown opens the program with a key map that takes a key of another action, and binds one that no terminal sends.
func TestKeyMapProblemsAreShown(t *testing.T) {
	l := newLoop(t, 120, 40, func(o *Options) { o.Keys = "[keys]\n\"search.adopt\" = \"c\"\nhelp = \"F99\"" })
	l.press("N")
	l.sees("search.chat loses c to search.adopt")
	l.sees("\"F99\" is no key")
	if strings.Contains(l.screen(), "F99 keys") {
		t.Error("the key that cannot be pressed is shown")
	}
}

// TestNarrowHeadNamesTheJob looks at the corner of a small terminal while a job runs: a time alone does not tell what it is of.
func TestNarrowHeadNamesTheJob(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "layers")
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 80, 24, nil)
	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.GatherStatistics{}); err != nil {
		t.Fatal(err)
	}
	<-gates["came"]
	l.until("its name", func() bool { return strings.Contains(strings.Split(l.screen(), "\n")[0], " statistics") })
	l.press("esc", "o") // a form that does not fit shows which part of it is on the screen
	l.sees("─ 1–")
	l.press("up")
	l.until("its end", func() bool {
		return !strings.Contains(l.screen(), "─ 1–") && strings.Contains(l.screen(), " of ")
	})
}
