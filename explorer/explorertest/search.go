package explorertest

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// Bounds of what a fake search keeps.
const (
	population  = 12
	evaluations = 240 // where the budget has no limit
	cloud       = 400
	refitTime   = 20 * time.Second // expected
)

// Search moves MLP channels between layers and keeps what lowers the fake loss.
func (m *model) Search(ctx context.Context, r explorer.StartSearch, _ string, o explorer.Orders, mon explorer.Monitor) (explorer.Made, error) {
	if err := check(r); err != nil {
		return explorer.Made{}, err
	}
	if _, _, err := m.texts(r.Calibration); err != nil {
		return explorer.Made{}, err
	}
	limit := r.Budget.Evaluations
	if limit == 0 {
		limit = evaluations
	}
	s := searching{
		m: m, rng: rand.New(rand.NewPCG(r.Seed, 17)), target: m.share(cmp.Or(r.Retarget, r.Target)), began: m.b.Clock.Now(),
		view: explorer.Search{Strategy: cmp.Or(r.Strategy, "ladder"), Target: cmp.Or(r.Retarget, r.Target), Seed: r.Seed, Fitness: cmp.Or(r.Fitness, "kl"), DensePerplexity: math.Exp(denseNLL)},
	}
	if err := m.prepare(ctx, o, mon); err != nil {
		return explorer.Made{}, err
	}
	if s.typed = r.Typed(); s.typed {
		for i, name := range []string{"Q4_0", "Q5_0", "", "Q8_0"} {
			s.view.Plain = append(s.view.Plain, explorer.PlainType{Type: name, Bytes: int64(60+15*i) * 1e6, BitsPerByte: bits(denseNLL + 0.12/float64(i+1))})
		}
	}
	s.view.Workers, s.view.Async = workers(r.Machines), r.Machines.Async
	s.add(m.uniform(s.target), 0, "start", search.Seeded)
	for _, target := range []float64{0.5, 0.6, 0.7, 0.9, 1} {
		s.add(m.uniform(target), 0, "start", search.Seeded)
	}
	for s.evaluated < limit {
		for order, ok := o.Next(); ok; order, ok = o.Next() {
			s.obey(order)
		}
		mon.Phase(explorer.Phase{Number: 3, Of: 4, Name: "search", Left: time.Duration(r.Budget.Seconds * float64(time.Second)), After: refitTime})
		err := m.step(ctx, mon, s.evaluated, limit, "candidates", fmt.Sprintf("generation %d", s.view.Generation))
		if err != nil {
			o.Publish(s.snapshot())
			return s.made(), err
		}
		s.child()
		if s.evaluated%population == 0 {
			s.generation()
			if m.b.Write != nil {
				if err := mon.Persist(ctx, m.b.Write); err != nil {
					o.Publish(s.snapshot())
					return s.made(), err
				}
			}
		}
		o.Publish(s.snapshot())
	}
	o.Publish(s.snapshot())
	made := s.made()
	for i, g := range m.info.Geometry.Layers {
		mon.Layer(explorer.LayerProgress{
			Layer: i, Module: draft.MLP, Kept: made.Subnet.Masks.Layer(i).Channels.Len(), Of: g.FFN, ErrBefore: 0.1 / float64(i+1), ErrAfter: 0.04 / float64(i+1), Ridge: 0.1,
		})
	}
	return made, nil
}

// prepare makes fake levels of every module, and then measures their sensitivity.
func (m *model) prepare(ctx context.Context, o explorer.Orders, mon explorer.Monitor) error {
	n := subnet.Modules * m.info.Layers
	for i := range 2 * n {
		slot, layer, module := i%n, i%n/subnet.Modules, draft.Attention
		if slot%subnet.Modules == 1 {
			module = draft.MLP
		}
		p := explorer.Prepared{Levels: 17, Lost: 4 * weight(layer, m.info.Layers, module)}
		phase, unit := explorer.Phase{Number: 1, Of: 4, Name: "levels"}, "levels"
		if i >= n {
			p.Measured, p.Rise = true, 1.4*weight(layer, m.info.Layers, module)
			phase, unit = explorer.Phase{Number: 2, Of: 4, Name: "sensitivity"}, "sensitivities"
		}
		mon.Phase(phase)
		if err := m.step(ctx, mon, slot, n, unit, fmt.Sprintf("%s of layer %d", unit, layer)); err != nil {
			return err
		}
		o.Prepare(slot, p)
	}
	return nil
}

// check refuses what the real search refuses.
func check(r explorer.StartSearch) error {
	if _, err := search.New(r.Strategy); err != nil {
		return fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	if err := r.Target.Check(); err != nil || !slices.Contains([]string{"", "kl", "perplexity"}, r.Fitness) {
		return fmt.Errorf("%w: a search at %v by fitness %q", explorer.ErrInvalid, r.Target, r.Fitness)
	}
	return nil
}

// Prices implements [explorer.Searcher].
func (m *model) Prices(ctx context.Context, t search.Target, _ string, _ explorer.Monitor) (search.Prices, error) {
	return prices{sizes{}}, ctx.Err()
}

// prices are those of fake files. A third of the time of a token does not depend on the masks.
type prices struct{ sizes }

func (p prices) Bytes(m subnet.Masks, typ string) (file, tensors int64, err error) {
	size, err := p.Of(m, gguf.Refitted{}, typ)
	return size.File, size.Tensors, err
}

func (prices) Seconds(m subnet.Masks, _ string) (float64, bool) {
	return 0.01 * (1 + 2*m.Size().Ratio) / 3, true
}

// share is the ratio of the fake subnet for a target.
func (m *model) share(t search.Target) float64 {
	return (&search.Problem{Geometry: m.info.Geometry, Prices: prices{sizes{}}}).ShareOf(t)
}

// Assemble returns a candidate's masks, with a bias in one layer where the backend's Weights is set.
func (m *model) Assemble(_ context.Context, c explorer.Candidate, _ string) (gguf.Subnet, error) {
	s := gguf.Subnet{Masks: c.Masks}
	if m.b.Weights {
		s.Refit = make([]gguf.Refit, c.Masks.Layers())
		s.Refit[0].BD = slices.Repeat([]float32{0.25}, 576)
	}
	return s, nil
}

type searching struct {
	m         *model
	rng       *rand.Rand
	target    float64
	began     time.Time
	evaluated int
	all       []explorer.Candidate // population, best first
	front     []explorer.Candidate
	view      explorer.Search
	typed     bool // types are searched too
}

// bits returns the bits for each byte of text that a negative log-likelihood in nats per token is.
func bits(nll float64) float64 {
	const bytes = 4.4 // of a token
	return nll / math.Ln2 / bytes
}

func (s *searching) obey(order explorer.Order) {
	switch order := order.(type) {
	case explorer.Retarget:
		s.target, s.view.Target, s.all = s.m.share(order.Target), order.Target, nil
		s.event("target is now " + explorer.TargetName(order.Target))
		s.add(s.m.uniform(s.target), 0, "start", search.Seeded)
	case explorer.DrainWorker:
		s.view.Workers = slices.Clone(s.view.Workers)
		for i := range s.view.Workers {
			if s.view.Workers[i].ID == order.Worker {
				s.view.Workers[i].State = "gone"
			}
		}
	case explorer.Injection:
		s.event(order.Name + " was added to the population")
		s.add(order.Subnet.Masks, 0, "", search.ByHand)
	}
}

func (s *searching) event(text string) {
	s.view.Events = append(slices.Clone(s.view.Events), search.Event{At: s.m.b.Clock.Now(), Text: text})
}

// child scores a mutation of one of the better candidates.
func (s *searching) child() {
	parent := s.all[s.rng.IntN(min(3, len(s.all)))]
	if s.rng.IntN(4) == 0 {
		parent = s.front[s.rng.IntN(len(s.front))]
	}
	masks := parent.Masks
	up, down := s.rng.IntN(masks.Layers()), s.rng.IntN(masks.Layers())
	masks = s.move(s.move(masks, up, 32*s.rng.IntN(3)), down, -32*s.rng.IntN(3))
	s.add(masks, parent.ID, fmt.Sprintf("L%d↑ L%d↓", up, down), search.Mutated)
}

func (s *searching) move(m subnet.Masks, layer, by int) subnet.Masks {
	l := m.Layer(layer)
	n := l.Channels.N()
	keep := min(max(l.Channels.Len()+by, 32), n)
	l.Channels = subnet.Of(n, draft.Rank(scores(layer, n))[:keep]...)
	return m.With(layer, l)
}

func (s *searching) add(masks subnet.Masks, parent int, moves string, origin search.Origin) {
	s.evaluated++
	size := masks.Size()
	kl := Loss(masks) * (1 + 0.02*s.rng.NormFloat64())
	c := explorer.Candidate{
		Individual: search.Individual{
			Candidate: search.Candidate{Masks: masks}, ID: 1000 + s.evaluated, Parent: parent, Generation: s.view.Generation, Origin: origin,
			Moves: moves, Ratio: size.Ratio, Score: search.Score{Fitness: kl, KL: kl, NLL: denseNLL + kl}, Tier: 1 + s.evaluated%3,
		},
		ShareAll: size.RatioAll, Bytes: s.m.info.FileSize(masks, "").File, Tiers: 3,
	}
	if s.typed {
		c.BitsPerByte = bits(c.Score.NLL)
	}
	if math.Abs(c.Ratio-s.target) < 0.005 || len(s.all) == 0 || origin == search.ByHand {
		s.all = append(slices.Clone(s.all), c)
		slices.SortStableFunc(s.all, func(a, b explorer.Candidate) int { return cmp.Compare(a.Score.Fitness, b.Score.Fitness) })
		s.all = s.all[:min(len(s.all), population)]
	}
	s.view.Cloud = append(slices.Clone(s.view.Cloud), search.Point{ID: c.ID, Ratio: c.Ratio, Fitness: kl, NLL: c.Score.NLL, Tier: c.Tier})
	s.view.Cloud = s.view.Cloud[max(0, len(s.view.Cloud)-cloud):]
	s.front = merge(s.front, c)
}

// workers are the fake workers of a search: those of this machine, or one elsewhere.
func workers(m explorer.Machines) []explorer.Worker {
	if !m.On() {
		return nil
	}
	out := make([]explorer.Worker, max(1, m.Workers))
	for i := range out {
		out[i] = explorer.Worker{ID: fmt.Sprintf("local-%d", i+1), Host: "machine", Device: "go", State: "scoring", PerMinute: 15.5}
	}
	return out
}

// merge adds a candidate to a Pareto front, smallest first.
func merge(front []explorer.Candidate, c explorer.Candidate) []explorer.Candidate {
	for _, f := range front {
		if f.Ratio <= c.Ratio && f.Score.Fitness <= c.Score.Fitness {
			return front
		}
	}
	front = slices.DeleteFunc(slices.Clone(front), func(f explorer.Candidate) bool { return f.Ratio >= c.Ratio && f.Score.Fitness >= c.Score.Fitness })
	front = append(front, c)
	slices.SortFunc(front, func(a, b explorer.Candidate) int { return cmp.Compare(a.Ratio, b.Ratio) })
	return front
}

func (s *searching) generation() {
	s.view.Generation++
	s.view.History = append(slices.Clone(s.view.History), search.Generation{
		Number: s.view.Generation, Best: s.all[0].Score.Fitness, Median: s.all[len(s.all)/2].Score.Fitness,
		Spent: search.Spent{Evaluations: s.evaluated, Tokens: int64(s.evaluated) * 2048}, Elapsed: s.m.b.Clock.Now().Sub(s.began),
	})
}

// best is the first of the population that is within the target: injected ones need not be.
func (s *searching) best() explorer.Candidate {
	i := slices.IndexFunc(s.all, func(c explorer.Candidate) bool { return c.Ratio < s.target+0.005 })
	return s.all[max(i, 0)]
}

func (s *searching) snapshot() explorer.Search {
	v := s.view
	best := s.best()
	v.Best, v.Population, v.Front, v.Evaluated, v.Tokens = &best, s.all, s.front, s.evaluated, int64(s.evaluated)*2048
	v.PerMinute, v.PrefixReuse, v.TierHits = 31, 0.58, 0.81
	if n := len(v.Workers); n > 0 {
		v.Queued, v.Workers = 2*n, slices.Clone(v.Workers)
		v.GivenUp = []string{"candidate 0a1b2c3d (0.800 of the block parameters): 3 workers could not score it"}
		for i := range v.Workers {
			v.Workers[i].Scored = s.evaluated / n
		}
	}
	v.Elapsed = s.m.b.Clock.Now().Sub(s.began)
	return v
}

func (s *searching) made() explorer.Made {
	masks := s.best().Masks
	refit := make([]gguf.Refit, masks.Layers())
	refit[0].BD = slices.Repeat([]float32{0.125}, masks.Geometry().Hidden)
	return explorer.Made{Subnet: gguf.Subnet{Masks: masks, Refit: refit}, Before: math.Exp(denseNLL + 1.6*Loss(masks)), After: math.Exp(denseNLL + Loss(masks)), Dense: math.Exp(denseNLL), Method: explorer.Method{
		Preset: s.view.Strategy, Seed: s.view.Seed, Tokens: int64(s.evaluated) * 2048,
	}.AimedAt(s.view.Target)}
}
