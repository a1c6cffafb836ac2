package widget

import (
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/tui/internal/screen"
)

// Stop stops a job. Where that loses work, or ends a search, it asks first.
func Stop(host screen.Host, j explorer.Job) tea.Cmd {
	stop := func() tea.Cmd { return host.Do(explorer.StopJob{Job: j.ID}, nil) }
	text := stopped(host.Snapshot(), j)
	if text == "" {
		return stop()
	}
	if j.CanPause && j.State != explorer.Paused && j.Kind != explorer.JobSearch {
		text += " " + host.Key("jobs") + " pauses it instead."
	}
	if lost, what := j.Progress.Clock(host.Now()); what == "so far" && lost >= time.Minute {
		text += " It has run for " + format.Clock(lost) + "."
	}
	return Ask(host, "stop", text, "stop it", stop)
}

// stopped describes what stopping a job does to its work, "" where nothing is lost.
func stopped(s *explorer.Snapshot, j explorer.Job) string {
	if j.Started.IsZero() {
		return ""
	}
	switch j.Kind {
	case explorer.JobSearch:
		if s.Search.Job != j.ID || s.Search.Evaluated == 0 {
			return "The search stops. It has tried no candidate yet: there is nothing to resume."
		}
		return "The search stops. Its results stay, and it can be resumed later."
	case explorer.JobStatistics, explorer.JobBench: // layers and rows stay
		return ""
	case explorer.JobQuantize:
		return "The job stops without a subnet. The losses of types that it has measured stay."
	case explorer.JobCut, explorer.JobReform, explorer.JobTune, explorer.JobRecipe:
		return "The job stops, and its work is lost: no subnet is made."
	default:
		return "The job stops, and its work is lost."
	}
}
