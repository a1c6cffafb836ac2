package tui

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// globalActions are the actions of the frame.
func (m *Model) globalActions() []*action.Action {
	var out []*action.Action
	for i, s := range m.screens {
		n := strconv.Itoa(i + 1)
		out = append(out, &action.Action{ID: "screen." + s.Name(), Keys: []string{n, "f" + n, "alt+" + n},
			Title: "Go to " + s.Title(), Run: func() tea.Cmd { return m.show(i) }})
	}
	out = append(out,
		&action.Action{ID: "help", Keys: []string{"?"}, Title: "Show all keys", Short: "keys", Run: m.help},
		&action.Action{ID: "palette", Keys: []string{":", "ctrl+p"}, Title: "Find an action by name", Short: "commands", Run: m.palette},
		&action.Action{ID: "find", Keys: []string{"/"}, Title: "Find rows of the table", Short: "find",
			Help: "Narrows the table while you type. Then `n` and `N` go to the next and to the previous row, and `esc` shows all rows again. The same keys work in help and other texts.",
			When: m.cannotFind, Run: m.find},
		&action.Action{ID: "undo", Keys: []string{"z", "ctrl+z"}, Title: "Undo", Changes: true,
			Help: "Takes back the last step on the draft; on Reform the last re-fit, on Library the last deletion.", When: m.cannotUndo, Run: m.undo},
		&action.Action{ID: "redo", Keys: []string{"Z", "ctrl+y"}, Title: "Redo", Changes: true,
			Help: "Repeats what undo has undone on this screen: the step on the draft; on Reform it brings the result back, on Library it deletes the subnet again.", When: m.cannotRedo, Run: m.redo},
		&action.Action{ID: "jobs", Keys: []string{"J"}, Title: "Show jobs", Help: "All jobs, each of which can be paused, resumed and stopped.", Run: m.showJobs},
		&action.Action{ID: "messages", Keys: []string{"N"}, Title: "Show messages", Run: m.showMessages},
		&action.Action{ID: "model", Keys: []string{"I"}, Title: "Show the model and the workspace", Run: m.showModel},
		&action.Action{ID: "mouse", Keys: []string{"M"}, Title: "Release or capture the mouse",
			Help: "While it is released, the terminal selects text as usual.", Run: func() tea.Cmd {
				m.mouseOff = !m.mouseOff
				if m.mouseOff {
					m.note(explorer.Info, "mouse released to the terminal; "+host{m}.Key("mouse")+" captures it")
				} else {
					m.note(explorer.Info, "mouse captured")
				}
				return nil
			}},
		&action.Action{ID: "look", Keys: []string{"T"}, Title: "Choose the theme, the background and the characters", Help: "They are kept for the next time.", Run: m.pickTheme},
		&action.Action{ID: "open", Keys: []string{"O"}, Title: "Open another model or workspace", When: m.cannotOpen, Run: m.openForm},
		&action.Action{ID: "tour", Keys: []string{"W"}, Title: "Show the welcome tour", Run: func() tea.Cmd {
			m.open(tour{m})
			m.at = 0 // below it, with all overlays
			return nil
		}},
		&action.Action{ID: "redraw", Keys: []string{"ctrl+l"}, Title: "Redraw the screen", Run: func() tea.Cmd { return tea.ClearScreen }},
		&action.Action{ID: "quit", Keys: []string{"q", "ctrl+q"}, Title: "Quit",
			Help: "Everything is saved; a search continues from its last generation when lathe is started again.", Run: m.quit},
	)
	for _, a := range out {
		a.Scope = action.Everywhere
	}
	return out
}

// cannotUndo returns why there is nothing to undo on the active screen, or on the draft where the screen has no undo of its
// own.
func (m *Model) cannotUndo() string {
	if u, ok := m.active().(screen.Undoer); ok {
		return u.CannotUndo()
	}
	if len(m.snap.Draft.Steps) == 0 {
		return "the draft has no steps to undo"
	}
	return ""
}

func (m *Model) undo() tea.Cmd {
	if u, ok := m.active().(screen.Undoer); ok {
		return u.Undo()
	}
	m.noteStep("undone", m.snap.Draft.Steps, "redo")
	return host{m}.EditDraft(explorer.Undo{})
}

// noteStep notes which step of the draft is undone or redone where the screen does not show it, and the key for the contrary.
func (m *Model) noteStep(done string, steps []explorer.Step, contrary string) {
	if n := len(steps); n > 0 && m.at != m.screenNamed("masks") && m.draft.Idle() {
		m.note(explorer.Info, done+" in the draft: "+text.Line(steps[n-1].Summary)+"; "+host{m}.Key(contrary)+" "+contrary+"es it")
	}
}

// cannotRedo returns why there is nothing to redo on the active screen, or on the draft where the screen has no undo of its own.
func (m *Model) cannotRedo() string {
	if u, ok := m.active().(screen.Undoer); ok {
		return u.CannotRedo()
	}
	if len(m.snap.Draft.Undone) == 0 {
		return "the draft has no steps to redo"
	}
	return ""
}

func (m *Model) redo() tea.Cmd {
	if u, ok := m.active().(screen.Undoer); ok {
		return u.Redo()
	}
	m.noteStep("redone", m.snap.Draft.Undone, "undo")
	return host{m}.EditDraft(explorer.Redo{})
}

// quit quits; while a job runs that a user started, it asks first.
func (m *Model) quit() tea.Cmd { return m.leave("quit", "quit", func() tea.Cmd { return tea.Quit }) }

// leave ends the program by a function; while a job runs that a user started, it asks first.
func (m *Model) leave(title, yes string, end func() tea.Cmd) tea.Cmd {
	if m.opts.Hosted || !slices.ContainsFunc(m.snap.Jobs, loses) {
		return end()
	}
	m.open(&widget.Question{Title: title, TextOf: m.stops, Yes: yes, Run: end})
	return nil
}

// loses reports whether ending the program stops a job that somebody started: one that runs or waits. A search that is paused can be resumed later,
// and jobs that nobody started restart by themselves.
func loses(j explorer.Job) bool {
	return !j.State.Ended() && j.Author != "" && (j.State != explorer.Paused || j.Kind != explorer.JobSearch)
}

// stops describes what ending the program does to the jobs that there are now.
func (m *Model) stops() string {
	var jobs []string
	search, statistics, others := false, false, false
	for _, j := range m.snap.Jobs {
		if j.State.Ended() {
			continue
		}
		state := "waits"
		switch {
		case j.State == explorer.Running && (j.Progress.Total > 0 || j.Progress.Phase.Of > 1):
			state = text.Percent(j.Progress.Whole())
		case j.State == explorer.Running || j.State == explorer.Paused:
			state = string(j.State)
		}
		jobs = append(jobs, fmt.Sprintf("%s (%s)", text.Line(j.Title), state))
		search = search || j.Kind == explorer.JobSearch
		statistics = statistics || j.Kind == explorer.JobStatistics
		others = others || j.Kind != explorer.JobSearch && j.Kind != explorer.JobStatistics
	}
	if len(jobs) == 0 {
		return "No job runs any more."
	}
	out := "This stops: " + strings.Join(jobs, ", ") + "."
	if search {
		out += " A search continues from its last generation when you start it again."
	}
	if statistics {
		out += " Statistics continue from their last layer at the next start."
	}
	switch {
	case others && (search || statistics):
		out += " Other jobs start over."
	case others:
		out += " What was computed is lost."
	}
	return out
}
