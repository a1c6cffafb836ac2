package tui

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// TestRandomKeys presses ten thousand random keys, with mouse events, pastes and resizes between them, and checks the
// size of every frame. From wherever that leads, esc and the keys of the screens must lead back.
func TestRandomKeys(t *testing.T) {
	t.Chdir(t.TempDir()) // forms may write files
	keys := []string{"up", "down", "left", "right", "enter", "esc", "tab", "shift+tab", "space", "backspace", "delete", "home", "end", "pgup", "pgdown",
		"shift+up", "shift+down", "shift+left", "shift+right", "ctrl+p", "ctrl+l", "ctrl+z", "ctrl+y", "ctrl+r", "ctrl+a", "ctrl+w", "ctrl+u", "ctrl+k", "alt+enter"}
	for c := '!'; c <= '~'; c++ {
		keys = append(keys, string(c))
	}
	for _, k := range []string{"1", "2", "3", "4", "5", "6", "enter", "down", "left", "right", "esc"} { // the most frequent keys
		for range 6 {
			keys = append(keys, k)
		}
	}
	sizes := [][2]int{{1, 1}, {0, 0}, {20, 5}, {39, 9}, {40, 10}, {60, 18}, {80, 24}, {120, 40}, {200, 60}, {500, 200}, {300, 12}, {42, 150}}
	const presses = 10_000
	for _, seed := range []uint64{1, 2} {
		rng := rand.New(rand.NewPCG(seed, 7))
		b := explorertest.New()
		l := newLoopOver(t, explorertest.Filled(t, b), b, 80, 24, func(o *Options) { o.Files = false; o.Tour = true })
		for i := range presses / 2 {
			switch n := rng.IntN(100); {
			case n < 88:
				l.press(keys[rng.IntN(len(keys))])
			case n < 95:
				l.send(randomMouse(rng, l.m.w, l.m.h))
			case n < 96:
				l.send(tea.PasteMsg{Content: "pasted \x1b[31mtext\x07\n\u202e and more"})
			case n < 98:
				s := sizes[rng.IntN(len(sizes))]
				l.send(tea.WindowSizeMsg{Width: s[0], Height: s[1]})
			default:
				select {
				case msg := <-l.msgs:
					l.send(msg)
				default:
				}
			}
			if i%250 == 249 {
				l.backToScreens(rng)
			}
		}
	}
}

func randomMouse(rng *rand.Rand, w, h int) tea.Msg {
	at := tea.Mouse{X: rng.IntN(w + 2), Y: rng.IntN(h + 2), Button: tea.MouseLeft}
	switch rng.IntN(5) {
	case 0:
		at.Button = tea.MouseWheelUp
		return tea.MouseWheelMsg(at)
	case 1:
		at.Button = tea.MouseWheelDown
		return tea.MouseWheelMsg(at)
	case 2:
		return tea.MouseMotionMsg(at)
	case 3:
		return tea.MouseReleaseMsg(at)
	}
	return tea.MouseClickMsg(at)
}

// backToScreens checks that no state is a trap: the function keys work from anywhere, and esc leads to a screen where the
// digits work.
func (l *loop) backToScreens(rng *rand.Rand) {
	l.t.Helper()
	l.send(tea.WindowSizeMsg{Width: 100, Height: 30})
	i := rng.IntN(len(l.m.screens))
	where := l.screen()
	l.press("f" + strconv.Itoa(i+1))
	if l.m.at != i || len(l.m.overlays) != 0 {
		l.t.Fatalf("f%d did not lead to %s from\n%s", i+1, l.m.screens[i].Name(), where)
	}
	for range 12 {
		l.press("esc")
	}
	if l.m.typing() || len(l.m.overlays) != 0 {
		l.t.Fatalf("twelve times esc did not lead out of\n%s", where)
	}
	i = (i + 1) % len(l.m.screens)
	l.press(strconv.Itoa(i + 1))
	if l.m.at != i {
		l.t.Fatalf("%d did not lead to %s after esc from\n%s", i+1, l.m.screens[i].Name(), where)
	}
	l.quit = false
}

// TestEveryActionEverywhere runs every action by name on every screen, with and without anything to act on.
func TestEveryActionEverywhere(t *testing.T) {
	t.Chdir(t.TempDir())
	b := explorertest.New()
	empty := explorertest.Open(t, b, "")
	full := explorertest.New()
	for _, l := range []*loop{newLoopOver(t, empty, b, 100, 30, nil), newLoopOver(t, explorertest.Filled(t, full), full, 100, 30, nil)} {
		for i := range l.m.screens {
			for _, a := range l.m.actions {
				l.m.overlays = nil
				l.m.at = i
				l.run(l.m.invoke(a))
				l.check()
				if n := len(l.m.overlays); n > 0 { // submit what it asks, as it is
					l.press("enter")
				}
				l.m.notes = nil
			}
		}
		l.until("commands to settle", func() bool { return len(l.msgs) == 0 })
	}
}

// TestViewersChangeNothing runs every action that changes something as a viewer. Which screen a viewer looks at may change
// with it: others see that.
func TestViewersChangeNothing(t *testing.T) {
	l := newLoop(t, 100, 30, func(o *Options) { o.Actor = explorer.Actor{Name: "guest", Role: explorer.RoleViewer} })
	settled := func() explorer.Sections {
		s := explorertest.Quiet(t, l.ex).Sections
		s[explorer.SectionPresence] = 0
		return s
	}
	before := settled()
	for _, a := range l.m.actions {
		if !a.Changes {
			continue
		}
		if why := l.m.blocked(a); !strings.Contains(why, "viewers") {
			t.Errorf("%s is open to viewers", a.ID)
		}
		finish(l.m.invoke(a))
	}
	if after := settled(); after != before {
		t.Errorf("the exploration moved from %+v to %+v", before, after)
	}
}

// finish runs a command and what it consists of, here and now.
func finish(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	if batch, ok := cmd().(tea.BatchMsg); ok {
		for _, c := range batch {
			finish(c)
		}
	}
}
