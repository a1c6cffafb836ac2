package tui

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/charmbracelet/x/exp/golden"

	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// rowAt is the row of the screen with the mark of the cursor in a table.
func (l *loop) rowAt() string {
	for _, row := range strings.Split(l.screen(), "\n") {
		if strings.Contains(row, "▸ ") {
			return row[strings.Index(row, "▸ "):]
		}
	}
	return ""
}

// TestFindInTables narrows tables by keys and goes through what is found.
func TestFindInTables(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("esc", "6", "/")
	l.write("l14")
	if got := l.screen(); strings.Contains(got, "evening search  ") || !strings.Contains(got, "without L14 attention") || !strings.Contains(got, "2 of 5 rows") {
		t.Errorf("the library is not narrowed:\n%s", got)
	}
	t.Run("library", func(t *testing.T) { golden.RequireEqual(t, l.screen()+"\n") })
	l.press("enter")
	first := l.selected().ID
	l.press("n")
	second := l.selected().ID
	l.press("N")
	if first == second || l.selected().ID != first {
		t.Errorf("n and N go from %s to %s to %s", first, second, l.selected().ID)
	}
	l.press("esc")
	if !strings.Contains(l.screen(), "evening search") {
		t.Errorf("esc does not show all rows:\n%s", l.screen())
	}
	l.press("/")
	l.write("nothing of this kind")
	if !strings.Contains(l.screen(), "nothing matches") {
		t.Errorf("no row is found, and the screen does not show it:\n%s", l.screen())
	}
	l.press("esc")
	if strings.Contains(l.screen(), "nothing matches") {
		t.Error("esc in the bar does not restore the table")
	}

	l.press("5", "/")
	l.write("dense tg")
	l.press("enter")
	if got := l.screen(); strings.Contains(got, "pp512") || !strings.Contains(got, "tg128@d2048") {
		t.Errorf("the benchmark is not narrowed:\n%s", got)
	}
	l.press("G")
	if !strings.Contains(l.rowAt(), "tg128@d2048") {
		t.Errorf("G leads to %q", l.rowAt())
	}
	l.press("g", "esc")

	l.press("1", "/")
	l.write("tier 3/3")
	l.press("enter", "g")
	if !strings.Contains(l.rowAt(), "3/3") || strings.Contains(l.screen(), "1/3") {
		t.Errorf("the population is not narrowed:\n%s", l.screen())
	}
	at := l.rowAt()
	l.press("ctrl+d")
	if l.rowAt() == at {
		t.Error("ctrl+d does not move")
	}
	l.press("ctrl+u", "esc")

	l.press("2", "/")
	l.write("no attention")
	l.press("enter")
	if !strings.Contains(l.rowAt(), "▸ 14") {
		t.Errorf("the layer without attention is not found: %q", l.rowAt())
	}
	l.press("esc", "G")
	if !strings.Contains(l.rowAt(), "▸ 29") {
		t.Errorf("G leads to %q", l.rowAt())
	}
	l.press("3", "g", "/")
	l.write("layer 17")
	l.press("enter")
	if !strings.Contains(l.rowAt(), "▸ 17") && !strings.Contains(l.rowAt(), "▸17") {
		t.Errorf("layer 17 of the re-fit is not found: %q", l.rowAt())
	}
	l.press("4", "/")
	if !strings.Contains(l.screen(), "this screen has no table") {
		t.Errorf("finding on Chat has no reason:\n%s", l.screen())
	}
}

// TestFindInHelp searches in a text by keys.
func TestFindInHelp(t *testing.T) {
	l := newLoop(t, 80, 24, nil)
	l.press("esc", "?", "/")
	l.write("benchmark")
	if got := l.screen(); !strings.Contains(got, "/benchmark") || !strings.Contains(got, "▸") {
		t.Errorf("nothing is found in the help:\n%s", got)
	}
	l.press("enter")
	first := l.screen()
	l.press("n")
	if l.screen() == first {
		t.Error("n does not go on in the help")
	}
	l.press("N")
	if l.screen() != first {
		t.Errorf("N does not go back:\n%s\n%s", first, l.screen())
	}
	l.press("esc")
	if !strings.Contains(l.screen(), "keys") || strings.Contains(l.screen(), "/benchmark") {
		t.Errorf("esc ends more than the search:\n%s", l.screen())
	}
	l.press("G")
	end := l.screen()
	l.press("g")
	if l.screen() == end {
		t.Error("g and G lead to the same")
	}
	l.press("esc")
	if len(l.m.overlays) != 0 {
		t.Error("a second esc does not close the help")
	}
}

// places are the models of a test.
type places struct {
	asked []Opening
	fails error
}

func (p *places) Check(_ context.Context, o Opening) error {
	p.asked = append(p.asked, o)
	return p.fails
}

func (p *places) Models(context.Context) []string { return []string{"/models/other.gguf"} }

// styles are those that were kept, by commands that run beside the test.
type styles struct {
	mu   sync.Mutex
	list []Style
}

func (k *styles) keep(s Style) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = append(k.list, s)
	return nil
}

func (k *styles) kept() []Style {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.list)
}

// TestPaletteFindsPlaces goes to a subnet, a chat, a layer, a theme and a model by their names.
func TestPaletteFindsPlaces(t *testing.T) {
	p := &places{}
	var kept styles
	l := newLoop(t, 100, 30, func(o *Options) {
		o.Opener = p
		o.KeepStyle = kept.keep
	})
	find := func(words string) {
		t.Helper()
		l.press(":")
		l.until("the list of models", func() bool { return len(l.m.models) == 1 })
		l.write(words)
		l.press("enter")
	}
	l.press("esc")
	find("subnet evening")
	if !l.on("library") || l.selected().Name != "evening search" {
		t.Errorf("the subnet leads to %s of %s", l.selected().Name, l.m.active().Name())
	}
	find("chat first words")
	if !l.on("chat") || !strings.Contains(l.screen(), "first words") {
		t.Errorf("the chat is not shown:\n%s", l.screen())
	}
	find("layer 17")
	if !l.on("masks") || !strings.Contains(l.rowAt(), "▸ 17") {
		t.Errorf("the layer leads to %q on %s", l.rowAt(), l.m.active().Name())
	}
	before := l.m.theme.Accent
	find("theme ocean")
	if l.m.theme.Look.Name != "ocean" || l.m.theme.Accent == before {
		t.Errorf("the theme is %q", l.m.theme.Look.Name)
	}
	l.until("the theme to be kept", func() bool { return len(kept.kept()) == 1 })
	if got := kept.kept(); got[0].Theme != "ocean" {
		t.Errorf("kept %+v", got)
	}
	find("open other.gguf")
	l.until("the program to end", func() bool { return l.quit })
	if l.m.next == nil || l.m.next.Model != "/models/other.gguf" || len(p.asked) != 1 {
		t.Errorf("opens %+v after asking for %v", l.m.next, p.asked)
	}
}

// TestOpenByForm opens another model by its key, and is refused where the form's model cannot be opened, and on a server.
func TestOpenByForm(t *testing.T) {
	p := &places{fails: errors.New("it is no model")}
	l := newLoop(t, 100, 30, func(o *Options) { o.Opener = p })
	l.press("esc", "O")
	l.write("/models/other.gguf")
	l.press("enter")
	l.sees("it is no model")
	p.fails = nil
	l.press("tab")
	l.write("/tmp/ws")
	l.press("enter")
	l.until("the program to end", func() bool { return l.quit })
	if want := (Opening{Model: "/models/other.gguf", Workspace: "/tmp/ws"}); l.m.next == nil || *l.m.next != want {
		t.Errorf("opens %+v, want %+v", l.m.next, want)
	}
	hosted := newLoop(t, 100, 30, func(o *Options) { o.Hosted, o.Opener = true, p })
	hosted.press("esc", "O")
	hosted.sees("the server has one model")
}

// TestThemesByKeys chooses a theme, a background and ASCII from the list.
func TestThemesByKeys(t *testing.T) {
	var kept styles
	l := newLoop(t, 100, 30, func(o *Options) { o.KeepStyle = kept.keep })
	l.press("esc", "T")
	golden.RequireEqual(t, l.screen()+"\n")
	l.write("forest")
	l.press("enter")
	l.until("the theme to be kept", func() bool { return len(kept.kept()) == 1 })
	l.press("T")
	l.write("background: light")
	l.press("enter")
	l.until("the background to be kept", func() bool { return len(kept.kept()) == 2 })
	l.press("T")
	l.write("ascii")
	l.press("enter")
	l.until("the characters to be kept", func() bool { return len(kept.kept()) == 3 })
	if want := (Style{Theme: "forest", Background: ThemeLight, ASCII: true}); kept.kept()[2] != want {
		t.Errorf("kept %+v, want %+v", kept.kept()[2], want)
	}
	if look := l.m.theme.Look; look.Name != "forest" || !look.Light || !look.ASCII {
		t.Errorf("the look is %+v", look)
	}
	broken := newLoop(t, 100, 30, func(o *Options) { o.KeepStyle = func(Style) error { return errors.New("no room") } })
	broken.press("esc", "T")
	broken.write("rose")
	broken.press("enter")
	broken.sees("the theme was not kept: no room")
}

// TestFirstKeyReplacesWhatAFormHas types into a field that has a value.
func TestFirstKeyReplacesWhatAFormHas(t *testing.T) {
	l := newLoop(t, 100, 30, nil)
	l.press("esc", "o")
	l.write("0.7")
	if got := l.screen(); strings.Contains(got, "0.800.7") || !strings.Contains(got, "0.7") {
		t.Errorf("the first key does not replace the value:\n%s", got)
	}
	l.press("esc", "o", "end")
	l.write("5")
	l.sees("0.805")
}

// TestTourNamesKeysThatWork presses the key that starts a search while the tour is shown.
func TestTourNamesKeysThatWork(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 100, 30, func(o *Options) { o.Tour = true })
	l.press("space")
	l.sees("minutes") // the form of a search
}
