package tui

import (
	"fmt"
	"slices"
	"time"

	"github.com/lathe-llm/lathe/explorer/format"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/tui/internal/action"
	"github.com/lathe-llm/lathe/tui/internal/layout"
	"github.com/lathe-llm/lathe/tui/internal/screen"
	"github.com/lathe-llm/lathe/tui/internal/theme"
)

// A host is a Model as its screens and overlays see it.
type host struct{ m *Model }

var _ screen.Host = host{}

func (h host) Snapshot() *explorer.Snapshot { return h.m.snap }
func (h host) Theme() *theme.Theme          { return h.m.theme }
func (h host) Body() layout.Rect            { return h.m.area().Body }
func (h host) Now() time.Time               { return h.m.now() }
func (h host) Active() string               { return h.m.active().Name() }
func (h host) WritesFiles() bool            { return h.m.opts.Files }
func (h host) Folder() string               { return h.m.opts.Folder }

func (h host) Do(c explorer.Command, then func(explorer.Receipt) tea.Cmd) tea.Cmd {
	return h.m.try(c, then, nil)
}

func (h host) Try(c explorer.Command, then func(explorer.Receipt) tea.Cmd, failed func(error) bool) tea.Cmd {
	return h.m.try(c, then, failed)
}

func (h host) AfterJob(id explorer.JobID, then func(explorer.Job) tea.Cmd) tea.Cmd {
	if j, ok := h.m.snap.Job(id); ok && j.State.Ended() {
		if j.State == explorer.Done {
			return then(j)
		}
		return nil
	}
	h.m.after[id] = then
	return nil
}

func (h host) EditDraft(c explorer.Command) tea.Cmd {
	next, err := h.m.draft.Add(h.m.snap.Draft, h.m.snap.Statistics, c)
	if err != nil {
		h.m.fail(err)
		return nil
	}
	return h.sendEdit(next)
}

// sendEdit sends a command of the queue of edits, and then the next one.
func (h host) sendEdit(c explorer.Command) tea.Cmd {
	if c == nil {
		return nil
	}
	return h.m.try(c,
		func(r explorer.Receipt) tea.Cmd { return h.sendEdit(h.m.draft.Done(r.Version, nil)) },
		func(err error) bool { h.m.draft.Done(0, err); return false })
}

func (h host) DraftMasks() (masks subnet.Masks, ahead bool, revision int) {
	return h.m.draft.Masks(h.m.snap.Draft), h.m.draft.Ahead(), h.m.draft.Revision()
}

func (h host) Key(id string) string { return h.m.keyOf(h.m.action(id)) }

func (h host) Hint(id string) screen.Hint {
	a := h.m.action(id)
	return screen.Hint{Key: h.m.keyOf(a), Label: a.Word(), Action: id}
}

// Shows implements [screen.Host].
func (h host) Shows(o screen.Overlay) bool { return slices.Contains(h.m.overlays, o) }

func (h host) Blocked(id string) string  { return h.m.blocked(h.m.action(id)) }
func (h host) Perform(id string) tea.Cmd { return h.m.perform(h.m.action(id)) }
func (h host) Show(name string) tea.Cmd  { return h.m.show(h.m.screenNamed(name)) }
func (h host) Close(o screen.Overlay)    { h.m.close(o) }
func (h host) Fail(err error)            { h.m.fail(err) }
func (h host) Open(o screen.Overlay) tea.Cmd {
	h.m.open(o)
	return nil
}

func (h host) Ask(r screen.Request) tea.Cmd {
	for _, s := range h.m.screens {
		if a, ok := s.(screen.Answerer); ok {
			if cmd, ok := a.Answer(r); ok {
				return cmd
			}
		}
	}
	panic(fmt.Sprintf("tui: no screen answers %T", r))
}

func (h host) Selection() []explorer.SubnetID {
	for _, s := range h.m.screens {
		if s, ok := s.(screen.Selector); ok {
			return s.Selection()
		}
	}
	return nil
}

func (h host) Note(level explorer.MessageLevel, s string) { h.m.note(level, s) }

// Copy cannot know whether the terminal accepts the text.
func (h host) Copy(s, what string) tea.Cmd {
	const most = 74994 // bytes that terminals accept, base64-encoded
	if len(s) > most*3/4 {
		h.m.note(explorer.Warning, fmt.Sprintf("%s: %s is more than terminals accept; export it instead", what, format.Bytes(float64(len(s)))))
		return nil
	}
	h.m.note(explorer.Info, what+": sent to the terminal")
	return tea.SetClipboard(s)
}

// action returns an action by its ID, which is one of the table's.
func (m *Model) action(id string) *action.Action {
	i := slices.IndexFunc(m.actions, func(a *action.Action) bool { return a.ID == id })
	if i < 0 {
		panic(fmt.Sprintf("tui: no action %q", id))
	}
	return m.actions[i]
}

// keyOf returns the key of an action and of its twin as they are shown; "" where it has none.
func (m *Model) keyOf(a *action.Action) string {
	key := action.KeyLabel(m.theme, m.keys.First(a))
	if key != "" && a.Twin != "" {
		key += action.KeyLabel(m.theme, m.keys.First(m.action(a.Twin)))
	}
	return key
}

// blocked returns why an action cannot run now, or "".
func (m *Model) blocked(a *action.Action) string {
	if a.Changes {
		if m.actor.Role < explorer.RoleEditor {
			return "viewers cannot do this"
		}
		if w := m.snap.Workspace; w.ReadOnly {
			return "the workspace is read-only: " + w.Holder
		}
	}
	if why := m.snap.Model.NoRuntime; a.Engine && why != "" {
		return why
	}
	if a.When != nil {
		return a.When()
	}
	return ""
}

// perform runs an action, or notes why it cannot run.
func (m *Model) perform(a *action.Action) tea.Cmd {
	if why := m.blocked(a); why != "" {
		m.note(explorer.Info, a.Name()+": "+why)
		return nil
	}
	return a.Run()
}
