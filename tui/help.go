package tui

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// help opens the list of all keys, those of the present screen first. It is read from the table of actions.
func (m *Model) help() tea.Cmd {
	m.open(&pager{title: "keys", wide: 86, lines: func(m *Model, w int) []string {
		t := m.theme
		var out []string
		order := append([]scope{m.active.scope()}, scopes()...)
		width := 0 // of the keys
		keysOf := func(a *action) string {
			keys := make([]string, 0, 3)
			for _, k := range m.keys.of(a) {
				keys = append(keys, m.keyLabel(k))
			}
			return strings.Join(keys, " ")
		}
		for _, a := range m.actions {
			width = max(width, text.Width(keysOf(a)))
		}
		seen := map[scope]bool{}
		for _, sc := range order {
			if seen[sc] {
				continue
			}
			seen[sc] = true
			if len(out) > 0 {
				out = append(out, paint.Blank(w))
			}
			out = append(out, paint.Text(w, t.Title, string(sc)))
			for _, a := range m.actions {
				if a.scope != sc {
					continue
				}
				why := m.blocked(a)
				key, title := t.Key, t.Text
				if why != "" && sc == m.active.scope() {
					key, title = t.KeyOff, t.KeyOff
				} else {
					why = ""
				}
				said := a.title
				if why != "" {
					said += " (" + why + ")"
				}
				for i, l := range text.Wrap(said, max(8, w-width-4)) {
					r := paint.NewRow(w, theme.Style{}).Pad(2)
					if i == 0 {
						r.Put(key, keysOf(a))
					}
					out = append(out, r.Pad(width+4).Put(title, l).String())
				}
			}
		}
		return out
	}})
	return nil
}

// showMessages opens the list of messages that the exploration still has.
func (m *Model) showMessages() tea.Cmd {
	own := m.notes
	m.dismissNotes()
	m.open(&pager{title: "messages", wide: 100, lines: func(m *Model, w int) []string {
		var out []string
		for i := len(own) - 1; i >= 0; i-- {
			style, mark := m.noteLook(own[i].level)
			for k, l := range text.Wrap(own[i].text, max(1, w-12)) {
				r := paint.NewRow(w, theme.Style{})
				if k == 0 {
					r.Pad(8).Put(style, " "+mark+" ")
				}
				out = append(out, r.Pad(11).Put(m.theme.Text, l).String())
			}
		}
		for i := len(m.snap.Messages) - 1; i >= 0; i-- {
			msg := m.snap.Messages[i]
			style, mark := m.noteLook(msg.Level)
			body := text.Wrap(text.Line(msg.Text), max(1, w-12))
			for k, l := range body {
				r := paint.NewRow(w, theme.Style{})
				if k == 0 {
					r.Put(m.theme.Dim, msg.At.Local().Format("15:04:05")).Put(style, " "+mark+" ")
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

// showModel opens what is known about the dense model and where things are kept.
func (m *Model) showModel() tea.Cmd {
	m.open(&pager{title: "model", wide: 84, lines: func(m *Model, w int) []string {
		mi, ws := m.snap.Model, m.snap.Workspace
		rows := []struct{ k, v string }{
			{"name", mi.Name}, {"file", mi.Path}, {"architecture", mi.Arch},
			{"parameters", text.Count(float64(mi.Params)) + " (" + text.Count(float64(mi.BlockParams)) + " in the blocks)"},
			{"size", text.Bytes(float64(mi.Bytes)) + " as " + mi.FileType},
			{"layers", itoa(mi.Layers) + " of width " + itoa(mi.Hidden)}, {"context", itoa(mi.Context) + " tokens"}, {"vocabulary", itoa(mi.Vocab)},
		}
		if g := mi.Geometry; g != nil && len(g.Layers) > 0 {
			l := g.Layers[0]
			rows = append(rows, struct{ k, v string }{"first layer", fmt.Sprintf("%d query heads in %d groups of width %d, MLP %d", l.Heads, l.KVHeads, g.HeadDim, l.FFN)})
		}
		rows = append(rows, struct{ k, v string }{"computes on", mi.Compute}, struct{ k, v string }{"chats on", orElse(mi.NoRuntime, mi.Engine)}, struct{ k, v string }{"workspace", ws.Path})
		if ws.ReadOnly {
			rows = append(rows, struct{ k, v string }{"", "read-only: " + ws.Holder})
		}
		for _, v := range m.snap.Presence {
			rows = append(rows, struct{ k, v string }{"here", v.Name + " (" + v.Role.String() + ") on " + v.Where})
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

// showJobs opens the list of jobs, each with what can be done to it.
func (m *Model) showJobs() tea.Cmd {
	return m.pick("jobs", func(m *Model) []choice {
		var out []choice
		for _, j := range m.snap.Jobs {
			detail := string(j.State)
			if j.State == explorer.Running && j.Progress.Total > 0 {
				detail = text.Percent(j.Progress.Fraction()) + " " + text.Line(j.Progress.Step)
			}
			if j.Err != "" {
				detail = text.Line(j.Err)
			}
			out = append(out, choice{title: text.Line(j.Title), detail: detail, run: func(m *Model) tea.Cmd { return m.jobMenu(j) }})
		}
		if len(out) == 0 {
			out = append(out, choice{title: "nothing runs", run: func(*Model) tea.Cmd { return nil }})
		}
		return out
	})
}

// jobMenu offers what can be done to a job.
func (m *Model) jobMenu(j explorer.Job) tea.Cmd {
	return m.pick(text.Line(j.Title), func(m *Model) []choice {
		now, _ := m.snap.Job(j.ID)
		act := func(title string, c explorer.Command, off string) choice {
			if m.actor.Role < explorer.RoleEditor {
				off = "you are here as a viewer"
			}
			return choice{title: title, off: off, run: func(m *Model) tea.Cmd { return m.do(c, nil) }}
		}
		ended := ""
		if now.State.Ended() || now.ID == "" {
			ended = "it has ended"
		}
		pause := act("pause", explorer.PauseJob{Job: j.ID}, ended)
		if now.State == explorer.Paused {
			pause = act("go on", explorer.ResumeJob{Job: j.ID}, "")
		} else if ended == "" && !now.CanPause {
			pause.off = "this work cannot stand still"
		}
		return []choice{pause, act("stop", explorer.StopJob{Job: j.ID}, ended)}
	})
}

// A tour is what a newcomer sees first: five lines over the screen.
type tour struct{ still }

func newTour() *tour { return &tour{} }

func (tr *tour) lines(m *Model) []string {
	key := func(id string) string { return m.keyLabel(m.keys.first(m.action(id))) }
	return []string{
		"Every dot is a smaller model made of yours: further left is smaller, further down talks better.",
		key("search.toggle") + " starts or pauses the search. It gets better while you watch; nothing is lost when you quit.",
		key("search.chat") + " lets you talk to the best one so far, beside the original. Do it any time.",
		key("screen.masks") + " shows what each layer keeps. Everything there can be changed by hand, and " + key("undo") + " undoes.",
		key("help") + " shows the keys of a screen, " + key("palette") + " finds anything by name. esc closes this.",
	}
}

func (tr *tour) place(m *Model, body layout.Rect) layout.Rect {
	w := m.width(body, 84)
	n := 0
	for _, l := range tr.lines(m) {
		n += len(text.Wrap(l, max(1, w-8)))
	}
	h := min(n+2, body.H)
	return layout.Rect{X: body.X + (body.W-w)/2, Y: body.Y + max(0, body.H-h-1), W: w, H: h}
}

func (tr *tour) draw(m *Model, w, h int) []string {
	t := m.theme
	var rows []string
	for _, l := range tr.lines(m) {
		for k, part := range text.Wrap(l, max(1, w-8)) {
			r := paint.NewRow(w-2, theme.Style{})
			if k == 0 {
				r.Put(t.Accent, " "+t.Glyph.Dot)
			}
			rows = append(rows, r.Pad(4).Put(t.Text, part).String())
		}
	}
	return paint.Box(t, paint.Frame{Title: "welcome", Focused: true}, w, h, rows)
}

func (tr *tour) key(m *Model, k tea.KeyPressMsg) tea.Cmd {
	m.close(tr)
	if name := k.String(); name != "enter" && name != "space" {
		return m.key(k)
	}
	return nil
}

func (tr *tour) mouse(m *Model, e mouseEvent) tea.Cmd {
	if e.kind == mouseClick {
		m.close(tr)
	}
	return nil
}

func (tr *tour) hints(m *Model) []hint { return []hint{closeHint("close the tour")} }
