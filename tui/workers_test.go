package tui

import (
	"context"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// TestWorkersByKeys starts a search with workers by the form, lists them and drains one.
func TestWorkersByKeys(t *testing.T) {
	l := newLoop(t, 120, 40, nil)
	l.press("1", "w")
	l.sees("no search or other job has workers now")
	job, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 100000}, Machines: explorer.Machines{Workers: 2, Async: true}})
	if err != nil {
		t.Fatal(err)
	}
	l.until("workers", func() bool { return len(l.m.snap.Search.Workers) == 2 })
	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.PauseJob{Job: job.Job}); err != nil {
		t.Fatal(err)
	}
	l.press("w")
	l.sees("2 of 2 workers, 4 candidates with them")
	l.sees("does not wait for stragglers")
	l.sees("local-2")
	l.sees("3 workers could not")
	l.press("d")
	l.sees("The worker finishes what it has and leaves.")
	l.press("enter")
	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.ResumeJob{Job: job.Job}); err != nil {
		t.Fatal(err)
	}
	l.until("a worker to leave", func() bool { w := l.ex.Snapshot().Search.Workers; return len(w) == 2 && w[0].State == "gone" })
	if _, err := l.ex.Do(t.Context(), explorertest.Owner, explorer.StopJob{Job: job.Job}); err != nil {
		t.Fatal(err)
	}
	l.until("the workers to end with the search", func() bool { return len(l.ex.Snapshot().Search.Workers) == 0 })
}

// TestWorkersForm fills in the entries of workers in the form of a search.
func TestWorkersForm(t *testing.T) {
	l := newLoop(t, 120, 50, nil)
	var asked explorer.Machines
	l.press("1", "s")
	for range 40 {
		if strings.Contains(l.screen(), "other processes or machines make levels") {
			break
		}
		l.press("down")
	}
	l.sees("other processes or machines make levels and score candidates")
	l.press("space", "down")
	l.write("3")
	l.press("down")
	l.write("nats://127.0.0.1:4222")
	l.press("down", "down")
	l.write("/mnt/models")
	l.press("down", "space", "enter")
	l.until("the search", func() bool { return l.ex.Snapshot().Unfinished != nil })
	asked = l.ex.Snapshot().Unfinished.Search.Machines
	if want := (explorer.Machines{Workers: 3, NATS: "nats://127.0.0.1:4222", Shared: "/mnt/models", Async: true}); asked != want {
		t.Errorf("asked for %+v, want %+v", asked, want)
	}
}

// TestWorkersOfStatistics gathers statistics by workers, as entered in the form, and shows them.
func TestWorkersOfStatistics(t *testing.T) {
	b, hold := explorertest.New(), make(chan struct{})
	ex := explorertest.Filled(t, b)
	b.Pace = func(ctx context.Context, unit string) error {
		if unit != "layers" {
			return nil
		}
		select {
		case <-hold:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l := newLoopOver(t, ex, b, 120, 50, nil)
	l.press("1", "S")
	for range 20 {
		if strings.Contains(l.screen(), "other processes or machines gather layers") {
			break
		}
		l.press("down")
	}
	l.sees("other processes or machines gather layers")
	l.press("space", "down")
	l.write("2")
	l.press("enter")
	l.until("workers", func() bool { return len(l.m.snap.Search.Workers) == 2 })
	l.press("w")
	l.sees("2 of 2 workers")
	l.sees("local-2")
	close(hold)
	l.until("the workers to end with the statistics", func() bool { return len(l.ex.Snapshot().Search.Workers) == 0 })
}
