package explorer_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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
			if j, _ := s.Job(id); j.Reason != "search: checkpoint: no space left on the disk" {
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
	explorertest.Until(t, e, "its start", func(s *explorer.Snapshot) bool {
		j, _ := s.Job(id)
		return s.Unfinished != nil && j.State != explorer.Paused
	})
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

// TestFullDiskPausesEveryJob has the disk full while jobs of every kind write: each waits with the reason, and is done once there is room.
func TestFullDiskPausesEveryJob(t *testing.T) {
	const plenty = 1 << 30
	var room atomic.Int64 // writes that the disk has room for
	room.Store(plenty)
	write := func() error {
		if room.Add(-1) < 0 {
			return fmt.Errorf("write: %w", syscall.ENOSPC)
		}
		return nil
	}
	b, out := explorertest.New(), t.TempDir()
	b.Write = write
	e := explorertest.Open(t, b, t.TempDir())
	e.FailAppends(write)
	cut := explorertest.Do(t, e, explorer.Cut{Target: 0.8, Name: "thin"}).Subnet
	explorertest.Do(t, e, explorer.StartSearch{Target: search.Ratio(0.8), Budget: explorer.Budget{Evaluations: 40}})
	recipe, file := filepath.Join(out, "recipe.json"), filepath.Join(out, "thin.gguf")
	explorertest.Do(t, e, explorer.ExportRecipe{Subnet: cut, Path: recipe})
	explorertest.Do(t, e, explorer.Export{Subnet: cut, Path: file})
	seen := map[explorer.JobKind]bool{
		explorer.JobSearch: true, // TestFullDiskPausesASearch
		explorer.JobFit:    true, // it writes times, as a search does
	}
	for _, c := range []struct {
		name  string
		start explorer.Command
		room  int64 // for what is written before the job is queued
	}{
		{"statistics", explorer.GatherStatistics{}, 0},
		{"cut", explorer.Cut{Target: 0.7}, 0},
		{"re-fit", explorer.Refit{Subnet: cut}, 0},
		{"tuning", explorer.Tune{Subnet: cut, Tuning: explorer.Tuning{Steps: 5}}, 0},
		{"perplexity", explorer.Measure{Subnet: cut}, 0},
		{"benchmark", explorer.StartBench{Settings: explorer.BenchSettings{Subnets: []explorer.SubnetID{cut}}}, 1},
		{"export", explorer.Export{Subnet: cut, Path: filepath.Join(out, "x.gguf")}, 0},
		{"folder", explorer.Export{Subnet: cut, Path: filepath.Join(out, "x"), As: explorer.AsFolder}, 0},
		{"recipe", explorer.ExportRecipe{Subnet: cut, Path: filepath.Join(out, "x.json")}, 0},
		{"build", explorer.BuildRecipe{Path: recipe}, 0},
		{"import", explorer.ImportFile{Path: file}, 0},
		{"adopted candidate", explorer.Adopt{}, 0},
		{"types", explorer.Quantize{Subnet: explorer.DenseID, Target: search.Target{Measure: search.Bytes, Value: 60e6}}, 0},
		{"vocabulary", explorer.TrimVocab{Subnet: cut, Vocab: explorer.VocabSize{Keep: 24000}}, 0},
	} {
		room.Store(c.room)
		id := start(t, e, c.start)
		untilState(t, e, id, explorer.Paused)
		j, _ := e.Snapshot().Job(id)
		if !strings.Contains(j.Reason, "no space left on the disk") {
			t.Errorf("%s: the reason is %q", c.name, j.Reason)
		}
		room.Store(plenty)
		command(t, e, explorer.ResumeJob{Job: id})
		if j = explorertest.Ended(t, e, id); j.State != explorer.Done || j.Reason != "" {
			t.Errorf("%s: it ended as %s, %q, %s", c.name, j.State, j.Reason, j.Err)
		}
		seen[j.Kind] = true
	}
	source, err := os.ReadFile("job.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range regexp.MustCompile(`JobKind = "([a-z]+)"`).FindAllStringSubmatch(string(source), -1) {
		if !seen[explorer.JobKind(kind[1])] {
			t.Errorf("jobs of the kind %s are not tested", kind[1])
		}
	}
}

// TestFullDiskPausesAChat has the disk full when a reply is complete: the chat waits for room with the reply, is saved then, and can be
// stopped before.
func TestFullDiskPausesAChat(t *testing.T) {
	var full atomic.Bool
	v := &valve{}
	b, folder := explorertest.New(), t.TempDir()
	b.Pace = v.pace
	e := explorertest.Open(t, b, folder)
	e.FailAppends(func() error {
		if full.Load() {
			return fmt.Errorf("write journal: %w", syscall.ENOSPC)
		}
		return nil
	})
	chat := explorertest.Do(t, e, explorer.OpenChat{Subnets: []explorer.SubnetID{explorer.DenseID}}).Chat
	pauses := 0
	say := func(text string) {
		t.Helper()
		pauses++
		v.close("token")
		command(t, e, explorer.Say{Chat: chat, Text: text})
		full.Store(true)
		v.open("token")
		explorertest.Until(t, e, "the pause", func(s *explorer.Snapshot) bool {
			c, _ := s.Chat(chat)
			shown := 0
			for _, m := range s.Messages {
				if strings.Contains(m.Text, "the chat is paused until there is room") && strings.Contains(m.Text, "no space left") {
					shown++
				}
			}
			return c.Busy && shown == pauses
		})
	}
	idle := func(s *explorer.Snapshot) bool {
		c, _ := s.Chat(chat)
		return !c.Busy
	}
	say("one")
	full.Store(false)
	s := explorertest.Until(t, e, "the saved chat", idle)
	if c, _ := s.Chat(chat); c.Columns[0].Replies[0].Text == "" {
		t.Error("the reply is lost")
	}
	say("two")
	command(t, e, explorer.StopReply{Chat: chat})
	s = explorertest.Until(t, e, "an idle chat", idle)
	if c, _ := s.Chat(chat); c.Columns[0].Replies[1].Text == "" {
		t.Error("the reply that could not be saved is not shown")
	}
	full.Store(false)
	command(t, e, explorer.Say{Chat: chat, Text: "three"})
	c, _ := explorertest.Quiet(t, e).Chat(chat)
	if len(c.Prompts) != 3 {
		t.Errorf("prompts %v", c.Prompts)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	again := explorertest.Open(t, explorertest.New(), folder)
	if c, _ = again.Snapshot().Chat(chat); len(c.Prompts) != 3 || c.Columns[0].Replies[1].Text == "" {
		t.Errorf("the stored chat has %+v", c)
	}
}
