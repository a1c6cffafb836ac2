package tui

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/explorer/draft"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// settle waits until the masks on the screen are those of the exploration.
func (l *loop) settle() {
	l.t.Helper()
	l.until("edits to settle", func() bool {
		return l.m.draft.Idle() && l.m.snap.Draft.Version == l.ex.Snapshot().Draft.Version
	})
}

// on reports whether a screen is shown.
func (l *loop) on(screen string) bool { return l.m.active().Name() == screen }

// selected is the subnet that is selected on the screen.
func (l *loop) selected() explorer.Subnet {
	l.t.Helper()
	ids := (host{l.m}).Selection()
	n, ok := l.m.snap.Subnet(ids[0])
	if !ok || len(ids) != 1 {
		l.t.Fatalf("selected: %v", ids)
	}
	return n
}

func (l *loop) channels(layer int) int {
	return l.ex.Snapshot().Draft.Masks.Layer(layer).Channels.Len()
}

func TestMasksByKeys(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("2")
	before := l.channels(0)
	steps := len(l.ex.Snapshot().Draft.Steps)

	l.press("left", "left", "left") // three steps at once must all arrive
	l.settle()
	if got := l.channels(0); got != before-3*32 {
		t.Errorf("three steps left leave %d of %d channels", got, before)
	}
	for len(l.ex.Snapshot().Draft.Steps) > steps {
		l.press("z")
		l.settle()
	}
	if got := l.channels(0); got != before {
		t.Errorf("undo leaves %d channels, there were %d", got, before)
	}

	l.press("v", "down", "down", "x", "esc") // drop the mlp of three layers
	l.settle()
	for layer := range 3 {
		if n := l.channels(layer); n != 0 {
			t.Errorf("layer %d keeps %d channels", layer, n)
		}
	}
	l.press("home", "v", "down", "down", "u", "esc")
	l.settle()
	if n := l.channels(2); n != 1536 {
		t.Errorf("layer 2 keeps %d channels after restoring", n)
	}

	l.press("home", "n", "ctrl+u") // keep top n, by number and by share
	l.write("500")
	l.press("enter")
	l.settle()
	if n := l.channels(0); n != 500 {
		t.Errorf("keep top 500 keeps %d", n)
	}
	l.press("n", "ctrl+u")
	l.write("50 %")
	l.press("enter")
	l.settle()
	if n := l.channels(0); n != 768 {
		t.Errorf("keep top 50 %% keeps %d", n)
	}
	l.press("n", "ctrl+u")
	l.write("9999")
	l.press("enter")
	if !strings.Contains(l.screen(), "must be from 0 to 1536") {
		t.Errorf("a number too large is not refused:\n%s", l.screen())
	}
	l.press("esc")

	l.press("tab", "end", "left") // attention: one group less
	l.settle()
	last := l.ex.Snapshot().Draft.Masks.Layer(29)
	if got := last.Heads.Len(); got != 6 {
		t.Errorf("layer 29 keeps %d heads", got)
	}

	l.press("=", "ctrl+u") // like layer
	l.write("14")
	l.press("enter")
	l.settle()
	if !l.ex.Snapshot().Draft.Masks.Layer(29).Heads.IsEmpty() {
		t.Error("layer 29 is not like layer 14")
	}
}

func TestUnitsByKeysAndMouse(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("2", "home", "u", "enter", "enter")
	l.settle()
	scores := l.ex.Snapshot().Statistics.Importance[0].Channels
	first := slices.Index(scores, slices.Max(scores))
	l.press("space") // drop the most important channel
	l.settle()
	kept := l.ex.Snapshot().Draft.Masks.Layer(0).Channels
	if kept.Has(first) || kept.Len() != 1535 {
		t.Errorf("space leaves %d channels, the first still there: %v", kept.Len(), kept.Has(first))
	}
	l.press("shift+right", "shift+right", "x", "esc")
	l.settle()
	if n := l.channels(0); n != 1533 {
		t.Errorf("dropping a range of three leaves %d", n)
	}
	steps := len(l.ex.Snapshot().Draft.Steps)
	at := func(x int) tea.Mouse { return tea.Mouse{X: 1 + 7 + x, Y: 2 + 1 + 5, Button: tea.MouseLeft} } // sixth row
	l.send(tea.MouseClickMsg(at(3)))
	for x := 4; x < 10; x++ {
		l.send(tea.MouseMotionMsg(at(x)))
	}
	l.send(tea.MouseReleaseMsg(at(9)))
	l.settle()
	if n := l.channels(0); n != 1526 {
		t.Errorf("painting seven units leaves %d", n)
	}
	if n := len(l.ex.Snapshot().Draft.Steps); n != steps+1 {
		t.Errorf("one stroke is %d steps", n-steps)
	}
	l.press("i") // invert everything
	l.settle()
	if n := l.channels(0); n != 10 {
		t.Errorf("inverted: %d", n)
	}
}

func TestChannelsInsideHeads(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("2", "home", "enter", "end")
	for range 8 {
		l.press("down")
	}
	l.press("left") // two of the v/o channels of the last group
	l.settle()
	if got := l.ex.Snapshot().Draft.Masks.Layer(0).VOOf(2, 64).Len(); got != 62 {
		t.Errorf("v/o channels of group 2: %d", got)
	}
}

// TestTwoEditorsNeverLoseAnEdit lets another editor edit between a key and its command.
func TestTwoEditorsNeverLoseAnEdit(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("2", "home")
	other := explorer.Actor{Name: "grace", Role: explorer.RoleEditor}
	// The viewer has not seen this edit when the key is pressed.
	if _, err := l.ex.Do(t.Context(), other, explorer.Edit{Mutations: []draft.Mutation{draft.DropMLP{Layers: []int{20}}}}); err != nil {
		t.Fatal(err)
	}
	before := l.channels(0)
	l.press("left")
	l.sees("not done: the draft changed since it was read: by grace")
	if l.channels(0) != before || l.channels(20) != 0 {
		t.Error("an edit was lost")
	}
	l.press("left")
	l.settle()
	if l.channels(0) != before-32 {
		t.Error("the edit cannot be made again")
	}
}

func TestSearchFlow(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	n := len(l.ex.Snapshot().Subnets)
	l.press("esc", "down", "down", "a")
	l.until("the candidate in the library", func() bool { return len(l.ex.Snapshot().Subnets) > n })
	l.sees("is in the library")
	if got := len(l.ex.Snapshot().Subnets); got != n+1 {
		t.Errorf("%d subnets after adopting", got)
	}
	l.press("esc", "a") // once more: it is there already
	l.sees("is in the library")
	l.press("esc", "c")
	l.until("the chat", func() bool { return l.on("chat") && l.m.typing() })
	c := l.m.snap.Chats[0]
	if len(c.Columns) != 2 || c.Columns[0].Subnet != explorer.DenseID {
		t.Errorf("the chat has the columns %v", c.Columns)
	}
	if got := len(l.ex.Snapshot().Subnets); got != n+1 {
		t.Errorf("%d subnets after chatting with an adopted one", got)
	}
}

func TestChatFlow(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("4", "enter")
	l.write("1 2 3? :q") // keys of actions are text here
	l.press("enter")
	l.until("the reply", func() bool {
		c := l.m.snap.Chats[0]
		return len(c.Prompts) == 3 && !c.Busy
	})
	c := l.m.snap.Chats[0]
	if got := c.Prompts[2].Text; got != "1 2 3? :q" {
		t.Errorf("said %q", got)
	}
	l.press("esc", "e")
	l.sees("│ 1 2 3? :q ")
	l.press("ctrl+u")
	l.write("better")
	l.press("enter")
	l.until("the new reply", func() bool {
		c := l.m.snap.Chats[0]
		return len(c.Prompts) == 3 && c.Prompts[2].Text == "better" && !c.Busy
	})
	l.press("esc", "y")
	l.until("the copy", func() bool { return l.copy != "" })
	if !strings.Contains(l.screen(), "sent to the terminal") {
		t.Errorf("copying claims something else:\n%s", l.screen())
	}
	l.press("esc", "b")
	l.sees("blind")
	l.until("the letters", func() bool { return strings.Contains(l.screen(), "╭ A ") && strings.Contains(l.screen(), "╭ B ") })
	for _, secret := range []string{"first cut", "31.0 tok/s", "agreement"} {
		if strings.Contains(l.screen(), secret) {
			t.Errorf("a blind chat shows %q:\n%s", secret, l.screen())
		}
	}
	l.press(">")
	l.sees("1 vote")
	if strings.Contains(l.screen(), "votes: ") {
		t.Errorf("a blind chat shows whose votes there are:\n%s", l.screen())
	}
	c = l.m.snap.Chats[0]
	voted := c.Order(len(c.Prompts) - 1)[1]
	l.press("esc", "b")
	want := [2]string{"votes: dense 1, first cut 0", "votes: dense 0, first cut 1"}[voted]
	l.sees(want)
}

func TestLibraryFlow(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("6")
	first := l.selected()
	n := len(l.ex.Snapshot().Subnets)
	l.press("x")
	l.until("the deletion", func() bool { return len(l.m.snap.Subnets) == n-1 })
	l.press("z")
	l.until("the restoration", func() bool { return len(l.m.snap.Subnets) == n })
	l.press("home", "R", "ctrl+u")
	l.write("another name")
	l.press("enter")
	l.until("the new name", func() bool { s, _ := l.m.snap.Subnet(first.ID); return s.Name == "another name" })
	l.press("R", "ctrl+u", "enter")
	if !strings.Contains(l.screen(), "must not be empty") {
		t.Errorf("an empty name is taken:\n%s", l.screen())
	}
	l.press("esc", "f", "ctrl+u")
	l.write("1")
	l.press("enter")
	l.sees("nothing found so far runs in")
}

func TestMessagesStayUntilRead(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("esc")
	l.m.note(explorer.Failure, "the disk is full")
	l.press("1", "down", "2", "3")
	if !strings.Contains(l.screen(), "the disk is full") {
		t.Error("a message went away unread")
	}
	l.press("esc")
	if strings.Contains(l.screen(), "the disk is full") {
		t.Error("a message stays after it was read")
	}
	l.press("M")
	if l.m.View().MouseMode != tea.MouseModeNone || !strings.Contains(l.screen(), "mouse released to the terminal") {
		t.Error("M does not release the mouse")
	}
}

func TestMouseReachesEverything(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("esc")
	click := func(s string) {
		t.Helper()
		for y, row := range strings.Split(l.screen(), "\n") {
			if i := strings.Index(row, s); i >= 0 {
				at := tea.Mouse{X: utf8.RuneCountInString(row[:i]), Y: y, Button: tea.MouseLeft}
				l.send(tea.MouseClickMsg(at))
				l.send(tea.MouseReleaseMsg(at))
				return
			}
		}
		t.Fatalf("%q is not on the screen:\n%s", s, l.screen())
	}
	click("6 Library")
	if !l.on("library") {
		t.Error("a click on a tab goes nowhere")
	}
	click("first cut")
	if n := l.selected(); n.Name != "first cut" {
		t.Errorf("a click on a row selects %s", n.Name)
	}
	click("? keys")
	if len(l.m.overlays) != 1 {
		t.Error("a click on the footer does nothing")
	}
	l.send(tea.MouseClickMsg{X: 0, Y: 3, Button: tea.MouseLeft})
	if len(l.m.overlays) != 0 {
		t.Error("a click beside an overlay does not close it")
	}
	click("2 Masks")
	before := l.ex.Snapshot().Draft.Masks.Layer(5).Heads
	click("  5  ▣")
	for y, row := range strings.Split(l.screen(), "\n") {
		if strings.Contains(row, "  5  ▣") {
			l.send(tea.MouseClickMsg{X: 1 + 6 + 8, Y: y, Button: tea.MouseLeft}) // first head of the last group
		}
	}
	l.settle()
	if after := l.ex.Snapshot().Draft.Masks.Layer(5).Heads; before.Minus(after).Len() != 1 || !before.Minus(after).Equal(subnet.Of(9, 6)) {
		t.Errorf("a click on a head leaves %v of %v", after, before)
	}
}

func TestFirstSteps(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 100, 30, func(o *Options) { o.Tour = true })
	if got := strings.Count(l.screen(), "\n│") + strings.Count(l.screen(), "welcome"); got == 0 {
		t.Error("no tour")
	}
	l.press("esc", "o") // cut at once
	l.press("enter")
	l.until("the cut", func() bool { return l.on("reform") && l.m.snap.Reform.Result != "" })
	l.sees("takes it back")
	l.press("c")
	l.until("the chat", func() bool { return l.on("chat") && l.m.typing() })
	l.write("hello")
	l.press("enter")
	l.sees("agreement")
}

// TestSearchIsTakenUpAgain ends a search, opens its workspace again and gives it more time.
func TestSearchIsTakenUpAgain(t *testing.T) {
	b, folder := explorertest.New(), t.TempDir()
	ex := explorertest.Open(t, b, folder)
	asked := explorer.StartSearch{Target: search.Ratio(0.7), Seed: 5, Strategy: "random", Calibration: explorer.Calibration{Windows: 6}, Budget: explorer.Budget{Evaluations: 40}}
	explorertest.Do(t, ex, asked)
	spent := ex.Snapshot().Ended.Elapsed.Seconds()
	if err := ex.Close(); err != nil {
		t.Fatal(err)
	}

	b = explorertest.New()
	hold := make(chan struct{})
	b.Pace = func(ctx context.Context, unit string) error {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	l := newLoopOver(t, explorertest.Open(t, b, folder), b, 100, 30, nil)
	l.sees("best at 0.70") // what it found is shown
	l.press("space")
	l.sees("resume the last  [yes]")
	l.sees("at 0.70, ended")
	if strings.Contains(l.screen(), "strategy") {
		t.Errorf("settings that stay are asked for:\n%s", l.screen())
	}
	l.press("right")
	l.sees("random") // the settings of the last are what one begins from
	l.press("left", "tab", "ctrl+u")
	l.write("10")
	l.press("enter")
	l.until("the search to begin", func() bool { return l.m.snap.Unfinished != nil })
	want := asked
	want.Resume, want.Budget = true, explorer.Budget{Seconds: spent + 600}
	want.Calibration.Draw, want.Calibration.DefaultTexts = explorer.DrawWhole, 2
	if got := l.m.snap.Unfinished.Search; !reflect.DeepEqual(got, want) {
		t.Errorf("asked for %+v, want %+v", got, want)
	}
	l.press("s")
	if strings.Contains(l.screen(), "resume the last") {
		t.Error("a search that runs can be taken up")
	}
	close(hold)
}

// TestStoppingWhatHasEnded presses esc after the reply ended and before the viewer knows.
func TestStoppingWhatHasEnded(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	hold := make(chan struct{})
	b.Pace = func(ctx context.Context, unit string) error {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	l := newLoopOver(t, ex, b, 100, 30, nil)
	l.press("esc", "4", "enter")
	l.write("hello")
	l.press("enter")
	l.until("the reply to begin", func() bool { return l.m.snap.Chats[0].Busy })
	close(hold)
	explorertest.Quiet(t, ex)
	if !l.m.snap.Chats[0].Busy {
		t.Fatal("the viewer knows already")
	}
	l.press("esc")
	done := l.done
	l.until("the outcome of the command", func() bool { return l.done > done })
	if notes := l.m.unread(); len(notes) != 0 {
		t.Errorf("stopping a reply that has ended leads to %v", notes)
	}
}

// TestMixInAForm gathers statistics on a mix that is typed.
func TestMixInAForm(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("S")
	l.sees("wiki:0.3, web:0.3, code:0.2, chat:0.2")
	l.write("wiki:0.5, chat:0.6")
	l.press("enter")
	l.sees("add up to 1.1")
	l.press("ctrl+u")
	l.write("wiki:0.5, notes=a/notes.txt")
	l.press("enter")
	l.until("statistics of the mix", func() bool { return l.m.snap.Statistics.Text.Path == "wiki:0.5, notes=a/notes.txt" })
}
