package tui

import (
	"context"
	"path/filepath"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// An Opening is another model or workspace that a person wants to explore instead. It is the error of [Run] then.
type Opening struct {
	Model     string // as the command line takes it
	Workspace string // folder; "" is the model's own
}

// Error describes the opening.
func (o *Opening) Error() string { return "another model is opened: " + o.Model }

// An Opener opens other models.
type Opener interface {
	// Check returns why the model or the workspace cannot be opened. It may take long.
	Check(ctx context.Context, o Opening) error
	// Models returns paths of models that are there.
	Models(ctx context.Context) []string
}

// Messages about other models.
type (
	modelsMsg  struct{ paths []string }
	openingMsg struct {
		opening Opening
		form    *widget.Form // nil where it was not asked for by a form
		err     error
	}
)

// cannotOpen returns why no other model can be opened, or "".
func (m *Model) cannotOpen() string {
	switch {
	case m.opts.Hosted:
		return "the server has one model"
	case m.opts.Opener == nil:
		return "this program opens one model"
	}
	return ""
}

// openForm asks for a model and a workspace.
func (m *Model) openForm() tea.Cmd {
	m.open(&widget.Form{
		Title: "open", OK: "open", Stays: true, Note: "This model is closed: what runs stops, a search continues when it is opened again.",
		Entries: []*widget.Entry{
			widget.TextEntry("model", "model", m.snap.Model.Path, "a GGUF file, a folder of safetensors files, or a repository on the hub", widget.NeedText),
			widget.TextEntry("workspace", "workspace", "", "folder for subnets, edits and chats; empty: the model's own", nil),
		},
		Submit: func(f *widget.Form) tea.Cmd {
			return m.check(Opening{Model: f.Get("model"), Workspace: f.Get("workspace")}, f)
		},
	})
	return nil
}

// check checks what is to be opened.
func (m *Model) check(o Opening, f *widget.Form) tea.Cmd {
	ctx, opener := m.ctx, m.opts.Opener
	return func() tea.Msg { return openingMsg{o, f, opener.Check(ctx, o)} }
}

// opening leaves for another model once it was checked.
func (m *Model) opening(msg openingMsg) tea.Cmd {
	switch {
	case msg.err != nil && msg.form != nil && host.Shows(host{m}, msg.form):
		msg.form.Reject(msg.err)
		return nil
	case msg.err != nil:
		m.note(explorer.Failure, msg.err.Error())
		return nil
	}
	if msg.form != nil {
		m.close(msg.form)
	}
	return m.leave("open "+filepath.Base(msg.opening.Model), "open it", func() tea.Cmd {
		m.next = &msg.opening
		return tea.Quit
	})
}

// listModels finds the models that the palette offers.
func (m *Model) listModels() tea.Cmd {
	if m.cannotOpen() != "" {
		return nil
	}
	ctx, opener := m.ctx, m.opts.Opener
	return func() tea.Msg { return modelsMsg{opener.Models(ctx)} }
}

// modelChoices are a choice for each model that is there.
func (m *Model) modelChoices() []widget.Choice {
	var out []widget.Choice
	for _, path := range m.models {
		if path == m.snap.Model.Path {
			continue
		}
		out = append(out, widget.Choice{Title: "Open " + text.Line(filepath.Base(path)), Detail: text.Line(filepath.Dir(path)), Off: m.cannotOpen(),
			Run: func() tea.Cmd { return m.check(Opening{Model: path}, nil) }})
	}
	return out
}
