package search

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/search/space"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Ladder searches over choices of prepared levels by a (1+λ) evolution: the
// parent is always kept, children differ from it in few modules, every child
// meets the budget exactly or falls short of it by less than a level, and most
// are scored on little text only. The frame is EvoPress (arXiv 2410.14649) with
// the level switches of Týr-the-Pruner (arXiv 2503.09657).
//
// Beyond them, it learns while it runs: every comparison of a child with its
// parent corrects the predicted losses of the levels that differ (see
// [Sensitivity]), children are allocated for weights drawn from what is known,
// and mutations prefer the moves that look cheap. The tiers of text are tuned by
// how well ranks on one agree with ranks on the next.
type Ladder struct {
	Lambda int   // λ, children per generation
	Moves  int   // the most modules a mutation raises; the fewer of two draws
	Tiers  []int // tokens of each tier, rising; the parent is replaced on the last
	Keep   int   // one of so many children goes on to the next tier
	// Errors is by how many standard errors of the difference a child must beat
	// its parent: the best of many children is lucky, and what luck chose does not
	// last.
	Errors   float64
	Steps    []int // levels a move spans, coarse to fine
	Patience int   // generations without a better subnet before the next step
	// Learned is the share of children allocated for drawn weights; the others
	// are mutations of the parent.
	Learned float64
	// Uniform is the share of chance in a mutation's choice of modules; the rest
	// follows the predicted losses.
	Uniform float64
	// Front are the ratios of which a subnet is scored now and then, one each
	// FrontEvery generations, so that one run serves other targets too.
	Front      []float64
	FrontEvery int
	// Generations ends the search, 0 for never.
	Generations int
}

// DefaultLadder returns the options for a laptop: 16 children a generation.
func DefaultLadder() *Ladder {
	return &Ladder{
		Lambda: 16, Moves: 3, Tiers: []int{512, 2048, 8192}, Keep: 4, Errors: 2,
		Steps: []int{4, 2, 1}, Patience: 3, Learned: 0.5, Uniform: 0.3,
		Front: []float64{0.9, 0.8, 0.7, 0.6, 0.5}, FrontEvery: 8,
	}
}

// LadderState is what [Ladder] knows beside its population.
type LadderState struct {
	Tiers []int // tokens of each tier, tuned
	// Agreement is the running rank correlation of each tier with the next.
	Agreement []float64
	Step      int // index into Steps
	Stale     int // generations since the parent was replaced
	Sized     int // subnets scored for the front
	// OneShots are choices that were allocated for the target without a search,
	// the one that scored best first; none where there was none.
	OneShots []space.Choice
	Sense    Sensitivity
}

func (l LadderState) clone() LadderState {
	l.Tiers, l.Agreement, l.Sense = slices.Clone(l.Tiers), slices.Clone(l.Agreement), l.Sense.clone()
	return l
}

// Parts of a generation that draw chance of their own.
const (
	partMutate = iota
	partLearn
	partDraw
)

// Name returns "ladder".
func (l *Ladder) Name() string { return "ladder" }

// UsesLevels implements [Strategy].
func (l *Ladder) UsesLevels() bool { return true }

// LimitText implements [Strategy]. It leaves out tiers that the text has no room for.
func (l *Ladder) LimitText(tokens int) int {
	for len(l.Tiers) > 1 && l.Tiers[len(l.Tiers)-2] >= tokens {
		l.Tiers = l.Tiers[:len(l.Tiers)-1]
	}
	last := &l.Tiers[len(l.Tiers)-1]
	*last = min(*last, tokens)
	return *last
}

// Check reports options, levels or a target that the strategy cannot work with.
func (l *Ladder) Check(p *Problem, t Target) error {
	if l.Lambda < 1 || l.Moves < 1 || l.Keep < 1 || len(l.Tiers) == 0 || len(l.Steps) == 0 || l.Patience < 1 {
		return fmt.Errorf("%w: ladder needs children, moves, tiers, steps and patience of at least 1", ErrConfig)
	}
	for i, n := range l.Tiers {
		if n < 1 || i > 0 && n <= l.Tiers[i-1] {
			return fmt.Errorf("%w: the tiers %v do not rise", ErrConfig, l.Tiers)
		}
	}
	if slices.Min(l.Steps) < 1 || !(l.Errors >= 0) || l.Learned < 0 || l.Learned > 1 || l.Uniform < 0 || l.Uniform > 1 {
		return fmt.Errorf("%w: ladder steps %v, %v standard errors, share learned %v, share uniform %v", ErrConfig, l.Steps, l.Errors, l.Learned, l.Uniform)
	}
	return checkChoices(p, t)
}

// checkChoices reports levels that are wrong and targets below the smallest
// choice of them.
func checkChoices(p *Problem, t Target) error {
	if err := t.check(); err != nil {
		return err
	}
	if err := p.checkLevels(t); err != nil {
		return err
	}
	c := newCosts(p, t)
	least := c.cheapest()
	if everyLayerDropped(p.Levels, least) {
		least = keepOne(c, least)
	}
	smallest, err := p.candidate(least)
	if err != nil {
		return err
	}
	if cost := t.cost(smallest, p.Levels); cost > t.Value*(1+1e-9) {
		return t.unreachable(cost)
	}
	return nil
}

func everyLayerDropped(l *space.Levels, c space.Choice) bool {
	return l.Params(c) == 0
}

// keepOne raises the slot of a choice that keeps nothing where a level that keeps
// something costs least.
func keepOne(c costs, choice space.Choice) space.Choice {
	slot, level, least := 0, int16(0), int64(math.MaxInt64)
	for s := range choice {
		for i, v := range c.level[s] {
			if d := v - c.level[s][choice[s]]; d > 0 && d < least {
				slot, level, least = s, int16(i), d
			}
		}
	}
	choice = slices.Clone(choice)
	choice[slot] = level
	return choice
}

// Start scores the allocations that the predicted losses give, with different
// beliefs in those of attention against those of MLPs, and takes the best.
func (l *Ladder) Start(ctx context.Context, p *Problem, eval Scorer) (State, error) {
	g := &generation{p: p, eval: eval, full: len(l.Tiers), s: State{
		Target: p.Target,
		Ladder: &LadderState{
			Tiers:     slices.Clone(l.Tiers),
			Agreement: slices.Repeat([]float64{0.5}, len(l.Tiers)-1),
			Sense:     newSensitivity(p.Levels.Slots(), len(l.Tiers)),
		},
	}}
	c := newCosts(p, p.Target)
	var field []Individual
	var plain space.Choice
	for _, trust := range []float64{1, 0.5, 2, 4, wholly} {
		w := make([]float64, p.Levels.Slots())
		for s := range w {
			if w[s] = 1; subnet.Module(s%subnet.Modules) == subnet.Attention {
				w[s] = trust
			}
		}
		for _, shape := range []struct {
			name string
			loss lossOf
		}{{"", predicted(p.Levels)}, {", by the share cut", byShare(p.Levels)}} {
			choice, err := l.allocate(g, c, shape.loss.weighted(w))
			if err != nil {
				return State{}, err
			}
			if in, ok := g.propose(field, choice, Individual{}, Seeded); ok {
				in.Moves = fmt.Sprintf("one-shot, %s%s", trustName(trust), shape.name)
				field = append(field, in)
			}
			plain = choice
		}
	}
	if err := l.begin(ctx, g, field); err != nil {
		return State{}, err
	}
	if ld := g.s.Ladder; !plain.Equal(ld.OneShots[0]) {
		ld.OneShots = append(ld.OneShots, plain)
	}
	g.s.close()
	return g.s, nil
}

func trustName(trust float64) string {
	if trust == wholly {
		return "MLPs alone"
	}
	return fmt.Sprintf("attention × %g", trust)
}

// wholly is a trust in attention that has it cut only where MLPs alone do not
// reach the target.
const wholly = 1e6

// begin scores first individuals on the tiers and makes them the population.
func (l *Ladder) begin(ctx context.Context, g *generation, field []Individual) error {
	tiers := g.s.Ladder.Tiers
	n := len(tiers)
	if n > 1 && len(field) > 2 {
		kept, err := g.score(ctx, field, n-1, Tier{Tokens: tiers[n-2]})
		if err != nil {
			return err
		}
		field = kept[:min(2, len(kept))]
	}
	field, err := g.score(ctx, field, n, Tier{Tokens: tiers[n-1]})
	if err != nil {
		return err
	}
	if len(field) == 0 {
		return fmt.Errorf("search: the fitness of the first subnets is no number")
	}
	g.s.Population = field
	g.s.Ladder.OneShots = []space.Choice{field[0].Choice}
	return nil
}

// lossOf is the loss of a level of a slot.
type lossOf func(slot, level int) float64

// weighted multiplies the losses of each slot.
func (f lossOf) weighted(w []float64) lossOf {
	return func(s, i int) float64 { return w[s] * f(s, i) }
}

// predicted is the losses that the levels have.
func predicted(l *space.Levels) lossOf {
	return func(s, i int) float64 { return l.Ladder(s)[i].Loss }
}

// shareExponent is how losses grow with the share of a module that is cut.
const shareExponent = 2.5

// byShare takes the loss of the middle level of a slot from the predicted ones, and
// has the others grow with the share that is cut: what a level loses of a
// module's output is known exactly, how much of that matters is not.
func byShare(l *space.Levels) lossOf {
	return func(s, i int) float64 {
		ladder := l.Ladder(s)
		cut := func(i int) float64 { return float64(ladder[0].Params - ladder[i].Params) }
		half := len(ladder) / 2
		if cut(half) <= 0 {
			return 0
		}
		return ladder[half].Loss * math.Pow(cut(i)/cut(half), shareExponent)
	}
}

// allocate returns the best choice within the budget for given losses. Where the file of a choice costs more than the sum of its levels, it
// takes cheaper ones.
func (l *Ladder) allocate(g *generation, c costs, loss lossOf) (space.Choice, error) {
	for tries := 0; ; tries++ {
		choice, ok := c.allocate(loss)
		if !ok || tries > 50 {
			return nil, fmt.Errorf("%w: no levels were found that take %v", ErrTarget, g.s.Target)
		}
		if everyLayerDropped(g.p.Levels, choice) {
			choice = keepOne(c, choice)
		}
		candidate, err := g.p.candidate(choice)
		if err != nil {
			return nil, err
		}
		excess := g.s.Target.cost(candidate, g.p.Levels)/g.s.Target.Value - 1
		if excess <= 1e-9 {
			return choice, nil
		}
		c.budget -= max(1, int64(excess*float64(c.budget)))
	}
}

// propose makes an individual of a choice unless the parent or one of the field
// is the same or it does not fit.
func (g *generation) propose(field []Individual, choice space.Choice, parent Individual, o Origin) (Individual, bool) {
	same := func(in Individual) bool { return in.Choice.Equal(choice) }
	if same(parent) || slices.ContainsFunc(field, same) {
		return Individual{}, false
	}
	candidate, err := g.p.candidate(choice)
	if err != nil {
		return Individual{}, false
	}
	if g.s.Target.cost(candidate, g.p.Levels) > g.s.Target.Value*(1+1e-9) {
		return Individual{}, false
	}
	return g.individual(candidate, parent.ID, o, moves(parent.Choice, choice)), true
}

// moves names the modules in which two choices differ: "L7 mlp ↑2 L22 attention ↓1".
func moves(from, to space.Choice) string {
	var b strings.Builder
	shown, more := 0, 0
	for s := range from {
		d := int(from[s] - to[s])
		if d == 0 {
			continue
		}
		if shown == 8 {
			more++
			continue
		}
		if shown++; shown > 1 {
			b.WriteByte(' ')
		}
		arrow := "↑"
		if d < 0 {
			arrow, d = "↓", -d
		}
		fmt.Fprintf(&b, "L%d %v %s%d", s/subnet.Modules, subnet.Module(s%subnet.Modules), arrow, d)
	}
	if more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

// Retarget goes on from the best subnet known within the new target, or from
// what the sensitivities learned so far allocate.
func (l *Ladder) Retarget(p *Problem, s State, t Target) State {
	s = s.clone()
	s.Target, s.Done = t, ""
	s.Ladder.Stale, s.Ladder.Step, s.Ladder.OneShots = 0, 0, nil
	s.Population = rejoin(p, append(slices.Clone(s.Front), s.Population...), t)
	s.Population = slices.DeleteFunc(s.Population, func(in Individual) bool { return in.Choice == nil })
	slices.SortStableFunc(s.Population, better)
	s.Population = slices.CompactFunc(s.Population, func(a, b Individual) bool { return a.ID == b.ID })
	s.event(fmt.Sprintf("target changed to %v", t))
	g := &generation{p: p, s: s, full: len(l.Tiers)}
	choice, err := l.allocate(g, newCosts(p, t), predicted(p.Levels).weighted(s.Ladder.Sense.mean()))
	if err == nil {
		if in, ok := g.propose(g.s.Population, choice, Individual{}, Learned); ok {
			in.Moves = "allocated for the new target"
			g.s.Ladder.OneShots = []space.Choice{choice}
			g.s.Pending = append(g.s.Pending, in)
		}
	}
	return g.s
}

// Accepts reports a state that is not one of this strategy.
func (l *Ladder) Accepts(p *Problem, s State) error {
	ld, slots := s.Ladder, p.Levels.Slots()
	switch {
	case ld == nil:
		return fmt.Errorf("it has no state of the ladder strategy")
	case len(ld.Tiers) != len(l.Tiers) || len(ld.Agreement) != len(l.Tiers)-1 || len(ld.Sense.Noise) != len(l.Tiers):
		return fmt.Errorf("it has %d tiers, not %d", len(ld.Tiers), len(l.Tiers))
	case ld.Step < 0 || ld.Step >= len(l.Steps) || ld.Sized < 0:
		return fmt.Errorf("it is at step %d of %d", ld.Step, len(l.Steps))
	case len(ld.Sense.Shift) != slots || len(ld.Sense.Precision) != slots*slots:
		return fmt.Errorf("its sensitivities are of %d modules, not %d", len(ld.Sense.Shift), slots)
	case slices.Min(ld.Tiers) < 1:
		return fmt.Errorf("it has a tier without text")
	}
	for _, in := range s.Population {
		if in.Choice == nil {
			return fmt.Errorf("individual %d is no choice of levels", in.ID)
		}
	}
	for _, c := range ld.OneShots {
		if _, err := p.Levels.Masks(c); err != nil {
			return fmt.Errorf("a one-shot of it: %w", err)
		}
	}
	return nil
}
