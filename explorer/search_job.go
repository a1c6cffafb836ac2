package explorer

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/search"
)

// Unfinished is a search that has started and has neither ended by itself nor been stopped by a person: the one that runs
// or, if none does, the one that the end of a process interrupted.
type Unfinished struct {
	Search StartSearch
	Author string
	Paused bool // a person paused it
}

// EndedSearch is a search that ended by itself or was stopped, and whose checkpoint is in the workspace: it can be resumed
// with the same settings and a larger budget.
type EndedSearch struct {
	Search    StartSearch   // as requested
	Target    search.Target // at its end, after any Retarget
	Evaluated int           // candidates scored
	Elapsed   time.Duration
	At        time.Time
}

// searchRecord is the search under way or, if that is nil, the one that can be resumed.
type searchRecord struct {
	UnderWay *Unfinished  `json:"under_way,omitempty"`
	Ended    *EndedSearch `json:"ended,omitempty"`
}

// ResumeSearch resumes the search that the end of an earlier process interrupted, if there is one: from its last checkpoint,
// in the name of its author, and paused if it was paused.
func (e *Exploration) ResumeSearch(ctx context.Context) error {
	s := e.Snapshot()
	if s.Unfinished == nil || s.Workspace.ReadOnly {
		return nil
	}
	u := *s.Unfinished
	u.Search.Resume, u.Search.Target = true, search.Target{} // it has one
	a := Actor{Name: u.Author, Role: RoleEditor}
	r, err := e.Do(ctx, a, u.Search)
	if err == nil && u.Paused {
		_, err = e.Do(ctx, a, PauseJob{Job: r.Job})
	}
	return err
}

// search runs a search, and records its start and its end.
func (e *Exploration) search(ctx context.Context, a Actor, c StartSearch, m *monitor) error {
	u := Unfinished{Search: c, Author: a.Name}
	var before *EndedSearch
	err := m.Persist(ctx, func() error {
		return e.record(ctx, a, func(s *Snapshot) ([]record, error) {
			before, u.Paused = s.Ended, m.task.Paused()
			return []record{{Search: &searchRecord{UnderWay: &u}}}, nil
		})
	})
	if err != nil {
		return err
	}
	answers := e.answerBest(ctx, c, m)
	made, err := e.model.Search(ctx, c, e.folder("search"), m, m)
	answers.stop()
	e.update(SectionSearch, func(s *Snapshot) {
		if s.Search.Job == m.id {
			s.Search.Workers, s.Search.Queued = nil, 0 // they have ended with it
		}
	})
	if shown := e.Snapshot().Search; shown.Job == m.id {
		if kept := m.Persist(ctx, func() error { return e.keepSearch(shown) }); kept != nil {
			m.unkeptNote(kept)
		}
	}
	stopped := errors.Is(context.Cause(ctx), jobs.ErrStopped)
	if err != nil && ctx.Err() != nil && !stopped {
		return err // the process ends, the search does not
	}
	over := record{Search: &searchRecord{Ended: e.ended(c, m)}}
	if errors.Is(err, ErrInvalid) { // refused before it changed the files of an earlier one
		over.Search.Ended = before
	}
	if made.Subnet.Masks.Layers() > 0 && (err == nil || stopped) {
		// A stopped search keeps what it found. One that was resumed and found nothing better has its result in the library.
		if n, ok := e.Snapshot().found(made); ok {
			m.show(func(j *Job) { j.Result = n.ID })
			e.endReform(m, n.ID, made)
			err = errors.Join(err, m.record(ctx, a, func(*Snapshot) ([]record, error) { return []record{over}, nil }))
			answers.last(ctx, n.ID)
			e.showResult(m)
			return err
		}
		err = errors.Join(err, m.Persist(ctx, func() error { return e.keep(a, m, made, Subnet{Origin: Searched}, over) }))
		j, _ := e.Snapshot().Job(m.id)
		answers.last(ctx, j.Result)
		e.showResult(m)
		return err
	}
	return errors.Join(err, m.record(ctx, a, func(*Snapshot) ([]record, error) { return []record{over}, nil }))
}

// found returns the subnet of the library that an earlier part of the same search ended with, if that equals what it ends with now.
func (s *Snapshot) found(made Made) (Subnet, bool) {
	i := slices.IndexFunc(s.Subnets, func(n Subnet) bool {
		return n.Origin == Searched && n.Masks.Layers() > 0 && n.Method.Preset == made.Method.Preset && n.Method.Seed == made.Method.Seed && (n.Refit != "") == hasRefit(made.Subnet) &&
			n.HeldOut.Unfitted == made.Before && n.HeldOut.Perplexity == made.After && n.Masks.Equal(made.Subnet.Masks)
	})
	if i < 0 {
		return Subnet{}, false
	}
	return s.Subnets[i], true
}

// showResult links the subnet that a search has ended with to the candidate it was made from.
func (e *Exploration) showResult(m *monitor) {
	j, _ := e.Snapshot().Job(m.id)
	e.update(SectionSearch, func(s *Snapshot) {
		if s.Search.Job == m.id && s.Search.Best != nil && j.Result != "" {
			s.Search.Result, s.Search.ResultOf = j.Result, s.Search.Best.ID
		}
	})
	if s := e.Snapshot().Search; s.Job == m.id {
		m.keepSearch(s)
	}
}

// ended describes a search that has just ended, nil if it scored nothing or has no folder.
func (e *Exploration) ended(c StartSearch, m *monitor) *EndedSearch {
	s := e.Snapshot().Search
	if s.Job != m.id || s.Evaluated == 0 || e.folder("search") == "" {
		return nil
	}
	c.Resume, c.Retarget = false, search.Target{}
	if answers := e.Snapshot().Answers; answers.Job == m.id {
		c.Prompt = answers.Prompt
	}
	return &EndedSearch{Search: c, Target: s.Target, Evaluated: s.Evaluated, Elapsed: s.Elapsed, At: e.now().UTC()}
}

func (c PauseJob) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.pause(ctx, a, c.Job, true)
}

func (c ResumeJob) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.pause(ctx, a, c.Job, false)
}

func (c StopJob) do(_ context.Context, e *Exploration, _ Actor) (Receipt, error) {
	return Receipt{Job: c.Job}, e.jobs.Stop(string(c.Job))
}

// pause pauses or resumes a job, and records whether the search under way is paused.
func (e *Exploration) pause(ctx context.Context, a Actor, id JobID, paused bool) (Receipt, error) {
	if err := e.jobs.Pause(string(id), paused); err != nil {
		return Receipt{}, err
	}
	return Receipt{Job: id}, e.record(ctx, a, func(s *Snapshot) ([]record, error) {
		j, _ := s.Job(id)
		if j.Kind != JobSearch || j.State == Queued || s.Unfinished == nil || s.Unfinished.Paused == paused {
			return nil, nil
		}
		u := *s.Unfinished
		u.Paused = paused
		return []record{{Search: &searchRecord{UnderWay: &u}}}, nil
	})
}
