package tui

import (
	"slices"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/screens/bench"
	"github.com/lathe-llm/lathe/tui/internal/screens/chat"
	"github.com/lathe-llm/lathe/tui/internal/screens/library"
	"github.com/lathe-llm/lathe/tui/internal/screens/masks"
	"github.com/lathe-llm/lathe/tui/internal/screens/reform"
	"github.com/lathe-llm/lathe/tui/internal/screens/search"
)

// newScreens returns the screens in the order of their keys.
func newScreens(h screen.Host) []screen.Screen {
	return []screen.Screen{search.New(h), masks.New(h), reform.New(h), chat.New(h), bench.New(h), library.New(h)}
}

// ScreenNames returns the names of the screens in the order of their keys, for [Options].Screen.
func ScreenNames() []string {
	return []string{"search", "masks", "reform", "chat", "bench", "library"}
}

// table returns the table of actions: those of the frame, then those of the screens. The order within a scope is that of
// the footer and of the help.
func (m *Model) table() []*action.Action {
	out := m.globalActions()
	for _, s := range m.screens {
		for _, a := range s.Actions() {
			a.Scope = s.Name()
			out = append(out, a)
		}
	}
	return out
}

// active is the screen that is shown.
func (m *Model) active() screen.Screen { return m.screens[m.at] }

// screenNamed returns the index of a screen by its name; that of the first one where there is none.
func (m *Model) screenNamed(name string) int {
	return max(0, slices.IndexFunc(m.screens, func(s screen.Screen) bool { return s.Name() == name }))
}

// show goes to a screen and closes all overlays.
func (m *Model) show(i int) tea.Cmd {
	m.overlays = nil
	if m.at == i {
		return nil
	}
	m.at = i
	return m.try(explorer.Attach{Where: m.active().Name()}, nil, nil)
}

// open puts an overlay on top.
func (m *Model) open(o screen.Overlay) {
	const deepest = 8
	if len(m.overlays) < deepest {
		m.overlays = append(m.overlays, o)
	}
}

// close removes an overlay and everything above it.
func (m *Model) close(o screen.Overlay) {
	if i := slices.Index(m.overlays, o); i >= 0 {
		m.overlays = m.overlays[:i]
	}
}

// input is the text field of the active screen; nil where it has none.
func (m *Model) input() screen.TextInput {
	t, _ := m.active().(screen.TextInput)
	return t
}

// typing reports whether a text field has the keys.
func (m *Model) typing() bool {
	if n := len(m.overlays); n > 0 {
		return m.overlays[n-1].Typing()
	}
	t := m.input()
	return t != nil && t.Typing()
}
