package explorer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/search"
)

// TestInterruptedSearchGoesOn ends a process in several ways while a search is under way, and opens its workspace again.
func TestInterruptedSearchGoesOn(t *testing.T) {
	ed := explorer.Actor{Name: "ed", Role: explorer.RoleEditor}
	asked := explorer.StartSearch{Target: search.Ratio(0.7), Seed: 3, Strategy: "ladder", Budget: explorer.Budget{Evaluations: 40}}
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		during   func(t *testing.T, e *explorer.Exploration, v *valve, id explorer.JobID) // the end, else it is closed in the middle
		kill     bool                                                                     // without closing
		resumes  bool
		paused   bool
		returned error // by the first candidates
	}{
		"closed": {resumes: true},
		"killed": {resumes: true, kill: true},
		"closed while paused": {resumes: true, paused: true, during: func(t *testing.T, e *explorer.Exploration, v *valve, id explorer.JobID) {
			command(t, e, explorer.PauseJob{Job: id})
			v.open("candidates")
			untilState(t, e, id, explorer.Paused)
		}},
		"killed after it was resumed": {resumes: true, kill: true, during: func(t *testing.T, e *explorer.Exploration, _ *valve, id explorer.JobID) {
			command(t, e, explorer.PauseJob{Job: id})
			command(t, e, explorer.ResumeJob{Job: id})
		}},
		"stopped by a person": {during: func(t *testing.T, e *explorer.Exploration, v *valve, id explorer.JobID) {
			<-v.waited()
			command(t, e, explorer.StopJob{Job: id})
			explorertest.Ended(t, e, id)
		}},
		"at its end": {kill: true, during: func(t *testing.T, e *explorer.Exploration, v *valve, id explorer.JobID) {
			v.open("candidates")
			explorertest.Ended(t, e, id)
		}},
		"after it failed": {returned: broken, during: func(t *testing.T, e *explorer.Exploration, v *valve, id explorer.JobID) {
			v.open("candidates")
			if j := explorertest.Ended(t, e, id); j.State != explorer.Failed {
				t.Errorf("it is %s", j.State)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			v := &valve{}
			v.close("candidates")
			b := explorertest.New()
			b.Pace = func(ctx context.Context, unit string) error {
				if err := v.pace(ctx, unit); err != nil {
					return err
				}
				if unit == "candidates" {
					return test.returned
				}
				return nil
			}
			folder := t.TempDir()
			e := explorertest.Open(t, b, folder)
			r, err := e.Do(t.Context(), ed, asked)
			if err != nil {
				t.Fatal(err)
			}
			explorertest.Until(t, e, "the record of it", func(s *explorer.Snapshot) bool { return s.Unfinished != nil })
			if test.during != nil {
				test.during(t, e, v, r.Job)
			}
			if test.kill {
				folder = killed(t, folder)
			} else if err := e.Close(); err != nil {
				t.Fatal(err)
			}

			b = explorertest.New()
			again := &valve{}
			again.close("candidates")
			b.Pace = again.pace
			e = explorertest.Open(t, b, folder)
			u := e.Snapshot().Unfinished
			if (u != nil) != test.resumes {
				t.Fatalf("under way: %+v, want %v", u, test.resumes)
			}
			ended := e.Snapshot().Ended
			if (ended == nil) != test.resumes || ended != nil && (!reflect.DeepEqual(ended.Search, recorded(asked)) || ended.Target != search.Ratio(0.7) || ended.Evaluated == 0 || ended.At.IsZero()) {
				t.Errorf("to be taken up again: %+v", ended)
			}
			if err := e.ResumeSearch(t.Context()); err != nil {
				t.Fatal(err)
			}
			jobs := e.Snapshot().Jobs
			if !test.resumes {
				if len(jobs) != 0 {
					t.Errorf("jobs %+v", jobs)
				}
				return
			}
			if !reflect.DeepEqual(u.Search, recorded(asked)) || u.Author != "ed" || u.Paused != test.paused || len(jobs) != 1 || jobs[0].Kind != explorer.JobSearch || jobs[0].Author != "ed" {
				t.Fatalf("%+v was resumed as %+v", u, jobs)
			}
			again.open("candidates")
			if test.paused {
				untilState(t, e, jobs[0].ID, explorer.Paused)
				command(t, e, explorer.ResumeJob{Job: jobs[0].ID})
			}
			job := explorertest.Ended(t, e, jobs[0].ID)
			s := e.Snapshot()
			if job.State != explorer.Done || s.Unfinished != nil || s.Search.Seed != 3 || len(s.Subnets) != 1 {
				t.Errorf("job %+v, under way %+v, %d subnets", job, s.Unfinished, len(s.Subnets))
			}
		})
	}
}

// killed is a copy of what a process that is killed now leaves behind in a workspace.
func killed(t *testing.T, folder string) string {
	t.Helper()
	left := t.TempDir()
	for _, name := range []string{"workspace.json", "journal"} {
		data, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(left, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return left
}

// TestInterruptedSearchIsLeftToWhoHoldsTheWorkspace opens a workspace twice.
func TestInterruptedSearchIsLeftToWhoHoldsTheWorkspace(t *testing.T) {
	v := &valve{}
	v.close("candidates")
	b := explorertest.New()
	b.Pace = v.pace
	folder := t.TempDir()
	holder := explorertest.Open(t, b, folder)
	id := start(t, holder, explorer.StartSearch{Target: search.Ratio(0.7)})
	explorertest.Until(t, holder, "the record of it", func(s *explorer.Snapshot) bool { return s.Unfinished != nil })
	other := explorertest.Open(t, explorertest.New(), folder)
	if err := other.ResumeSearch(t.Context()); err != nil || len(other.Snapshot().Jobs) != 0 {
		t.Errorf("%v, jobs %+v", err, other.Snapshot().Jobs)
	}
	v.open("candidates")
	explorertest.Ended(t, holder, id)
}

// TestEndedSearch runs searches after one another: what can be taken up again is the last that began.
func TestEndedSearch(t *testing.T) {
	b := explorertest.New()
	refuse := false
	b.Pace = func(ctx context.Context, unit string) error {
		if refuse && unit == "candidates" {
			return explorer.ErrInvalid
		}
		return ctx.Err()
	}
	folder := t.TempDir()
	e := explorertest.Open(t, b, folder)
	first := explorer.StartSearch{Target: search.Ratio(0.7), Seed: 3, Budget: explorer.Budget{Evaluations: 40}}
	explorertest.Do(t, e, first)
	if s := e.Snapshot(); s.Ended == nil || !reflect.DeepEqual(s.Ended.Search, recorded(first)) || s.Ended.Evaluated != s.Search.Evaluated {
		t.Fatalf("after the first: %+v", s.Ended)
	}
	refuse = true
	explorertest.Ended(t, e, start(t, e, explorer.StartSearch{Target: search.Ratio(0.6)}))
	if s := e.Snapshot(); s.Ended == nil || !reflect.DeepEqual(s.Ended.Search, recorded(first)) {
		t.Errorf("after one that was refused: %+v", s.Ended)
	}
	refuse = false
	again := first
	again.Resume, again.Budget.Evaluations = true, 60
	explorertest.Do(t, e, again)
	again.Resume = false
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = explorertest.Open(t, explorertest.New(), folder)
	if s := e.Snapshot(); s.Ended == nil || !reflect.DeepEqual(s.Ended.Search, recorded(again)) || s.Ended.Evaluated < 60 {
		t.Errorf("after the first was taken up, in another process: %+v", s.Ended)
	}
}

// recorded returns a search as its workspace has it.
func recorded(c explorer.StartSearch) explorer.StartSearch {
	c.Calibration.Draw, c.Calibration.DefaultTexts = explorer.DrawWhole, 2
	return c
}
