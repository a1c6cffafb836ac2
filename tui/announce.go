package tui

import (
	"fmt"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/text"
)

// announce says which jobs ended well between two snapshots. The exploration itself tells of failures.
func (m *Model) announce(before, now *explorer.Snapshot) {
	for _, j := range now.Jobs {
		if j.State != explorer.Done {
			continue
		}
		if was, ok := before.Job(j.ID); ok && was.State.Ended() {
			continue
		}
		if j.Result != "" && j.Kind != explorer.JobMeasure && m.active != libraryID { // who goes there next wants to see it
			m.library().chosen = j.Result
		}
		if s := m.outcome(now, j); s != "" {
			m.say(levelInfo, s)
		}
	}
}

// readInTime is more than reading statistics takes, and less than gathering those of a model that takes a while.
const readInTime = 20 * time.Second

// outcome is what there is to say about a job that ended well, or "".
func (m *Model) outcome(s *explorer.Snapshot, j explorer.Job) string {
	key := func(id string) string { return m.keys.first(m.action(id)) }
	name := subnetName(s, j.Result)
	switch j.Kind {
	case explorer.JobExport:
		if j.Output == "" {
			return ""
		}
		return "wrote " + j.Output
	case explorer.JobImport:
		return name + " is in the library"
	case explorer.JobCut, explorer.JobReform:
		if j.Result == "" {
			return ""
		}
		said := name + " is made"
		if n, ok := s.Subnet(j.Result); ok {
			said += fmt.Sprintf(": share %.3f", n.Size.Ratio)
			if s.Reform.Result == j.Result && s.Reform.After > 0 {
				said += ", held-out ppl " + text.Perplexity(s.Reform.After)
			}
		}
		return said + "; on Reform " + key("reform.chat") + " chats with it"
	case explorer.JobSearch:
		if best := s.Search.Best; best != nil {
			return fmt.Sprintf("the search ended after %d candidates; %s chats with the best", s.Search.Evaluated, key("search.chat"))
		}
	case explorer.JobMeasure:
		if n, ok := s.Subnet(j.Result); ok && newest(n) != nil {
			return "the perplexity of " + name + " is " + text.Perplexity(newest(n).Perplexity)
		}
	case explorer.JobStatistics:
		if j.Author == "" && j.Ended.Sub(j.Started) < readInTime {
			return "" // nobody asked, and those of an earlier time were read
		}
		return "statistics are gathered: units are ranked and edits are estimated"
	case explorer.JobBench:
		return "the benchmark is done"
	}
	return ""
}
