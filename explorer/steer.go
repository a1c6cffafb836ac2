package explorer

import (
	"context"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"
)

// steer carries out a command on the running search, or on what the last one found.
func (e *Exploration) steer(ctx context.Context, a Actor, c Command) (Receipt, error) {
	switch c := c.(type) {
	case Retarget:
		if err := checkRatio("target", c.Target); err != nil {
			return Receipt{}, err
		}
		return Receipt{}, e.order(c)
	case Inject:
		subject, err := e.subject(ctx, c.Subnet)
		if err != nil {
			return Receipt{}, err
		}
		return Receipt{}, e.order(Injection{Name: e.Snapshot().label(c.Subnet), Subnet: subject})
	case Adopt:
		return e.adopt(a, c)
	}
	return Receipt{}, fmt.Errorf("%w: unknown command %T", ErrInvalid, c)
}

// adopt puts a candidate as it is now into the library; the job only fetches its re-fitted weights.
func (e *Exploration) adopt(a Actor, c Adopt) (Receipt, error) {
	s := e.Snapshot()
	if s.Workspace.ReadOnly {
		return Receipt{}, fmt.Errorf("%w (%s)", ErrReadOnly, s.Workspace.Holder)
	}
	found, ok := s.Search.Candidate(c.Candidate)
	if !ok {
		return Receipt{}, fmt.Errorf("candidate %d: %w", c.Candidate, ErrNotFound)
	}
	method := Method{Preset: s.Search.Strategy, Target: s.Search.Target, Seed: s.Search.Seed}
	job := Job{Author: a.Name, Kind: JobAdopt, Title: fmt.Sprintf("adopt #%d", found.ID)}
	id, err := e.start(jobs.Foreground, job, func(ctx context.Context, m *monitor) error {
		subnet, err := e.model.Assemble(ctx, found, e.folder("search"))
		if err != nil {
			return err
		}
		return e.keep(a, m, Made{Subnet: subnet, Method: method}, Subnet{Name: c.Name, Origin: Searched})
	})
	return Receipt{Job: id}, err
}

// Candidate finds a candidate of the front or the population; 0 is the best.
func (s Search) Candidate(id int) (Candidate, bool) {
	if id == 0 {
		if s.Best == nil {
			return Candidate{}, false
		}
		return *s.Best, true
	}
	for _, list := range [][]Candidate{s.Population, s.Front} {
		if i := slices.IndexFunc(list, func(c Candidate) bool { return c.ID == id }); i >= 0 {
			return list[i], true
		}
	}
	return Candidate{}, false
}
