package search

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/paint"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/theme"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// answers reports whether there are answers of best candidates to show, or will be.
func (s *Screen) answers() bool {
	a := s.snap().Answers
	return a.Prompt != "" || len(a.Best) > 0
}

// drawAnswers draws what the dense model and the best candidates answer: the newest below that of the dense model, then earlier ones.
func (s *Screen) drawAnswers(t *theme.Theme, snap *explorer.Snapshot, w, h int) []string {
	a := snap.Answers
	frame := paint.Frame{Title: "answers", Focused: s.focus == partAnswers}
	if a.Prompt != "" {
		frame.Note = text.Clip(text.Line(a.Prompt), max(0, w-20))
	}
	return widget.Box(t, frame, w, h, func(w, h int) []string {
		if !s.answers() {
			return widget.Paragraph(w, t.Dim, "The newest best candidate can answer a prompt while a search runs: "+s.host.Key("search.prompt")+" sets it.")
		}
		var rows []string
		if a.Err != "" {
			rows = append(rows, widget.Paragraph(w, t.Warn, "No answer: "+text.Line(a.Err))...)
		}
		newest, ok := a.Latest()
		if a.Dense.Text != "" || !a.Dense.At.IsZero() {
			rows = append(rows, answerRows(t, "dense", t.Dense, t.Dim, a.Dense.Text, w, max(1, (h-len(rows))/3))...)
		}
		switch {
		case ok:
			rows = append(rows, answerRows(t, s.answerName(newest), t.Subnet.With(t.Strong), t.Text, newest.Text, w, h-len(rows))...)
		case a.Busy:
			rows = append(rows, widget.Line(w).Put(t.Pending, "generating").String())
		case a.Err == "":
			rows = append(rows, widget.Paragraph(w, t.Dim, "The first best candidate answers here.")...)
		}
		before := a.Best
		if a.Now == nil && len(before) > 0 {
			before = before[:len(before)-1]
		}
		for _, n := range slices.Backward(before) {
			if len(rows)+2 > h {
				break
			}
			rows = append(rows, paint.Blank(w))
			rows = append(rows, answerRows(t, s.answerName(n), t.Subnet, t.Dim, n.Text, w, h-len(rows))...)
		}
		return rows[:min(len(rows), h)]
	})
}

// answerName names the subnet of an answer.
func (s *Screen) answerName(a explorer.Answer) string {
	name := fmt.Sprintf("#%d", a.Candidate)
	if a.Subnet != "" {
		name = text.Clip(subnets.Name(s.snap(), a.Subnet), 24)
	}
	if a.Relative > 0 {
		name += "  " + text.Relative(a.Relative) + " ×"
	}
	return name
}

// answerRows are at most h rows of an answer behind its name.
func answerRows(t *theme.Theme, name string, named, said theme.Style, answer string, w, h int) []string {
	if h <= 0 {
		return nil
	}
	const gap = "  "
	words := strings.TrimSpace(text.Line(answer))
	// The name takes the place of as many letters, none of which breaks.
	indent := text.Width(name) + len(gap)
	hidden := string(slices.Repeat([]rune{'_'}, indent))
	lines := text.Wrap(hidden+cmp.Or(words, "(nothing)"), max(1, w-2))
	var rows []string
	for i, l := range lines {
		if i == h {
			break
		}
		if i == h-1 && len(lines) > h {
			l = text.Clip(l+" …", max(1, w-2))
		}
		r := widget.Line(w)
		if i == 0 {
			r.Put(named, name+gap)
			l = text.Skip(l, indent)
		}
		rows = append(rows, r.Put(said, l).String())
	}
	return rows
}

// askPrompt asks for another prompt of the running search.
func (s *Screen) askPrompt() tea.Cmd {
	return s.host.Open(&widget.Form{
		Title: "prompt", OK: "set", Note: "The dense model and each new best candidate answer it.", Stays: true,
		Entries: []*widget.Entry{promptEntry(s.snap().Answers.Prompt)},
		Submit: func(f *widget.Form) tea.Cmd {
			return f.Send(s.host, explorer.SetPrompt{Prompt: f.Get("prompt")}, func(explorer.Receipt) tea.Cmd {
				note := "new best candidates answer: " + text.Line(f.Get("prompt"))
				if f.Get("prompt") == "" {
					note = "no candidate answers a prompt any more"
				}
				s.host.Note(explorer.Info, note)
				return nil
			})
		},
	})
}

// promptOf is the prompt of a form with a [promptEntry], "" where no engine runs the model.
func (s *Screen) promptOf(f *widget.Form) string {
	if s.snap().Model.NoRuntime != "" {
		return ""
	}
	return f.Get("prompt")
}

// promptEntry is the entry of forms for the prompt that best candidates answer.
func promptEntry(prompt string) *widget.Entry {
	return widget.TextEntry("prompt", "prompt", prompt, "each new best candidate answers it, in at most 3 % of the time; empty: no answers", nil)
}
