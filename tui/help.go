package tui

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/lathe-llm/lathe/explorer/format"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// help opens the list of all keys, those of the present screen first. It is read from the table of actions.
func (m *Model) help() tea.Cmd {
	m.open(&widget.Pager{Title: "keys", Width: 86, Lines: func(w int) []string {
		t := m.theme
		var out []string
		here := m.active().Name()
		order := append([]string{here}, action.Scopes(m.actions)...)
		width := 0 // of the keys
		keysOf := func(a *action.Action) string {
			keys := make([]string, 0, 3)
			for _, k := range m.keys.Of(a) {
				keys = append(keys, action.KeyLabel(t, k))
			}
			return strings.Join(keys, " ")
		}
		for _, a := range m.actions {
			width = max(width, text.Width(keysOf(a)))
		}
		seen := map[string]bool{}
		for _, sc := range order {
			if seen[sc] {
				continue
			}
			seen[sc] = true
			if len(out) > 0 {
				out = append(out, paint.Blank(w))
			}
			out = append(out, paint.Text(w, t.Title, sc))
			for _, a := range m.actions {
				if a.Scope != sc {
					continue
				}
				why := m.blocked(a)
				key, style := t.Key, t.Text
				if why != "" && sc == here {
					key, style = t.KeyOff, t.KeyOff
				} else {
					why = ""
				}
				title := a.Title
				if why != "" {
					title += " (" + why + ")"
				}
				for i, l := range text.Wrap(title, max(8, w-width-4)) {
					r := paint.NewRow(w, theme.Style{}).Pad(2)
					if i == 0 {
						r.Put(key, keysOf(a))
					}
					out = append(out, r.Pad(width+4).Put(style, l).String())
				}
			}
		}
		return out
	}})
	return nil
}

// showMessages opens the list of messages, those that were dismissed or have faded too.
func (m *Model) showMessages() tea.Cmd {
	m.dismissNotes()
	m.open(&widget.Pager{Title: "messages", Width: 100, Lines: func(w int) []string {
		var out []string
		for _, n := range m.messages() {
			style, mark := m.noteLook(n.level)
			for k, l := range text.Wrap(n.text, max(1, w-12)) {
				r := paint.NewRow(w, theme.Style{})
				if k == 0 {
					r.Put(m.theme.Dim, n.at.Local().Format("15:04:05")).Put(style, " "+mark+" ")
				}
				out = append(out, r.Pad(11).Put(m.theme.Text, l).String())
			}
		}
		if len(out) == 0 {
			out = append(out, paint.Text(w, m.theme.Dim, "no messages"))
		}
		return out
	}})
	return nil
}

// showModel opens the facts about the dense model and the workspace.
func (m *Model) showModel() tea.Cmd {
	m.open(&widget.Pager{Title: "model", Width: 84, Lines: func(w int) []string {
		mi, ws := m.snap.Model, m.snap.Workspace
		rows := []struct{ k, v string }{
			{"name", mi.Name}, {"file", mi.Path}, {"architecture", mi.Arch},
			{"parameters", format.Count(float64(mi.Params)) + " (" + format.Count(float64(mi.BlockParams)) + " in the blocks)"},
			{"size", format.Bytes(float64(mi.Bytes)) + " as " + mi.Type()},
			{"layers", strconv.Itoa(mi.Layers) + " of width " + strconv.Itoa(mi.Hidden)}, {"context", strconv.Itoa(mi.Context) + " tokens"}, {"vocabulary", strconv.Itoa(mi.Vocab)},
		}
		if g := mi.Geometry; g != nil && len(g.Layers) > 0 {
			l := g.Layers[0]
			rows = append(rows, struct{ k, v string }{"first layer", fmt.Sprintf("%s in %s of width %d, MLP %d", format.Counted(l.Heads, "query head"), format.Counted(l.KVHeads, "group"), g.HeadDim, l.FFN)})
		}
		rows = append(rows, struct{ k, v string }{"computes on", mi.Compute}, struct{ k, v string }{"chats on", cmp.Or(mi.NoRuntime, mi.Engine)}, struct{ k, v string }{"workspace", workspaceText(ws)})
		if ws.ReadOnly {
			rows = append(rows, struct{ k, v string }{"", "read-only: " + ws.Holder})
		}
		for _, v := range m.snap.Presence {
			rows = append(rows, struct{ k, v string }{"viewer", v.Name + " (" + v.Role.String() + ") on " + v.Where})
		}
		var out []string
		for _, r := range rows {
			if r.v == "" {
				continue
			}
			out = append(out, paint.NewRow(w, theme.Style{}).Col(m.theme.Dim, r.k, 14).Put(m.theme.Text, text.ClipMiddle(text.Line(r.v), max(1, w-14))).String())
		}
		return out
	}})
	return nil
}

// workspaceText is the path of a workspace with what it takes on the disk; "" where there is none.
func workspaceText(ws explorer.WorkspaceInfo) string {
	if ws.Path == "" || ws.Bytes <= 0 {
		return ws.Path
	}
	return format.Bytes(ws.Bytes) + " in " + ws.Path
}

// showJobs opens the list of jobs, each with what can be done to it.
func (m *Model) showJobs() tea.Cmd {
	m.open(&widget.Picker{Title: "jobs", Choose: "pause, resume or stop", Choices: func() []widget.Choice {
		var out []widget.Choice
		for _, j := range m.snap.Jobs {
			detail := string(j.State)
			if j.State == explorer.Running && (j.Progress.Total > 0 || j.Progress.Phase.Of > 1) {
				detail = strings.TrimSpace(m.progress(j.Progress)) + " " + text.Line(j.Progress.Step)
			}
			if what := m.snap.Awaits(j); what != "" {
				detail = "waits for " + text.Line(what)
			}
			if j.Reason != "" {
				detail += ": " + text.Line(j.Reason)
			}
			at := j.Created
			if j.State.Ended() {
				at = j.Ended
			}
			detail = at.Local().Format("15:04:05") + " " + detail
			if j.Err != "" {
				detail += ": " + text.Line(j.Err)
			}
			out = append(out, widget.Choice{Title: text.Line(j.Title), Detail: detail, Run: func() tea.Cmd { return m.jobMenu(j) }})
		}
		if len(out) == 0 {
			out = append(out, widget.Choice{Title: "no jobs"})
		}
		return out
	}})
	return nil
}

// jobMenu offers what can be done to a job.
func (m *Model) jobMenu(j explorer.Job) tea.Cmd {
	return widget.Pick(host{m}, text.Line(j.Title), func() []widget.Choice {
		now, _ := m.snap.Job(j.ID)
		act := func(title string, c explorer.Command, off string) widget.Choice {
			if m.actor.Role < explorer.RoleEditor {
				off = "viewers cannot do this"
			}
			return widget.Choice{Title: title, Off: off, Run: func() tea.Cmd { return m.try(c, nil, nil) }}
		}
		ended := ""
		if now.State.Ended() || now.ID == "" {
			ended = "it has ended"
		}
		pause := act("pause", explorer.PauseJob{Job: j.ID}, ended)
		if now.State == explorer.Paused {
			pause = act("resume", explorer.ResumeJob{Job: j.ID}, "")
		} else if ended == "" && !now.CanPause {
			pause.Off = "this job cannot be paused"
		}
		stop := act("stop", nil, ended)
		stop.Run = func() tea.Cmd { return widget.Stop(host{m}, now) }
		return []widget.Choice{pause, stop}
	})
}

// palette opens the list of all actions, those of the active screen first, and of places.
func (m *Model) palette() tea.Cmd {
	widget.Pick(host{m}, "commands", func() []widget.Choice {
		var out []widget.Choice
		for _, here := range []bool{true, false} {
			for _, a := range m.actions {
				if (a.Scope == m.active().Name()) != here || a.ID == "palette" {
					continue
				}
				key, where := action.KeyLabel(m.theme, m.keys.First(a)), ""
				if a.Scope != action.Everywhere && !here {
					key, where = "", "on "+m.screens[m.screenNamed(a.Scope)].Title()
				}
				out = append(out, widget.Choice{Title: a.Title, Detail: where, Also: a.ID, Key: key, Off: m.blocked(a), Run: func() tea.Cmd { return m.invoke(a) }})
			}
		}
		return append(out, m.places()...)
	})
	return m.listModels()
}

// places are what the palette finds besides actions: subnets, chats, layers, themes and model files.
func (m *Model) places() []widget.Choice {
	var out []widget.Choice
	for _, n := range m.snap.Subnets {
		detail := fmt.Sprintf("%s, ratio %.3f, %s", n.Origin, n.Size.Ratio, n.ID)
		out = append(out, widget.Choice{Title: "Subnet " + text.Line(n.Name), Detail: detail, Run: func() tea.Cmd { return host{m}.Ask(screen.ShowSubnet{Subnet: n.ID}) }})
	}
	for _, c := range m.snap.Chats {
		detail := format.Counted(len(c.Prompts), "prompt")
		out = append(out, widget.Choice{Title: "Chat " + text.Line(c.Name), Detail: detail, Run: func() tea.Cmd { return host{m}.Ask(screen.ShowChat{Chat: c.ID}) }})
	}
	for i := range m.snap.Model.Layers {
		out = append(out, widget.Choice{Title: fmt.Sprintf("Layer %d", i), Detail: "of the draft, on Masks", Run: func() tea.Cmd { return host{m}.Ask(screen.ShowLayer{Layer: i}) }})
	}
	out = append(out, m.themeChoices("Theme ")...)
	return append(out, m.modelChoices()...)
}

// invoke runs an action by name, on its own screen.
func (m *Model) invoke(a *action.Action) tea.Cmd {
	var cmd tea.Cmd
	if a.Scope != action.Everywhere {
		cmd = m.show(m.screenNamed(a.Scope))
	}
	return tea.Batch(cmd, m.perform(a))
}
