// Package action defines the table of everything that a user can do: the only code that knows keys. Dispatch, the footer,
// the help, the palette, a user's key map and docs/keys.md are all read from it.
package action

import (
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// Everywhere is the scope of actions whose keys work on all screens.
const Everywhere = "everywhere"

// An Action is something that a user can do.
type Action struct {
	ID    string   // "search.toggle": its name in key maps and in the palette
	Scope string   // where its keys work: the name of a screen, or Everywhere; the palette reaches it from anywhere
	Keys  []string // default keys; the first one is shown
	Title string   // for help, palette and docs: "Start, pause or resume the search"
	Short string   // for the footer: "pause"; "" keeps it out of the footer
	Twin  string   // the ID of the opposite action, whose key is shown beside its own; "" if none
	Help  string   // a sentence or two for the docs; may be ""

	// Label returns the footer's word for it right now; nil: Short.
	Label func() string
	// When returns "" if the action can run now, and otherwise the reason it cannot, for the user. nil: always.
	When func() string
	// Changes marks actions that alter the exploration: viewers and read-only workspaces do not have them.
	Changes bool
	// Engine marks actions that run the model, which needs an engine that supports it.
	Engine bool
	// Remedies is the error that this action removes the cause of; messages of that error name its key.
	Remedies error
	Run      func() tea.Cmd
}

// Word returns the footer's word for the action; "" where it is not in the footer.
func (a *Action) Word() string {
	if a.Label != nil {
		return a.Label()
	}
	return a.Short
}

// Name returns what the action is called in a message: its word in the footer, or the first part of its title.
func (a *Action) Name() string {
	if word := a.Word(); word != "" {
		return word
	}
	first, _, _ := strings.Cut(a.Title, ";")
	return LowerFirst(first)
}

// Scopes returns the scopes of a table in the order of their first actions.
func Scopes(table []*Action) []string {
	var out []string
	seen := map[string]bool{}
	for _, a := range table {
		if !seen[a.Scope] {
			seen[a.Scope] = true
			out = append(out, a.Scope)
		}
	}
	return out
}

// KeyLabel returns how a key is shown: arrows and enter as signs, others by their names.
func KeyLabel(t *theme.Theme, key string) string {
	switch key {
	case "up":
		return t.Glyph.Up
	case "down":
		return t.Glyph.Down
	case "left":
		return t.Glyph.Left
	case "right":
		return t.Glyph.Right
	case "enter":
		return t.Glyph.Return
	}
	return key
}

// LowerFirst returns s with a small first letter, unless it begins with an abbreviation.
func LowerFirst(s string) string {
	if len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:min(1, len(s))]) + s[min(1, len(s)):]
}
