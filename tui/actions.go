package tui

import (
	"slices"
	"strconv"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// allActions is the table of actions. The order within a scope is that of the footer and of the help.
func allActions() []*action {
	return slices.Concat(globalActions(), searchActions(), masksActions(), reformActions(), chatActions(), benchActions(), libraryActions())
}

func globalActions() []*action {
	var out []*action
	for id := range screenCount {
		n := strconv.Itoa(int(id) + 1)
		out = append(out, &action{id: "screen." + id.name(), scope: everywhere, keys: []string{n, "f" + n, "alt+" + n},
			title: "Go to " + id.title(), run: func(m *Model) tea.Cmd { return m.show(id) }})
	}
	return append(out,
		&action{id: "help", scope: everywhere, keys: []string{"?"}, title: "Show all keys", short: "keys", run: (*Model).help},
		&action{id: "palette", scope: everywhere, keys: []string{":", "ctrl+p"}, title: "Find an action by name", short: "commands", run: (*Model).palette},
		&action{id: "undo", scope: everywhere, keys: []string{"z", "ctrl+z"}, title: "Undo", changes: true,
			help: "Takes back the last step on the masks; on Reform the last re-fitting, in Library the last deletion.", when: (*Model).cannotUndo, run: (*Model).undo},
		&action{id: "redo", scope: everywhere, keys: []string{"Z", "ctrl+y"}, title: "Redo", changes: true,
			when: (*Model).cannotRedo, run: (*Model).redo},
		&action{id: "jobs", scope: everywhere, keys: []string{"J"}, title: "Show jobs", help: "What runs, waits and has ended; pause, resume and stop each.", run: (*Model).showJobs},
		&action{id: "messages", scope: everywhere, keys: []string{"N"}, title: "Show messages", run: (*Model).showMessages},
		&action{id: "model", scope: everywhere, keys: []string{"I"}, title: "Show the model and the workspace", run: (*Model).showModel},
		&action{id: "mouse", scope: everywhere, keys: []string{"M"}, title: "Release or capture the mouse",
			help: "Released, the terminal selects text as usual.", run: func(m *Model) tea.Cmd {
				m.mouseOff = !m.mouseOff
				if m.mouseOff {
					m.say(levelInfo, "the mouse is the terminal's again; "+m.keys.first(m.action("mouse"))+" takes it back")
				} else {
					m.say(levelInfo, "the mouse works in lathe")
				}
				return nil
			}},
		&action{id: "look", scope: everywhere, keys: []string{"T"}, title: "Switch between dark, light and ASCII", run: func(m *Model) tea.Cmd {
			m.look(func(l *theme.Look) {
				switch {
				case l.ASCII:
					l.ASCII, l.Light = false, false
				case l.Light:
					l.ASCII, l.Light = true, false
				default:
					l.Light = true
				}
			})
			return nil
		}},
		&action{id: "tour", scope: everywhere, title: "Show the tour", run: func(m *Model) tea.Cmd { m.open(newTour()); return m.showUnder(searchID) }},
		&action{id: "redraw", scope: everywhere, keys: []string{"ctrl+l"}, title: "Redraw the screen", run: func(*Model) tea.Cmd { return tea.ClearScreen }},
		&action{id: "quit", scope: everywhere, keys: []string{"q", "ctrl+q"}, title: "Quit",
			help: "Everything is kept; a search goes on where it was when lathe is started again.", run: (*Model).quit},
	)
}

// showUnder goes to a screen and keeps the overlays.
func (m *Model) showUnder(id screenID) tea.Cmd {
	m.active = id
	return nil
}

func (m *Model) cannotUndo() string {
	switch m.active {
	case reformID:
		return m.reform().cannotUndo(m)
	case libraryID:
		if len(m.snap.Trash) == 0 {
			return "nothing was deleted"
		}
		return ""
	}
	if len(m.snap.Draft.Steps) == 0 {
		return "no step on the masks to take back"
	}
	return ""
}

func (m *Model) undo() tea.Cmd {
	switch m.active {
	case reformID:
		return m.reform().undo(m)
	case libraryID:
		gone := m.snap.Trash[0]
		return m.do(explorer.RestoreSubnet{Subnet: gone.ID}, func(m *Model, _ explorer.Receipt) tea.Cmd {
			m.say(levelInfo, "restored "+gone.Name)
			return nil
		})
	}
	return m.masks().queue(m, explorer.Undo{})
}

func (m *Model) cannotRedo() string {
	if len(m.snap.Draft.Undone) == 0 {
		return "no step on the masks to do again"
	}
	return ""
}

func (m *Model) redo() tea.Cmd { return m.masks().queue(m, explorer.Redo{}) }

// quit leaves; with work running it asks first.
func (m *Model) quit() tea.Cmd {
	if !m.opts.Hosted {
		for _, j := range m.snap.Jobs {
			if j.State == explorer.Running && j.Author != "" { // what nobody asked for starts again by itself
				return m.ask("quit", "What runs now ("+string(j.Kind)+") stops. A search goes on from its last generation when you start it again; other work starts over.",
					"quit", func(*Model) tea.Cmd { return tea.Quit })
			}
		}
	}
	return tea.Quit
}
