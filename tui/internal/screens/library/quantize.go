package library

import (
	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// Whose units the form of types keeps.
const (
	unitsOfSubnet = "the subnet's"
	unitsOfModel  = "all"
	unitsChosen   = "chosen too"
)

// quantizeForm asks for a size that types of matrices are chosen for.
func (s *Screen) quantizeForm() tea.Cmd {
	n, ok := s.selected()
	units := []string{unitsOfModel, unitsChosen}
	note := "Types are chosen by measured loss; output matrices are re-fitted on their inputs from the rounded ones before them."
	if ok {
		units = append([]string{unitsOfSubnet}, units...)
		note = text.Line(n.Name) + ". " + note
	}
	vocab := widget.TextEntry("vocab", "vocabulary", "", "tokens to keep: auto (drops tokens if their bytes gain more elsewhere), a number such as 24000, or a share of the tokens of the texts such as 0.999; empty: those of the subnet", subnets.CheckVocab)
	return s.host.Open(&widget.Form{Title: "types for a size", OK: "start", Stays: true, Note: note, Entries: []*widget.Entry{
		widget.TextEntry("target", "size", "80MB", "of the file, such as 60MB, or memory=512MB@4096 for weights and KV cache at a context", func(v string) error {
			_, err := search.ParseTarget(v, "")
			return err
		}),
		widget.ChoiceEntry("units", "units", units[0], "which units are kept; chosen too: widths are chosen together with types", units...),
		vocab,
		widget.TextEntry("name", "name", "", "of the new subnet; empty: by the size", nil),
	}, Submit: func(f *widget.Form) tea.Cmd {
		target, err := search.ParseTarget(f.Get("target"), "")
		if err != nil {
			s.host.Fail(err)
			return nil
		}
		c := explorer.Quantize{Subnet: explorer.DenseID, Target: target, Name: f.Get("name"), Widths: f.Get("units") == unitsChosen, Vocab: subnets.VocabOf(f), Seed: 1}
		if f.Get("units") == unitsOfSubnet {
			c.Subnet = n.ID
		}
		return f.Send(s.host, c, nil)
	}})
}
