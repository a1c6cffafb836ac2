package explorer_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// TestFullDiskPausesASearch has the disk full while a search writes: the search waits with the error as the reason, shows it to other
// processes too, and continues by itself or when it is resumed.
func TestFullDiskPausesASearch(t *testing.T) {
	var full atomic.Bool
	tried := make(chan struct{}, 1<<10)
	b, folder := explorertest.New(), t.TempDir()
	b.Write = func() error {
		tried <- struct{}{}
		if full.Load() {
			return fmt.Errorf("search: checkpoint: %w", syscall.ENOSPC)
		}
		return nil
	}
	e := explorertest.Open(t, b, folder)
	for name, resume := range map[string]bool{"by itself": false, "resumed": true} {
		t.Run(name, func(t *testing.T) {
			full.Store(true)
			id := start(t, e, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 60}})
			s := explorertest.Until(t, e, "the pause", func(s *explorer.Snapshot) bool {
				j, _ := s.Job(id)
				return j.State == explorer.Paused
			})
			if j, _ := s.Job(id); j.Reason != "search: checkpoint: no space left on device" {
				t.Errorf("the reason is %q", j.Reason)
			}
			other, err := explorer.Open(t.Context(), explorer.Options{Model: "model.gguf", Workspace: folder, Backend: explorertest.New(), ReadOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := other.Snapshot().Workspace.Paused; !strings.Contains(got, "no space left") {
				t.Errorf("another process is shown the reason %q", got)
			}
			if err := other.Close(); err != nil {
				t.Fatal(err)
			}
			// A measurement may compute meanwhile.
			explorertest.Do(t, e, explorer.Measure{Subnet: explorer.DenseID})
			if resume { // it tries at once, and waits again
				for len(tried) > 0 {
					<-tried
				}
				command(t, e, explorer.ResumeJob{Job: id})
				<-tried
			}
			full.Store(false)
			if resume {
				command(t, e, explorer.ResumeJob{Job: id})
			}
			if j := explorertest.Ended(t, e, id); j.State != explorer.Done || j.Reason != "" {
				t.Errorf("it ended as %s, %q", j.State, j.Reason)
			}
			if got := e.Snapshot().Search.Evaluated; got < 60 {
				t.Errorf("%d candidates", got)
			}
		})
	}
	full.Store(true)
	id := start(t, e, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 60}})
	untilState(t, e, id, explorer.Paused)
	command(t, e, explorer.StopJob{Job: id})
	if j := explorertest.Ended(t, e, id); j.State == explorer.Done || j.Reason != "" {
		t.Errorf("stopped, it is %s, %q", j.State, j.Reason)
	}
}

// TestFullDiskKeepsWhatASearchFound has the disk full when a search records its start and what it found.
func TestFullDiskKeepsWhatASearchFound(t *testing.T) {
	var full atomic.Bool
	v := &valve{}
	b := explorertest.New()
	b.Pace = v.pace
	e := explorertest.Open(t, b, t.TempDir())
	e.FailAppends(func() error {
		if full.Load() {
			return fmt.Errorf("write journal: %w", syscall.ENOSPC)
		}
		return nil
	})
	v.close("candidates")
	full.Store(true)
	id := start(t, e, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 40}})
	untilState(t, e, id, explorer.Paused)
	full.Store(false)
	explorertest.Until(t, e, "its start", func(s *explorer.Snapshot) bool { return s.Unfinished != nil })
	full.Store(true)
	v.open("candidates")
	untilState(t, e, id, explorer.Paused)
	if s := e.Snapshot(); s.Search.Evaluated < 40 || len(s.Subnets) != 0 {
		t.Errorf("it is paused with %d candidates and %d subnets", s.Search.Evaluated, len(s.Subnets))
	}
	full.Store(false)
	j := explorertest.Ended(t, e, id)
	if _, ok := e.Snapshot().Subnet(j.Result); j.State != explorer.Done || !ok {
		t.Errorf("it ended as %s with the subnet %q", j.State, j.Result)
	}
}
