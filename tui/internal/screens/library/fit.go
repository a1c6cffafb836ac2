package library

import (
	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/report"
	"github.com/lathe-llm/lathe/tui/internal/subnets"
	"github.com/lathe-llm/lathe/tui/internal/text"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// What the form of a memory does.
const (
	findsOne = "find the best so far"
	makesOne = "make one"
)

// makes reports whether a subnet is made for the memory.
func makes(f *widget.Form) bool { return f.Get("does") == makesOne }

// defaultVocab is the size of the vocabulary that the form proposes.
func (s *Screen) defaultVocab() string { return report.DefaultVocab(s.snap().Model).String() }

// planFit plans a subnet for what was entered.
func (s *Screen) planFit(f *widget.Form) (report.FitPlan, error) {
	return report.PlanFit(s.snap(), report.FitAsked{Limit: int64(f.Number("memory") * 1e6), Context: max(1, f.Count("context")), Vocab: subnets.VocabOf(f)}, 0)
}

// fitNote describes what is expected.
func (s *Screen) fitNote(f *widget.Form) string {
	if !makes(f) {
		return "Weights, KV cache and working memory are counted."
	}
	p, err := s.planFit(f)
	if err != nil {
		return text.Line(err.Error())
	}
	return "Expected: " + p.Brief() + "."
}

// makeFit starts making a subnet for the memory.
func (s *Screen) makeFit(f *widget.Form) tea.Cmd {
	p, err := s.planFit(f)
	if err != nil {
		f.Reject(err)
		return nil
	}
	c := p.Command(1)
	c.Calibration = subnets.CalibrationOf(f)
	switch {
	case p.Target != "":
		return f.Send(s.host, c, nil)
	case c.Vocab.On() && !c.Vocab.Auto:
		return f.Send(s.host, explorer.TrimVocab{Subnet: explorer.DenseID, Vocab: c.Vocab, Calibration: c.Calibration, Name: c.Name}, nil)
	}
	s.host.Close(f)
	s.host.Note(explorer.Info, "the model itself fits")
	return nil
}
