package explorer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// checkSettings reports options that the strategy does not have, or values that they cannot have.
func (c StartSearch) checkSettings() error {
	if c.Reform.Gradient != nil && *c.Reform.Gradient > 0 {
		return fmt.Errorf("%w: searches do not re-fit by gradient: lathe reform does with what they find", ErrInvalid)
	}
	if c.Typed() {
		if t := cmp.Or(c.Retarget, c.Target); t.Measure != search.Bytes && t.Measure != search.Memory || t.Type != "" {
			return fmt.Errorf("%w: types and the vocabulary are searched for a size such as 60MB or a memory such as memory=512MB@4096, without a type, not for %s", ErrInvalid, TargetName(t))
		}
		if c.Machines.On() {
			return fmt.Errorf("%w: types and the vocabulary are searched without workers", ErrInvalid)
		}
		if c.Up != nil && *c.Up > 0 || c.Reform.Up != nil && *c.Reform.Up > 0 {
			return fmt.Errorf("%w: W_U is not re-fitted when matrices are rounded", ErrInvalid)
		}
		for _, name := range c.Types {
			if _, err := subnet.ParseType(name); err != nil && !AutoTypes(c.Types) {
				return fmt.Errorf("%w: %w", ErrInvalid, err)
			}
		}
	}
	if c.LevelsSpace < 0 {
		return fmt.Errorf("%w: %d bytes of disk for levels", ErrInvalid, c.LevelsSpace)
	}
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

// Typed reports whether types of matrices or the vocabulary are searched.
func (c StartSearch) Typed() bool { return len(c.Types) > 0 || c.Vocab.On() }

// resumed completes a search that is to be resumed with the settings of the last one, if there is one.
func (s *Snapshot) resumed(c StartSearch) (StartSearch, error) {
	var last StartSearch
	var target search.Target // at its end
	switch {
	case s.Unfinished != nil:
		last = s.Unfinished.Search
		target = cmp.Or(last.Retarget, last.Target)
		if c.Budget == (Budget{}) {
			c.Budget = last.Budget
		}
		if c.Retarget == (search.Target{}) {
			c.Retarget = last.Retarget
		}
	case s.Ended != nil:
		last, target = s.Ended.Search, s.Ended.Target
	default:
		return c, nil
	}
	last.Calibration = last.Calibration.stored()
	if c := &last.Calibration; c.Text == "" && len(c.Mix) == 0 && c.DefaultTexts < defaultTexts {
		c.Mix = firstMix()
	}
	for _, setting := range []struct {
		name      string
		own, took string
	}{
		{"strategy", strategyName(last.Strategy), strategyName(cmp.Or(c.Strategy, last.Strategy))},
		{"fitness", last.Fitness, cmp.Or(c.Fitness, last.Fitness)},
		{"seed", fmt.Sprint(last.Seed), fmt.Sprint(cmp.Or(c.Seed, last.Seed))},
		{"text", last.Calibration.Texts(), cmp.Or(c.Calibration.Texts(), last.Calibration.Texts())},
		{"draw", last.Calibration.Draw, cmp.Or(c.Calibration.Draw, last.Calibration.Draw)},
		{"windows", fmt.Sprint(last.Calibration.Windows), fmt.Sprint(cmp.Or(c.Calibration.Windows, last.Calibration.Windows))},
		{"tokens per window", fmt.Sprint(last.Calibration.Seq), fmt.Sprint(cmp.Or(c.Calibration.Seq, last.Calibration.Seq))},
		{"types", strings.Join(last.Types, ","), cmp.Or(strings.Join(c.Types, ","), strings.Join(last.Types, ","))},
		{"vocabulary", last.Vocab.String(), cmp.Or(c.Vocab.String(), last.Vocab.String())},
		{"granularity", fmt.Sprint(last.Granularity), fmt.Sprint(cmp.Or(c.Granularity, last.Granularity))},
	} {
		if setting.took != setting.own {
			return c, fmt.Errorf("%w: the search to resume has the %s %q, not %q: leave it out, or start another search", ErrInvalid, setting.name, setting.own, setting.took)
		}
	}
	if c.Target != (search.Target{}) && c.Target != target {
		c.Retarget = c.Target
	}
	c.Strategy, c.Target, c.Fitness, c.Seed, c.Calibration = last.Strategy, last.Target, last.Fitness, last.Seed, last.Calibration
	c.Set, c.Granularity = cmp.Or(c.Set, last.Set), last.Granularity
	c.Types, c.Vocab = last.Types, last.Vocab
	c.LevelsSpace = cmp.Or(c.LevelsSpace, last.LevelsSpace)
	c.Machines = cmp.Or(c.Machines, last.Machines)
	c.Prompt = cmp.Or(c.Prompt, last.Prompt)
	if c.Reform == (ReformOptions{}) {
		c.Reform = last.Reform
	}
	if c.Up == nil {
		c.Up = last.Up
	}
	return c, nil
}

// strategyName resolves the default strategy.
func strategyName(s string) string { return cmp.Or(s, "ladder") }

func (c Retarget) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	if err := checkTarget(c.Target); err != nil {
		return Receipt{}, err
	}
	if err := e.order(c); err != nil {
		return Receipt{}, err
	}
	if m, ok := e.jobs.Running(jobs.Background).(*monitor); ok {
		m.show(func(j *Job) { j.Title = "search at " + TargetName(c.Target) })
	}
	// A process that ends before the search has changed its target resumes it with the new one.
	return Receipt{}, e.record(ctx, a, func(s *Snapshot) ([]record, error) {
		if s.Unfinished == nil || cmp.Or(s.Unfinished.Search.Retarget, s.Unfinished.Search.Target) == c.Target {
			return nil, nil
		}
		u := *s.Unfinished
		u.Search.Retarget = c.Target
		return []record{{Search: &searchRecord{UnderWay: &u}}}, nil
	})
}

func (c Inject) do(ctx context.Context, e *Exploration, _ Actor) (Receipt, error) {
	sub, err := e.loadSubnet(ctx, c.Subnet)
	if err != nil {
		return Receipt{}, err
	}
	sub.Masks = sub.Masks.WithAllVocab() // which searches score on
	return Receipt{}, e.order(Injection{Name: e.Snapshot().label(c.Subnet), Subnet: sub})
}

// do adds a candidate as it is now to the library; the job only fetches its re-fitted weights.
func (c Adopt) do(_ context.Context, e *Exploration, a Actor) (Receipt, error) {
	s := e.Snapshot()
	target := cmp.Or(c.Target, s.Search.Target)
	found, ok := s.Search.Candidate(c.Candidate)
	title := fmt.Sprintf("adopt #%d", found.ID)
	chosen := c.Candidate == 0 && c.Target != (search.Target{}) // from the front, by the job
	if chosen {
		if err := checkTarget(c.Target); err != nil {
			return Receipt{}, err
		}
		title, ok = "adopt the best for "+target.Text(), len(s.Search.Front) > 0
	}
	if !ok {
		return Receipt{}, fmt.Errorf("candidate %d: %w", c.Candidate, ErrNotFound)
	}
	method := Method{Preset: s.Search.Strategy, Seed: s.Search.Seed}.AimedAt(target)
	job := Job{Author: a.Name, Kind: JobAdopt, Title: title}
	id, err := e.start(jobs.Foreground, job, func(ctx context.Context, m *monitor) error {
		if chosen {
			var err error
			if found, err = e.bestOfFront(ctx, target, s.Search.Front, m); err != nil {
				return err
			}
		}
		subnet, err := e.model.Assemble(ctx, found, e.folder("search"))
		if err != nil {
			return err
		}
		return m.Persist(ctx, func() error {
			return e.keep(a, m, Made{Subnet: subnet, Method: method}, Subnet{Name: c.Name, Origin: Searched})
		})
	})
	return Receipt{Job: id}, err
}

// Kept returns the subnet of the library that was made from a candidate of the search: the one with re-fitted weights where
// there is one with the candidate's masks, or the search has ended with one.
func (s *Snapshot) Kept(c Candidate) (n Subnet, ok bool) {
	if result, there := s.Subnet(s.Search.Result); there && c.ID == s.Search.ResultOf && result.Deleted.IsZero() {
		return result, true
	}
	for _, other := range s.Subnets {
		if s.Model.MadeOf(other, c) && (other.Refit != "" || !ok && other.Origin == Searched) {
			n, ok = other, true
			if n.Refit != "" {
				break
			}
		}
	}
	return n, ok
}

// MadeOf reports whether a subnet has the masks of a candidate and, where the candidate's matrices have types of their own, as many bytes in
// its own types.
func (m *ModelInfo) MadeOf(n Subnet, c Candidate) bool {
	if c.Masks.Layers() == 0 || n.Masks.Layers() != c.Masks.Layers() || !n.Masks.Equal(c.Masks) {
		return false
	}
	typed := c.typedSize()
	if typed == nil || n.Types == nil {
		return typed == nil && n.Types == nil
	}
	return m.SubnetSize(&n).Tensors == typed.Tensors
}

// Refitted returns a subnet of the library with the masks of n and re-fitted weights, if n has none itself.
func (s *Snapshot) Refitted(n Subnet) (Subnet, bool) {
	if n.Refit != "" || n.Masks.Layers() == 0 {
		return Subnet{}, false
	}
	i := slices.IndexFunc(s.Subnets, func(o Subnet) bool { return o.Refit != "" && o.Masks.Layers() > 0 && o.Masks.Equal(n.Masks) })
	if i < 0 {
		return Subnet{}, false
	}
	return s.Subnets[i], true
}

// bestOfFront returns the best candidate of a front that is within a target.
func (e *Exploration) bestOfFront(ctx context.Context, t search.Target, front []Candidate, m Monitor) (Candidate, error) {
	prices, err := e.model.Prices(ctx, t, e.folder("search"), m)
	if err != nil {
		return Candidate{}, err
	}
	all := make([]search.Individual, len(front))
	for i, c := range front {
		all[i] = c.Individual
	}
	i, err := search.Best(all, t, prices)
	if err != nil {
		return Candidate{}, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return front[i], nil
}

func checkTarget(t search.Target) error {
	if err := t.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
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
