package tui

import (
	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/layout"
)

// screenID numbers the screens in the order of their keys.
type screenID int

const (
	searchID screenID = iota
	masksID
	reformID
	chatID
	benchID
	libraryID
	screenCount
)

func (id screenID) title() string {
	return [...]string{"Search", "Masks", "Reform", "Chat", "Bench", "Library"}[id]
}

func (id screenID) name() string { return string(id.scope()) }

func (id screenID) scope() scope {
	return [...]scope{onSearch, onMasks, onReform, onChat, onBench, onLibrary}[id]
}

// screenNamed finds a screen by its name; the first one where there is none.
func screenNamed(name string) screenID {
	for id := range screenCount {
		if id.name() == name {
			return id
		}
	}
	return searchID
}

// A screen is one of the six. Its methods run on the event loop and never wait.
type screen interface {
	// panes lays the screen out in an area. Panes lie inside the area and do not overlap.
	panes(m *Model, area layout.Rect) []pane
	// follow adjusts cursors and the like to a new snapshot.
	follow(m *Model)
	// status is the right end of the footer: a few live numbers, or "".
	status(m *Model) string
	// mouse takes a mouse event inside one of the panes.
	mouse(m *Model, p pane, e mouseEvent) tea.Cmd
	// back does what esc means on the screen and reports whether it meant anything.
	back(m *Model) (bool, tea.Cmd)
}

// A typist is a screen with a text field of its own.
type typist interface {
	// typing reports whether the field has the keys.
	typing() bool
	// typed takes a key that no action claimed.
	typed(m *Model, k tea.KeyPressMsg) tea.Cmd
	// pasted takes pasted text.
	pasted(m *Model, s string) tea.Cmd
	// cursor is where the cursor is, on the screen; ok is false where it is not shown.
	cursor(m *Model, area layout.Rect) (x, y int, ok bool)
}

// A mouseEvent is a mouse message in the coordinates of the pane it happened in.
type mouseEvent struct {
	kind   mouseKind
	x, y   int
	button tea.MouseButton
	delta  int // of a wheel: -1 up, 1 down
	shift  bool
}

type mouseKind int

const (
	mouseClick mouseKind = iota
	mouseDrag
	mouseRelease
	mouseWheel
)

func newScreens() [screenCount]screen {
	return [screenCount]screen{newSearchScreen(), newMasksScreen(), newReformScreen(), newChatScreen(), newBenchScreen(), newLibraryScreen()}
}

func (m *Model) search() *searchScreen   { return m.screens[searchID].(*searchScreen) }
func (m *Model) masks() *masksScreen     { return m.screens[masksID].(*masksScreen) }
func (m *Model) reform() *reformScreen   { return m.screens[reformID].(*reformScreen) }
func (m *Model) chat() *chatScreen       { return m.screens[chatID].(*chatScreen) }
func (m *Model) bench() *benchScreen     { return m.screens[benchID].(*benchScreen) }
func (m *Model) library() *libraryScreen { return m.screens[libraryID].(*libraryScreen) }

// show goes to a screen.
func (m *Model) show(id screenID) tea.Cmd {
	m.overlays = nil
	if m.active == id {
		return nil
	}
	m.active = id
	return m.do(explorer.Attach{Where: id.name()}, nil)
}

// typing reports whether a text field has the keys.
func (m *Model) typing() bool {
	if n := len(m.overlays); n > 0 {
		return m.overlays[n-1].typing()
	}
	t, ok := m.screens[m.active].(typist)
	return ok && t.typing()
}
