package tui

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/exp/golden"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/tui/internal/layout"
)

// sizes are the floor, the smallest complete terminal, a roomy one and a large one.
func goldenSizes() [][2]int { return [][2]int{{60, 18}, {80, 24}, {120, 40}, {200, 60}} }

// TestScreens compares every screen, as text, with its golden file.
func TestScreens(t *testing.T) {
	l := newLoop(t, 80, 24, nil)
	l.press("esc") // read the messages
	for i, sc := range l.m.screens {
		for _, s := range goldenSizes() {
			t.Run(fmt.Sprintf("%s-%dx%d", sc.Name(), s[0], s[1]), func(t *testing.T) {
				l.send(tea.WindowSizeMsg{Width: s[0], Height: s[1]})
				l.press("f" + strconv.Itoa(i+1))
				golden.RequireEqual(t, l.screen()+"\n")
			})
		}
	}
}

// TestStyledScreens compares every screen with its colours at one size.
func TestStyledScreens(t *testing.T) {
	l := newLoop(t, 80, 24, func(o *Options) { o.Color = Color256 })
	l.press("esc")
	for i, sc := range l.m.screens {
		t.Run(sc.Name(), func(t *testing.T) {
			l.press("f" + strconv.Itoa(i+1))
			golden.RequireEqual(t, l.m.View().Content+"\n")
		})
	}
}

// TestParts compares overlays and other states that keys lead to.
func TestParts(t *testing.T) {
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	for _, c := range []struct {
		name string
		w, h int
		keys []string
		opts func(*Options)
	}{
		{"help", 80, 24, []string{"?"}, nil},
		{"palette", 80, 24, []string{":"}, nil},
		{"palette-narrowed", 80, 24, []string{":", "e", "x", "p", "o"}, nil},
		{"search-form", 80, 24, []string{"s", "down"}, nil},
		{"search-candidate", 80, 24, []string{"down", "down", "down", "enter"}, nil},
		{"search-front", 120, 40, []string{"f", "left", "left", "l"}, nil},
		{"search-tabs-best", 60, 18, []string{"tab", "tab", "tab", "tab"}, nil},
		{"masks-layer", 80, 24, []string{"2", "down", "down", "enter", "down"}, nil},
		{"masks-units", 120, 40, []string{"2", "down", "enter", "enter", "shift+right", "shift+down"}, nil},
		{"masks-heads", 80, 24, []string{"2", "end", "tab", "enter", "enter"}, nil},
		{"masks-marked", 80, 24, []string{"2", "space", "space", "down", "v", "down", "down"}, nil},
		{"masks-diff", 120, 40, []string{"2", "d", "enter"}, nil},
		{"masks-steps", 80, 24, []string{"2", "H"}, nil},
		{"chat-alone", 80, 24, []string{"4", "a"}, nil},
		{"chat-writing", 80, 24, []string{"4", "enter", "h", "i", "alt+enter", "y", "o", "u"}, nil},
		{"chat-sampling", 80, 24, []string{"4", "t"}, nil},
		{"library-compare", 120, 40, []string{"6", "down", "space", "space", "="}, nil},
		{"library-stacks", 120, 40, []string{"6", "end", "space", "up", "="}, nil},
		{"library-stacks-small", 80, 24, []string{"6", "end", "space", "up", "="}, nil},
		{"chat-differences", 120, 40, []string{"4", "tab", "d"}, nil},
		{"chat-differences-small", 80, 24, []string{"4", "tab", "d"}, nil},
		{"chat-markdown", 120, 40, []string{"4", "h"}, nil},
		{"search-zoom", 120, 40, []string{"+"}, nil},
		{"search-events", 80, 24, []string{"tab", "tab"}, nil},
		{"themes-no-colour", 80, 24, nil, func(o *Options) { o.Color = ColorNone }},
		{"library-export", 80, 24, []string{"6", "e"}, nil},
		{"library-details", 80, 24, []string{"6", "end", "enter"}, nil},
		{"model", 80, 24, []string{"I"}, nil},
		{"tour", 80, 24, nil, func(o *Options) { o.Tour = true }},
		{"tour-small", 60, 18, nil, func(o *Options) { o.Tour = true }},
		{"ascii", 80, 24, nil, func(o *Options) { o.ASCII = true }},
		{"ascii-masks", 80, 24, []string{"2"}, func(o *Options) { o.ASCII = true }},
		{"messages", 80, 24, []string{"N"}, nil},
		{"too-small", layout.FloorW - 1, layout.FloorH, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Nothing here changes the exploration but the screen that the viewer before was seen on.
			if _, err := ex.Do(t.Context(), explorertest.Owner, explorer.Attach{Where: "library"}); err != nil {
				t.Fatal(err)
			}
			l := newLoopOver(t, ex, b, c.w, c.h, c.opts)
			if c.opts == nil {
				l.press("esc")
			}
			l.press(c.keys...)
			golden.RequireEqual(t, l.screen()+"\n")
		})
	}
}

// TestEmpty compares the screens of an empty workspace.
func TestEmpty(t *testing.T) {
	b := explorertest.New()
	l := newLoopOver(t, explorertest.Open(t, b, ""), b, 80, 24, nil)
	for i, sc := range l.m.screens {
		t.Run(sc.Name(), func(t *testing.T) {
			l.press("f" + strconv.Itoa(i+1))
			golden.RequireEqual(t, l.screen()+"\n")
		})
	}
}

// TestNothingForeignReachesTheTerminal puts control characters into all texts of users and looks for them on every
// screen.
func TestNothingForeignReachesTheTerminal(t *testing.T) {
	const evil = "\x1b]0;owned\x07\x1b[2Jname\u202e\r\n\x9b31m"
	b := explorertest.New()
	ex := explorertest.Filled(t, b)
	first := ex.Snapshot().Subnets[0].ID
	for _, c := range []explorer.Command{
		explorer.RenameSubnet{Subnet: first, Name: evil}, explorer.AnnotateSubnet{Subnet: first, Note: evil},
		explorer.Say{Chat: ex.Snapshot().Chats[0].ID, Text: evil},
	} {
		if _, err := ex.Do(t.Context(), explorertest.Owner, c); err != nil {
			t.Logf("%T is refused: %v", c, err)
		}
	}
	explorertest.Quiet(t, ex)
	l := newLoopOver(t, ex, b, 120, 40, nil)
	for i, sc := range l.m.screens {
		l.press("f" + strconv.Itoa(i+1))
		for _, bad := range []string{"\x1b]", "\x07", "\x1b[2J", "\u202e", "\u009b", "\r"} {
			if strings.Contains(l.m.View().Content, bad) {
				t.Errorf("%s shows %q", sc.Name(), bad)
			}
		}
		if !utf8.ValidString(l.m.View().Content) {
			t.Errorf("%s shows what is no text", sc.Name())
		}
		if title := l.m.View().WindowTitle; strings.ContainsAny(title, "\x1b\x07") {
			t.Errorf("the window title is %q", title)
		}
	}
}
