package tui

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer"
)

// following is an exploration that measures its draft by itself. The measurement ends as a child process that was stopped does, when its context
// ends.
func following(t *testing.T, b *explorertest.Backend) *explorer.Exploration {
	t.Helper()
	b.Pace = func(ctx context.Context, unit string) error {
		if unit != "windows" {
			return nil
		}
		<-ctx.Done()
		return fmt.Errorf("loading the tokenizer: %w", context.Cause(ctx))
	}
	ex, err := explorer.Open(t.Context(), explorer.Options{
		Model: "m.gguf", Backend: b, Now: b.Clock.Now, Scratch: t.TempDir(), MeasureDraft: &explorer.Measure{Seq: 512, Windows: 4},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ex.Close() })
	return ex
}

// TestSupersededMeasurements edits while the draft is measured: what a newer edit supersedes, or a key stops, is no failure, and the list of jobs
// has one row for it.
func TestSupersededMeasurements(t *testing.T) {
	b := explorertest.New()
	ex := following(t, b)
	explorertest.Do(t, ex, explorer.GatherStatistics{})
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "masks" })
	var j explorer.Job
	for range 3 {
		last := j.ID
		l.press("left")
		l.until("the measurement of the edit", func() (ok bool) {
			j, ok = l.m.snap.Measures(explorer.DraftID)
			return ok && j.State == explorer.Running && j.ID != last
		})
	}
	l.sees("measuring the true perplexity")
	count := func() (n int) {
		for _, j := range l.m.snap.Jobs {
			if j.Kind == explorer.JobMeasure {
				n++
			}
		}
		return n
	}
	l.until("one row", func() bool { return count() == 1 })
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.StopJob{Job: j.ID}); err != nil {
		t.Fatal(err)
	}
	l.until("the end", func() bool { j, _ = l.m.snap.Job(j.ID); return j.State.Ended() })
	if j.State != explorer.Stopped || j.Err != "" || count() != 1 {
		t.Errorf("%d measurements, the last is %s: %s", count(), j.State, j.Err)
	}
	for _, m := range l.m.snap.Messages {
		if m.Level == explorer.Failure {
			t.Errorf("a failure is reported: %s", m.Text)
		}
	}
	l.press("J")
	if n := strings.Count(l.screen(), "perplexity of draft"); n != 1 {
		t.Errorf("%d rows:\n%s", n, l.screen())
	}
}

// TestMeasurementShowsWhatItWaitsFor measures the draft by key while a cut runs.
func TestMeasurementShowsWhatItWaitsFor(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "layers")
	ex := explorertest.Open(t, b, "")
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "masks" })
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.Cut{Target: 0.8}); err != nil {
		t.Fatal(err)
	}
	<-gates["came"]
	l.press("p", "enter")
	l.sees("the measurement waits for cut to 0.80")
	if s := l.screen(); strings.Contains(s, "measuring the true perplexity") {
		t.Errorf("it measures while it waits:\n%s", s)
	}
	for range 1 << 8 {
		gates["layers"] <- struct{}{}
	}
	l.sees("✓ true ")
}

// TestUndoOnEachScreen takes the result of a cut back and brings it back on Reform, and deletes and restores on Library: redo acts on what undo has
// acted on, and the draft stays.
func TestUndoOnEachScreen(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, t.TempDir())
	made := explorertest.Do(t, ex, explorer.Cut{Target: 0.8, Name: "the cut"}).Subnet
	explorertest.Do(t, ex, explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{4}}}})
	explorertest.Do(t, ex, explorer.Undo{})
	version := ex.Snapshot().Draft.Version
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "reform" })
	deleted := func(is bool) func() bool {
		return func() bool { n, ok := l.m.snap.Subnet(made); return ok && n.Deleted.IsZero() != is }
	}
	for range 2 {
		l.sees("result      the cut")
		l.press("z")
		l.until("the result in the trash", deleted(true))
		l.sees("the cut is in the trash; Z here or z on Library brings it back")
		l.sees("Z brings it back")
		for _, gone := range []string{"result      the cut", "c chat", "e export", "z take back"} {
			if strings.Contains(l.screen(), gone) {
				t.Errorf("%q without a result:\n%s", gone, l.screen())
			}
		}
		l.press("Z")
		l.until("the result again", deleted(false))
	}
	l.press("6", "x")
	l.until("the deletion", deleted(true))
	l.press("z")
	l.until("the subnet again", deleted(false))
	l.sees("Z deletes it again")
	l.press("Z")
	l.until("the second deletion", deleted(true))
	if got := ex.Snapshot().Draft.Version; got != version {
		t.Errorf("the draft changed from version %d to %d", version, got)
	}
	l.press("5", "Z")
	l.sees("redone in the draft: ")
	l.sees("z undoes it")
}

// TestUndoIsInTheFooter edits in a terminal of each size: the footer shows undo, and restore only where there is something to restore.
func TestUndoIsInTheFooter(t *testing.T) {
	for _, size := range [][2]int{{60, 18}, {80, 24}, {120, 40}} {
		b := explorertest.New()
		l := newLoopOver(t, explorertest.Open(t, b, ""), b, size[0], size[1], func(o *Options) { o.Screen = "masks" })
		foot := func() string { rows := strings.Split(l.screen(), "\n"); return rows[len(rows)-1] }
		if f := foot(); strings.Contains(f, "undo") || strings.Contains(f, "restore") {
			t.Errorf("%v without edits: %s", size, f)
		}
		l.press("x")
		l.settle()
		if f := foot(); !strings.Contains(f, "z undo") {
			t.Errorf("%v after an edit: %s", size, f)
		}
		if size[0] >= 80 && !strings.Contains(l.screen(), "u restore block") {
			t.Errorf("%v: restore is not named:\n%s", size, l.screen())
		}
		l.press("z")
		l.settle()
		if f := foot(); !strings.Contains(f, "Z redo") || strings.Contains(f, "z undo") {
			t.Errorf("%v after undo: %s", size, f)
		}
	}
}

// TestMasksNameTheStatistics shows what keeps statistics from being there, and the key that gathers them.
func TestMasksNameTheStatistics(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "layers")
	ex := explorertest.Open(t, b, "")
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "masks" })
	l.sees("no estimate: S on Search gathers statistics")
	job, err := ex.Do(t.Context(), explorertest.Owner, explorer.GatherStatistics{})
	if err != nil {
		t.Fatal(err)
	}
	<-gates["came"]
	l.sees("Ranked by weight norms alone: statistics are being")
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.Cut{Target: 0.8}); err != nil {
		t.Fatal(err)
	}
	gates["layers"] <- struct{}{}
	l.sees("no estimate: statistics wait for cut to 0.80")
	for range 1 << 8 {
		gates["layers"] <- struct{}{}
	}
	explorertest.Ended(t, ex, job.Job)
	l.sees("est. 1.00 × dense")
}

// TestEditsOfARefittedSubnet edits a re-fitted subnet: Masks shows that its weights were re-fitted before, and all costs.
func TestEditsOfARefittedSubnet(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, "")
	made := explorertest.Do(t, ex, explorer.Cut{Target: 0.8}).Subnet
	explorertest.Do(t, ex, explorer.GatherStatistics{})
	explorertest.Do(t, ex, explorer.Checkout{Subnet: made})
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "masks" })
	l.sees("FLOPs/token")
	const words = "re-fitted before the edits: r re-fits again"
	if strings.Contains(l.screen(), words) {
		t.Errorf("without an edit:\n%s", l.screen())
	}
	l.press("left")
	l.settle()
	l.sees(words)
	l.sees("FLOPs/token")
	l.send(tea.WindowSizeMsg{Width: 80, Height: 24})
	for _, want := range []string{"edits not re-fitted", "FLOPs/token", "p measures it"} {
		if !strings.Contains(l.screen(), want) {
			t.Errorf("no %q:\n%s", want, l.screen())
		}
	}
	l.press("z")
	l.settle()
	if strings.Contains(l.screen(), words) {
		t.Errorf("after undo:\n%s", l.screen())
	}
}

// TestTuningBeforeItsFirstMeasurement shows no divergence of step 0, all of the line, and which way is better.
func TestTuningBeforeItsFirstMeasurement(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "of the tuning")
	ex := explorertest.Open(t, b, "")
	made := explorertest.Do(t, ex, explorer.Cut{Target: 0.8}).Subnet
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "reform" })
	if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.Tune{Subnet: made, Tuning: explorer.Tuning{Steps: 12}}); err != nil {
		t.Fatal(err)
	}
	gates["of the tuning"] <- struct{}{}
	l.sees("step 0 · held out ")
	l.sees("lower is nearer to dense")
	if s := l.screen(); strings.Contains(s, "0.0000") {
		t.Errorf("a value before it is measured:\n%s", s)
	}
	gates["of the tuning"] <- struct{}{}
	l.sees("step 1 · divergence ")
	rows := strings.Split(l.screen(), "\n")
	found := false
	for _, row := range rows {
		found = found || strings.HasPrefix(row, "│             ") && strings.Contains(row, "held out")
	}
	if !found {
		t.Errorf("the line is cut off:\n%s", l.screen())
	}
}

// TestReformShowsEveryLayer shows all layers where there is room, what the shades are, and a bar for the smallest error.
func TestReformShowsEveryLayer(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, "")
	explorertest.Do(t, ex, explorer.Cut{Target: 0.8})
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "reform" })
	for _, want := range []string{"│▸  0  ", "│  29  ", "█ after, ░ before the re-fit", "╭ layer 0 "} {
		if !strings.Contains(l.screen(), want) {
			t.Errorf("no %q:\n%s", want, l.screen())
		}
	}
	for _, row := range strings.Split(l.screen(), "\n") {
		if strings.Contains(row, " .0") || strings.Contains(row, "→.") {
			t.Errorf("a number without a leading zero: %s", row)
		}
	}
	l.send(tea.WindowSizeMsg{Width: 80, Height: 24})
	l.sees("█ after, ░ before · 1–13 of 30")
}

// TestStoppedReplyStays stops a reply by esc before its first word: the turn stays, marked, and the next prompt is sent without it.
func TestStoppedReplyStays(t *testing.T) {
	b := explorertest.New()
	gates := pieces(b, "prompt")
	ex := explorertest.Open(t, b, "")
	made := explorertest.Do(t, ex, explorer.Cut{Target: 0.8}).Subnet
	chat := explorertest.Do(t, ex, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID, made}}).Chat
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "chat" })
	l.press("enter")
	l.write("hello there")
	l.press("enter")
	l.sees("reading the prompt")
	<-gates["came"]
	<-gates["came"]
	l.press("esc")
	l.until("the end", func() bool { c, _ := l.m.snap.Chat(chat); return !c.Busy })
	if n := strings.Count(l.screen(), "stopped before its first word"); n != 2 || !strings.Contains(l.screen(), "hello there") {
		t.Errorf("%d stopped turns:\n%s", n, l.screen())
	}
	l.press("esc", "d")
	l.sees("no reply of the subnet is complete: r asks again")
}

// TestDifferencesNameWhatToDo lists no differences of a chat with the dense model alone: the message names the key that adds a subnet. Where there are
// some, the list explains the agreement, sorts by divergence, and names what is drawn as nothing.
func TestDifferencesNameWhatToDo(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, "")
	made := explorertest.Do(t, ex, explorer.Cut{Target: 0.7}).Subnet
	explorertest.Do(t, ex, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}})
	l := newLoopOver(t, ex, b, 120, 40, func(o *Options) { o.Screen = "chat" })
	l.press("d")
	l.sees("the chat has the dense model alone: v adds a subnet to compare it with")
	chat := explorertest.Do(t, ex, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID, made}, Sampling: &infer.Sampling{Temperature: 1, TopK: 3, Seed: 5, MaxTokens: 60}}).Chat
	l.until("the chat", func() bool { return len(l.m.snap.Chats) == 2 })
	l.press("esc", "l", "enter", "esc", "d")
	l.sees("writes a prompt first")
	explorertest.Do(t, ex, explorer.Say{Chat: chat, Text: "What is it?"})
	explorertest.Quiet(t, ex)
	l.sees("agreement ")
	l.sees("words shaded by divergence (h)")
	l.press("h")
	l.sees("words not shaded (h)")
	l.press("h", "d")
	l.sees("the share of the tokens of this reply that dense finds the most")
	l.sees("(space)")
	values := func() (out []float64) {
		for _, row := range strings.Split(l.screen(), "\n") {
			var v float64
			if _, rest, ok := strings.Cut(row, "│  "); ok {
				if _, err := fmt.Sscanf(strings.TrimLeft(rest, " │"), "%f", &v); err == nil {
					out = append(out, v)
				}
			}
		}
		return out
	}
	if v := values(); len(v) < 3 || slices.IsSortedFunc(v, func(a, b float64) int { return cmp.Compare(b, a) }) {
		t.Fatalf("in the order of the text: %v\n%s", v, l.screen())
	}
	l.press("s")
	if v := values(); len(v) < 3 || !slices.IsSortedFunc(v, func(a, b float64) int { return cmp.Compare(b, a) }) {
		t.Errorf("largest first: %v\n%s", v, l.screen())
	}
	l.press("s")
	l.sees("s largest first")
}

// right is the text of the panes on the right side, on one line.
func (l *loop) right() string {
	var words []string
	for _, row := range strings.Split(l.screen(), "\n") {
		if _, row, ok := strings.Cut(row, "││"); ok {
			words = append(words, strings.Fields(strings.Trim(row, "│"))...)
		}
	}
	return strings.Join(words, " ")
}

// TestFirstScreenLeadsToTheLibrary shows on the first screen that there is a subnet, the key that leads to it, and that of the tour.
func TestFirstScreenLeadsToTheLibrary(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, "")
	explorertest.Do(t, ex, explorer.Cut{Target: 0.8, Name: "the cut"})
	for _, size := range [][2]int{{120, 40}, {80, 24}} {
		l := newLoopOver(t, ex, b, size[0], size[1], nil)
		if !strings.Contains(l.right(), "6 shows the library") {
			t.Errorf("%v: the library is not named:\n%s", size, l.screen())
		}
		l.press("W")
		l.sees("welcome")
		l.press("6")
		if !l.on("library") {
			t.Error("the key does not lead to the library")
		}
	}
	l := newLoopOver(t, ex, b, 120, 40, nil)
	words := l.right()
	for _, want := range []string{"the newest the cut (ratio 0.797, 1.31 × dense)", "W shows the welcome tour"} {
		if !strings.Contains(words, want) {
			t.Errorf("no %q:\n%s", want, l.screen())
		}
	}
}

// TestJobsAndCommands lists jobs with their times and what can be done to them, and finds actions by their titles before others.
func TestJobsAndCommands(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Open(t, b, "")
	explorertest.Do(t, ex, explorer.Measure{Subnet: explorer.DraftID})
	explorertest.Do(t, ex, explorer.Measure{Subnet: explorer.DraftID})
	l := newLoopOver(t, ex, b, 120, 40, nil)
	l.press("J")
	for _, j := range l.m.snap.Jobs {
		l.sees(j.Ended.Format("15:04:05") + " done")
	}
	l.sees("pause, resume or stop")
	l.press("esc", "?", ":")
	l.sees("commands")
	l.write("tour")
	l.sees("Show the welcome tour")
	if s := l.screen(); strings.Contains(s, "masks.") {
		t.Errorf("more than the tour:\n%s", s)
	}
	n := 0
	for _, row := range strings.Split(l.screen(), "\n") {
		if strings.Contains(row, "▸ Show") || strings.Contains(row, "on Masks") || strings.Contains(row, "on Library") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d rows for the tour:\n%s", n, l.screen())
	}
	l.press("ctrl+u")
	l.write("masks.shrink") // the name of an action in a key map
	l.sees("Keep one step less")
	l.press("esc", "?", "/")
	l.write("layer")
	l.press("enter")
	l.sees("n next  N previous")
}
