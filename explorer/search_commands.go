package explorer

import (
	"context"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/search"
)

// checkSettings reports options that the strategy does not have, or values that they cannot have.
func (c StartSearch) checkSettings() error {
	if c.Set == "" {
		return nil
	}
	s, err := search.New(c.Strategy)
	if err == nil {
		err = search.Set(s, c.Set)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func (c Retarget) do(_ context.Context, e *Exploration, _ Actor) (Receipt, error) {
	if err := checkRatio("target", c.Target); err != nil {
		return Receipt{}, err
	}
	return Receipt{}, e.order(c)
}

func (c Inject) do(ctx context.Context, e *Exploration, _ Actor) (Receipt, error) {
	sub, err := e.loadSubnet(ctx, c.Subnet)
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{}, e.order(Injection{Name: e.Snapshot().label(c.Subnet), Subnet: sub})
}

// do adds a candidate as it is now to the library; the job only fetches its re-fitted weights.
func (c Adopt) do(_ context.Context, e *Exploration, a Actor) (Receipt, error) {
	s := e.Snapshot()
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
