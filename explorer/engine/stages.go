package engine

import (
	"slices"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/search/oneshot"
)

// The phases of jobs, besides those of package oneshot, by the names that bars show.
const (
	vocabularyPhase = "vocabulary"
	textPhase       = "text"
	statisticsPhase = "statistics"
	comparingPhase  = "comparing"
	scoringPhase    = "scoring"
)

// phaseWords returns the name of a phase of package oneshot, and what is done in it.
func phaseWords(p oneshot.Phase) (name, step string) {
	switch p {
	case oneshot.Surveying:
		return "ranking", "ranking units"
	case oneshot.Measuring:
		return "measuring", "measuring what cuts cost"
	case oneshot.Typing:
		return "types", "measuring what types cost"
	case oneshot.Rounding:
		return "rounding", "compensating rounding errors"
	default: // oneshot.Reforming
		return "re-fit", "re-fitting"
	}
}

// stages reports which of its phases a job is in.
type stages struct {
	mon   explorer.Monitor
	names []string
	after int  // phases that follow them
	held  bool // phases that begin are part of the one that runs
}

// stagesOf returns the phases of making a subnet.
func (m *model) stagesOf(job making, mon explorer.Monitor) (*stages, error) {
	recipe, _, err := m.recipeFor(job)
	if err != nil {
		return nil, err
	}
	s := &stages{mon: mon, names: append(slices.Clone(job.before), textPhase), after: job.after}
	for _, p := range job.phases(recipe) {
		name, _ := phaseWords(p)
		s.names = append(s.names, name)
	}
	s.names = append(append(s.names, job.between...), scoringPhase)
	return s, nil
}

// begin reports that a phase begins or goes on. Phases that the job does not have are part of the one that runs. It does nothing on nil, for work that
// is part of a phase of a search.
func (s *stages) begin(name string) {
	if s == nil {
		return
	}
	if i := slices.Index(s.names, name); i >= 0 && !s.held {
		s.mon.Phase(explorer.Phase{Number: i + 1, Of: len(s.names) + s.after, Name: name})
	}
}

// only reports that a phase begins which others are part of, until free.
func (s *stages) only(name string) {
	s.begin(name)
	s.held = true
}

func (s *stages) free() { s.held = false }
