package search

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// Paper is the evolution of Shen et al., "Search for Efficient Large Language
// Models", arXiv 2409.17372, section 3: a population of masks, of which every
// epoch keeps the best K and makes mutations and crossovers of them. Fields have
// the paper's names. Candidates keep their original weights; reformation follows
// the search.
type Paper struct {
	N      int // population
	Nm     int // mutations per epoch
	Nc     int // crossovers per epoch; the rest of N are new individuals
	K      int // the best that are kept as parents
	Epochs int
	// P0m, P0s, P0d are the probabilities of mask, ratio and depth mutation of new
	// individuals, which start from the one-shot masks; Pm, Ps, Pd those of mutations.
	P0m, P0s, P0d float64
	Pm, Ps, Pd    float64
	Alpha         float64 // similarity of a redrawn mask with the old one
	Eta           int     // draws that are tried to reach it, with Literal
	// Directed, the default, and Literal are how Alpha is read: see
	// [space.Mutation].
	Directed bool
	Literal  bool `json:",omitempty"`
	// Range is how far below the target a candidate may be, as a share of it;
	// others are dropped unscored.
	Range float64
	// Tokens of text that the fitness is taken on.
	Tokens int
	// Granularity and HeadGranularity are what the numbers of kept MLP and
	// in-head channels are multiples of; 1 in the paper.
	Granularity, HeadGranularity int

	// How the weights of the result are re-fitted, after the search: the masks stay
	// as they are. Rho and Steps are those of ADMM.
	Refit string  `json:"-"` // RefitADMM, RefitExact, RefitLathe or RefitNone
	Rho   float64 `json:"-"`
	Steps int     `json:"-"`
}

// The ways to re-fit what [Paper] has found.
const (
	RefitADMM  = "admm"  // the paper's iteration, toward the original outputs
	RefitExact = "exact" // its limit, by one factorisation
	RefitLathe = "lathe" // as after the other strategies, toward the dense residual stream
	RefitNone  = "none"  // the original weights
)

// PaperFull returns the paper's figures: 50 epochs of 100 candidates on five
// samples of 2048 tokens.
func PaperFull() *Paper {
	return &Paper{
		N: 100, Nm: 50, Nc: 30, K: 10, Epochs: 50,
		P0m: 0.6, P0s: 0.3, Pm: 0.3, Ps: 0.1, Pd: 0.1,
		Alpha: 0.8, Eta: 1000, Directed: true, Range: 0.02, Tokens: 5 * 2048,
		Granularity: 1, HeadGranularity: 1,
		Refit: RefitADMM, Rho: 1, Steps: 30,
	}
}

// PaperLaptop returns the same search in a size for a laptop: a fifth of the
// population, twenty epochs, a tenth of the text, and MLP widths that quantised
// files can hold.
func PaperLaptop() *Paper {
	p := PaperFull()
	p.N, p.Nm, p.Nc, p.K, p.Epochs = 20, 10, 6, 5, 20
	p.Tokens, p.Granularity = 1024, subnet.DefaultGranularity
	return p
}

// PaperPlus returns [PaperFull] with the re-fit of the other strategies at the end,
// so that search and re-fit can be compared separately.
func PaperPlus() *Paper {
	p := PaperFull()
	p.Refit = RefitLathe
	return p
}

// PaperState is what [Paper] knows besides its population.
type PaperState struct {
	Top []Individual `json:"-"` // the best K so far, best first
	// Seen are the fingerprints of all masks scored; none is scored twice.
	Seen []uint64
	// Barren counts the individuals for which no masks within the range were found,
	// nor new ones in their place.
	Barren int
}

func (p PaperState) clone() PaperState {
	p.Top, p.Seen = slices.Clone(p.Top), slices.Clone(p.Seen)
	return p
}

// maxTries bounds how often a child outside the range is drawn again.
const maxTries = 200

// Phases of a generation, each with its own RNG.
const (
	phaseFresh = iota
	phaseChild
	phaseCross
	phaseStart
)

// Name returns "paper".
func (s *Paper) Name() string { return "paper" }

// UsesLevels implements [Strategy].
func (s *Paper) UsesLevels() bool { return false }

// LimitText implements [Strategy].
func (s *Paper) LimitText(tokens int) int {
	s.Tokens = min(s.Tokens, tokens)
	return s.Tokens
}

// space returns the paper's search space for a target.
func (s *Paper) space(p *Problem, t Target) space.Space {
	bounds := space.PaperSpace(p.Geometry, p.ShareOf(t))
	bounds.Granularity, bounds.HeadGranularity = s.Granularity, s.HeadGranularity
	return bounds
}

// Check reports options or a target that the strategy cannot work with.
func (s *Paper) Check(p *Problem, t Target) error {
	if s.N < 1 || s.Nm < 0 || s.Nc < 0 || s.Nm+s.Nc > s.N {
		return fmt.Errorf("%w: population %d with mutations %d and crossovers %d: the population is at least 1 and holds both", ErrConfig, s.N, s.Nm, s.Nc)
	}
	if s.K < 1 || s.Tokens < 1 || s.Range <= 0 || s.Eta < 0 {
		return fmt.Errorf("%w: paper with k %d, range %v, eta %d, %d tokens", ErrConfig, s.K, s.Range, s.Eta, s.Tokens)
	}
	for _, v := range []float64{s.P0m, s.P0s, s.P0d, s.Pm, s.Ps, s.Pd, s.Alpha} {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("%w: paper with a probability of %v", ErrConfig, v)
		}
	}
	if err := p.checkTarget(t); err != nil {
		return err
	}
	if cost := p.cost(t, s.smallest(p, t)); !t.allows(cost) {
		return t.unreachable(cost)
	}
	return nil
}

// smallest returns masks of the least ratios and depth of the space.
func (s *Paper) smallest(p *Problem, t Target) subnet.Masks {
	bounds := s.space(p, t)
	m := uniform(p.Geometry, bounds, bounds.Attention.Lo, bounds.MLP.Lo)
	for i, g := range p.Geometry.Layers[:len(p.Geometry.Layers)-bounds.MinLayers] {
		m = m.With(i, subnet.Layer{Heads: subnet.Empty(g.Heads), Channels: subnet.Empty(g.FFN)})
	}
	return m
}

// uniform returns masks of the first channels of every head and MLP.
func uniform(g *subnet.Geometry, bounds space.Space, attention, mlp float64) subnet.Masks {
	m := subnet.Dense(g)
	in := subnet.Range(g.HeadDim, 0, subnet.Count(g.HeadDim, attention, bounds.HeadGranularity))
	for i, lg := range g.Layers {
		l := subnet.DenseLayer(lg)
		if lg.FFN > 0 {
			l.Channels = subnet.Range(lg.FFN, 0, subnet.Count(lg.FFN, mlp, bounds.Granularity))
		}
		l.QK = slices.Repeat([]subnet.Set{in}, lg.KVHeads)
		l.VO = l.QK
		m = m.With(i, l)
	}
	return m
}

// base returns the one-shot masks for a target: the largest ratio that fits, the
// same in every block as far as the space contains it.
func (s *Paper) base(p *Problem, t Target) (subnet.Masks, error) {
	bounds := s.space(p, t)
	fits := func(m subnet.Masks) bool { return t.allows(p.cost(t, m)) }
	const steps = 256
	for step := steps; step > 0; step-- {
		ratio := float64(step) / steps
		attention, mlp := max(ratio, bounds.Attention.Lo), max(ratio, bounds.MLP.Lo)
		m := uniform(p.Geometry, bounds, attention, mlp)
		if !fits(m) {
			continue
		}
		if p.Start == nil {
			return shuffled(p.rng(0, phaseStart), m), nil
		}
		m, err := p.Start(bounds, attention, mlp)
		if err != nil || fits(m) {
			return m, err
		}
	}
	// The target needs fewer layers: the smallest widths, the first layers dropped.
	return s.smallest(p, t), nil
}

// shuffled returns masks with as many units as m, chosen at random.
func shuffled(rng *rand.Rand, m subnet.Masks) subnet.Masks {
	for i := range m.Layers() {
		l := m.Layer(i)
		l.Channels = subnet.Full(l.Channels.N()).Sample(rng, l.Channels.Len())
		var in []subnet.Set
		for _, set := range l.VO {
			in = append(in, subnet.Full(set.N()).Sample(rng, set.Len()))
		}
		l.QK, l.VO = in, in
		m = m.With(i, l)
	}
	return m
}

// Start scores the one-shot masks.
func (s *Paper) Start(ctx context.Context, p *Problem, eval Scorer) (State, error) {
	g := &generation{p: p, eval: eval, full: 1, s: State{Target: p.Target, Paper: &PaperState{}}}
	base, err := s.base(p, p.Target)
	if err != nil {
		return State{}, err
	}
	first := g.individual(Candidate{Masks: base}, 0, Seeded, "one-shot")
	g.s.Paper.Seen = append(g.s.Paper.Seen, fingerprint(base))
	if err := s.epoch(ctx, g, []Individual{first}); err != nil {
		return State{}, err
	}
	g.s.close()
	return g.s, nil
}

// Step runs one epoch.
func (s *Paper) Step(ctx context.Context, p *Problem, state State, eval Scorer) (State, error) {
	g := &generation{p: p, s: state.clone(), eval: eval, full: 1}
	base, err := s.base(p, g.s.Target)
	if err != nil {
		return State{}, err
	}
	batch := s.injected(g)
	if len(g.s.Paper.Top) == 0 && g.unseen(base) {
		batch = append(batch, g.individual(Candidate{Masks: base}, 0, Seeded, "one-shot"))
	}
	batch = s.breed(g, batch, base)
	if err := s.epoch(ctx, g, batch); err != nil {
		return State{}, err
	}
	g.s.close()
	if s.Epochs > 0 && g.s.Generation > s.Epochs {
		g.s.Done = fmt.Sprintf("all %d epochs are completed", s.Epochs)
	}
	return g.s, nil
}

// injected returns the pending subnets made by hand that have not been scored.
func (s *Paper) injected(g *generation) []Individual {
	var batch []Individual
	for _, in := range g.s.Pending {
		if g.unseen(in.Masks) {
			batch = append(batch, in)
		}
	}
	g.s.Pending = nil
	return batch
}

// unseen reports whether masks have not been scored yet, and remembers them.
func (g *generation) unseen(m subnet.Masks) bool {
	f := fingerprint(m)
	if slices.Contains(g.s.Paper.Seen, f) {
		return false
	}
	g.s.Paper.Seen = append(g.s.Paper.Seen, f)
	return true
}

// breed adds mutations and crossovers of the best, and new individuals until there
// are N.
func (s *Paper) breed(g *generation, batch []Individual, base subnet.Masks) []Individual {
	bounds, top := s.space(g.p, g.s.Target), g.s.Paper.Top
	mutation := space.Mutation{Pm: s.Pm, Ps: s.Ps, Pd: s.Pd, Alpha: s.Alpha, Eta: s.Eta, Directed: s.Directed, Literal: s.Literal}
	initial := mutation
	initial.Pm, initial.Ps, initial.Pd = s.P0m, s.P0s, s.P0d
	fresh, child, cross := g.rng(phaseFresh), g.rng(phaseChild), g.rng(phaseCross)

	add := func(o Origin, draw func() (m subnet.Masks, parent int, how string)) bool {
		for range maxTries {
			m, parent, how := draw()
			if !bounds.Contains(m) || m.Validate() != nil || !s.inRange(g, m) || !g.unseen(m) {
				continue
			}
			batch = append(batch, g.individual(Candidate{Masks: m}, parent, o, how))
			return true
		}
		return false
	}
	children := 0
	mutations, crossovers := s.Nm, s.Nc
	if len(top) == 0 || g.s.Generation == 1 {
		mutations, crossovers = 0, 0 // the first population is drawn from the one-shot masks
	}
	for range mutations {
		found := add(Mutated, func() (subnet.Masks, int, string) {
			parent := top[child.IntN(len(top))]
			m := bounds.Mutate(child, parent.Masks, base, mutation)
			return m, parent.ID, differs(parent.Masks, m)
		})
		if found {
			children++
		}
	}
	for range crossovers {
		found := add(Crossed, func() (subnet.Masks, int, string) {
			a, b := top[cross.IntN(len(top))], top[cross.IntN(len(top))]
			return space.Crossover(cross, a.Masks, b.Masks), a.ID, fmt.Sprintf("#%d × #%d", a.ID, b.ID)
		})
		if found {
			children++
		}
	}
	missed := 0
	for range s.N - children { // in place of children that were not found, too
		found := add(Fresh, func() (subnet.Masks, int, string) {
			return bounds.Mutate(fresh, base, base, initial), 0, "from the one-shot masks"
		})
		if !found {
			missed++
		}
	}
	g.s.Paper.Barren += missed
	if missed > 0 {
		g.s.event(fmt.Sprintf("%d of %d candidates were not found in %d tries each: their sizes were outside the range, or they were scored before", missed, s.N, maxTries))
	}
	return batch
}

// inRange is the paper's filter by parameters.
func (s *Paper) inRange(g *generation, m subnet.Masks) bool {
	cost := g.p.cost(g.s.Target, m)
	return g.s.Target.allows(cost) && cost >= g.s.Target.Value*(1-s.Range)
}

// differs describes in how many layers masks differ.
func differs(a, b subnet.Masks) string {
	n := 0
	for i := range a.Layers() {
		if !a.Layer(i).Equal(b.Layer(i)) {
			n++
		}
	}
	return fmt.Sprintf("%d layers changed", n)
}

// epoch scores a batch and updates the best K so far.
func (s *Paper) epoch(ctx context.Context, g *generation, batch []Individual) error {
	scored, err := g.score(ctx, batch, 1, Tier{Tokens: s.Tokens})
	if err != nil {
		return err
	}
	top := slices.Clone(g.s.Paper.Top)
	for _, in := range scored {
		if within(in, g.s.Target) {
			top = append(top, in)
		} else {
			g.s.event(fmt.Sprintf("#%d (%s) costs more than the target and is kept for the front only", in.ID, in.Origin))
		}
	}
	slices.SortStableFunc(top, better)
	if len(top) == 0 {
		return fmt.Errorf("search: the fitness of all initial masks is NaN or infinite")
	}
	before := 0
	if len(g.s.Paper.Top) > 0 {
		before = g.s.Paper.Top[0].ID
	}
	g.s.Paper.Top = top[:min(s.K, len(top))]
	if best := top[0]; best.ID != before {
		g.s.event(fmt.Sprintf("#%d is the best: %.4f (%s)", best.ID, best.Score.Fitness, best.Moves))
	}
	g.s.Population = slices.Clone(g.s.Paper.Top)
	for _, in := range scored {
		if within(in, g.s.Target) && !contains(g.s.Population, in.ID) {
			g.s.Population = append(g.s.Population, in)
		}
	}
	slices.SortStableFunc(g.s.Population, better)
	return nil
}

// Retarget continues with the best subnets that fit the new target.
func (s *Paper) Retarget(p *Problem, state State, t Target) State {
	state = state.clone()
	state.Target, state.Done = t, ""
	all := append(slices.Clone(state.Paper.Top), append(slices.Clone(state.Front), state.Population...)...)
	slices.SortStableFunc(all, better)
	all = slices.CompactFunc(all, func(a, b Individual) bool { return a.ID == b.ID })
	all = repriced(p, all, t)
	state.Paper.Top = slices.Clone(all[:min(s.K, len(all))])
	state.Population = all
	state.event(fmt.Sprintf("target changed to %v", t))
	return state
}

// Accepts implements [Strategy].
func (s *Paper) Accepts(_ *Problem, state State) error {
	if state.Paper == nil || len(state.Paper.Top) == 0 && state.Done == "" && len(state.Population) > 0 {
		return fmt.Errorf("it has no state of the strategy paper")
	}
	return nil
}
