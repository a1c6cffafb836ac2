package tui

import (
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
)

// A scope says where an action's keys work.
type scope string

const (
	everywhere scope = "everywhere"
	onSearch   scope = "search"
	onMasks    scope = "masks"
	onReform   scope = "reform"
	onChat     scope = "chat"
	onBench    scope = "bench"
	onLibrary  scope = "library"
)

// scopes lists all scopes in the order of the help.
func scopes() []scope {
	return []scope{everywhere, onSearch, onMasks, onReform, onChat, onBench, onLibrary}
}

// An action is something a user can do. The table of all actions is the only place that knows keys.
type action struct {
	id    string   // "search.pause": what a key map and the palette call it
	scope scope    // where its keys work; the palette reaches it from anywhere
	keys  []string // default keys, the first is the one that is shown
	title string   // for help, palette and docs: "Pause or resume the search"
	short string   // for the footer: "pause"; "" keeps it out of the footer
	twin  string   // the action that goes the other way, whose key the footer shows beside its own; "" if none
	help  string   // a sentence or two for help and docs; may be ""

	// label is the footer's word for it right now; nil: short.
	label func(*Model) string
	// when returns "" if the action can run now, and otherwise why it cannot, in words for the user. nil: always.
	when func(*Model) string
	// changes marks actions that alter the exploration: viewers and read-only workspaces do not have them.
	changes bool
	// engine marks actions that run the model: there are models that no engine runs.
	engine bool
	run    func(*Model) tea.Cmd
}

// blocked returns why an action cannot run now, or "".
func (m *Model) blocked(a *action) string {
	if a.changes {
		if m.actor.Role < explorer.RoleEditor {
			return "you are here as a viewer"
		}
		if w := m.snap.Workspace; w.ReadOnly {
			return "the workspace is read-only: " + w.Holder
		}
	}
	if why := m.snap.Model.NoRuntime; a.engine && why != "" {
		return why
	}
	if a.when != nil {
		return a.when(m)
	}
	return ""
}

// perform runs an action, or says why it cannot run.
func (m *Model) perform(a *action) tea.Cmd {
	if why := m.blocked(a); why != "" {
		m.say(levelInfo, m.briefly(a)+": "+why)
		return nil
	}
	return a.run(m)
}

// briefly is what an action is called in a message: as in the footer or, where it is not there, the first of what it does.
func (m *Model) briefly(a *action) string {
	switch {
	case a.label != nil:
		return a.label(m)
	case a.short != "":
		return a.short
	}
	first, _, _ := strings.Cut(a.title, ";")
	return lowerFirst(first)
}

// actionFor finds the action that a key means on the present screen.
func (m *Model) actionFor(key string) *action {
	here := m.active.scope()
	for _, sc := range []scope{here, everywhere} {
		if a := m.keys.lookup(sc, key); a != nil {
			return a
		}
	}
	return nil
}

// action finds an action by its id; the id is one of the table's.
func (m *Model) action(id string) *action {
	i := slices.IndexFunc(m.actions, func(a *action) bool { return a.id == id })
	if i < 0 {
		panic(fmt.Sprintf("tui: no action %q", id))
	}
	return m.actions[i]
}

// keyLabel is how a key is shown: "shift+tab" stays, "pgup" and arrows become what is on the keyboard.
func (m *Model) keyLabel(key string) string {
	g := &m.theme.Glyph
	switch key {
	case "up":
		return g.Up
	case "down":
		return g.Down
	case "left":
		return g.Left
	case "right":
		return g.Right
	case "enter":
		return g.Return
	}
	return key
}

// hintKey is how the keys of an action and of its twin are shown in hints; "" where it has none.
func (m *Model) hintKey(a *action) string {
	key := m.keyLabel(m.keys.first(a))
	if key != "" && a.twin != "" {
		key += m.keyLabel(m.keys.first(m.action(a.twin)))
	}
	return key
}

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' { // an abbreviation
		return s
	}
	return strings.ToLower(s[:min(1, len(s))]) + s[min(1, len(s)):]
}
