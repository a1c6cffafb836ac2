package search

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// Ladder searches over choices of prepared levels by a (1+λ) evolution: the
// parent is always kept, children differ from it in few modules, every child
// meets the budget exactly or is below it by less than a level, and most are
// scored on little text only. The evolution is that of EvoPress (arXiv 2410.14649)
// with the level switches of Týr-the-Pruner (arXiv 2503.09657).
//
// Beyond these methods, it learns during the search: every comparison of a child
// with its parent updates a posterior over sensitivities, factors that correct the
// predicted losses of the levels that differ (see [Sensitivity]). Children are
// allocated for samples of the posterior, and mutations prefer the moves that it
// predicts to be cheap. The amount of text of a tier is tuned by how well its ranks
// agree with those on the next tier.
type Ladder struct {
	Lambda int   // λ, children per generation
	Moves  int   // the most modules that a mutation raises: the smaller of two random numbers up to it
	Tiers  []int // tokens of each tier, rising; the parent is replaced on the last one
	Keep   int   // one of so many children is promoted to the next tier
	// Errors is by how many standard errors of the difference a child must beat
	// its parent: the best of many children is partly so by luck.
	Errors   float64
	Steps    []int // levels that a move spans, coarse to fine
	Patience int   // generations without a better subnet before the next step
	// Learned is the share of children allocated for sampled sensitivities; the
	// others are mutations of the parent.
	Learned float64
	// Uniform is the probability that a mutation chooses a module uniformly, and
	// not by the predicted losses.
	Uniform float64
	// Front are other ratios, for one of which a subnet is scored every FrontEvery
	// generations, so that one run finds subnets for other targets too.
	Front      []float64
	FrontEvery int
	// Generations is how many there are, 0 for no limit.
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

// LadderState is what [Ladder] knows besides its population.
type LadderState struct {
	Tiers []int // tokens of each tier, tuned
	// Agreement is the running rank correlation of each tier with the next.
	Agreement []float64
	Step      int // index in Steps
	Stale     int // generations since the parent was replaced
	Sized     int // subnets scored for the front
	// OneShots are choices that were allocated for the target without a search,
	// the one with the best score first.
	OneShots []space.Choice
	Sense    Sensitivity
}

func (l LadderState) clone() LadderState {
	l.Tiers, l.Agreement, l.Sense = slices.Clone(l.Tiers), slices.Clone(l.Agreement), l.Sense.clone()
	return l
}

// Phases of a generation, each with its own RNG.
const (
	phaseMutate = iota
	phaseLearn
	phaseDraw
)

// Name returns "ladder".
func (l *Ladder) Name() string { return "ladder" }

// UsesLevels implements [Strategy].
func (l *Ladder) UsesLevels() bool { return true }

// LimitText implements [Strategy]. It removes tiers that the text is too short for.
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
		return fmt.Errorf("%w: ladder needs lambda, moves, keep, tiers, steps and patience of at least 1", ErrConfig)
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

// checkChoices returns an error for invalid levels and for targets below their
// smallest choice.
func checkChoices(p *Problem, t Target) error {
	if err := p.checkLevels(); err != nil {
		return err
	}
	if err := p.checkTarget(t); err != nil {
		return err
	}
	if _, ok := p.Prices.(TypedPrices); p.Levels.Typed() && (!ok || t.Type != "" || t.Measure != Bytes && t.Measure != Memory) {
		return fmt.Errorf("%w: types of matrices are searched for a file size such as 60MB or a memory such as memory=512MB@4096, without a type, not for %v", ErrConfig, t)
	}
	c := newCosts(p, t)
	least := c.cheapest()
	if everyLayerDropped(p.Levels, least) {
		least = ensureNonEmpty(c, least)
	}
	smallest, err := p.candidate(least)
	if err != nil {
		return err
	}
	if cost := p.costOf(t, smallest); !t.allows(cost) {
		return t.unreachable(cost)
	}
	return nil
}

func everyLayerDropped(l *space.Levels, c space.Choice) bool {
	return l.Params(c) == 0
}

// ensureNonEmpty raises one slot of a choice that keeps nothing, the one whose next
// level costs least.
func ensureNonEmpty(c costs, choice space.Choice) space.Choice {
	slot, level, least := 0, int16(0), int64(math.MaxInt64)
	for s := range choice {
		if c.typed && s == len(choice)-1 {
			continue // the vocabulary is no layer
		}
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

// Start allocates the target by the predicted losses, with different weights of
// attention against MLPs, scores these one-shots and takes the best.
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
	for _, attentionWeight := range []float64{1, 0.5, 2, 4, attentionLast} {
		w := make([]float64, p.Levels.Slots())
		for s := range w {
			if w[s] = 1; !p.Levels.IsVocab(s) && subnet.Module(s%subnet.Modules) == subnet.Attention {
				w[s] = attentionWeight
			}
		}
		for _, shape := range []struct {
			name string
			loss lossOf
		}{{"", predicted(p.Levels)}, {", by the share cut", byShare(p.Levels)}} {
			if shape.name != "" && p.Levels.Typed() { // its levels differ in more than their share
				continue
			}
			choice, err := l.allocate(g, c, shape.loss.weighted(w))
			if err != nil {
				return State{}, err
			}
			if in, ok := g.propose(field, choice, Individual{}, Seeded); ok {
				in.Moves = fmt.Sprintf("one-shot, %s%s", attentionName(attentionWeight), shape.name)
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

func attentionName(attentionWeight float64) string {
	if attentionWeight == attentionLast {
		return "MLPs alone"
	}
	return fmt.Sprintf("attention × %g", attentionWeight)
}

// attentionLast is a weight at which attention is cut only where cutting MLPs alone
// does not reach the target.
const attentionLast = 1e6

// begin scores the initial individuals on the tiers and makes them the population.
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
		return fmt.Errorf("search: the fitness of all initial subnets is NaN or infinite")
	}
	g.s.Population = field
	g.s.Ladder.OneShots = []space.Choice{field[0].Choice}
	return nil
}

// lossOf returns the loss of a level of a slot.
type lossOf func(slot, level int) float64

// weighted multiplies the losses of each slot by its weight.
func (f lossOf) weighted(w []float64) lossOf {
	return func(s, i int) float64 { return w[s] * f(s, i) }
}

// predicted returns the predicted losses of the levels.
func predicted(l *space.Levels) lossOf {
	return func(s, i int) float64 { return l.Ladder(s)[i].Loss }
}

// shareExponent is the exponent by which losses grow with the share of a module
// that is cut.
const shareExponent = 2.5

// byShare returns the predicted loss for the middle level of a slot and
// extrapolates the others by the share that is cut. It ignores how much of the
// module's output each level loses, which is measured exactly but only partly
// determines the loss.
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

// allocate returns the best choice within the target for given losses. Where a
// choice costs more than the sum of its levels, it lowers the budget.
func (l *Ladder) allocate(g *generation, c costs, loss lossOf) (space.Choice, error) {
	for tries := 0; ; tries++ {
		choice, ok := c.allocate(loss)
		if !ok || tries > 50 {
			return nil, fmt.Errorf("%w: no levels were found that take %v", ErrTarget, g.s.Target)
		}
		if everyLayerDropped(g.p.Levels, choice) {
			choice = ensureNonEmpty(c, choice)
		}
		candidate, err := g.p.candidate(choice)
		if err != nil {
			return nil, err
		}
		excess := g.p.costOf(g.s.Target, candidate)/g.s.Target.Value - 1
		if excess <= 1e-9 {
			return choice, nil
		}
		c.budget -= max(1, int64(excess*float64(c.budget)))
	}
}

// propose makes an individual of a choice. It returns false if the parent or one of
// the field has the same choice, or if it does not fit.
func (g *generation) propose(field []Individual, choice space.Choice, parent Individual, o Origin) (Individual, bool) {
	same := func(in Individual) bool { return in.Choice.Equal(choice) }
	if same(parent) || slices.ContainsFunc(field, same) {
		return Individual{}, false
	}
	candidate, err := g.p.candidateOver(choice, parent.Base)
	if err != nil {
		return Individual{}, false
	}
	if !g.s.Target.allows(g.p.costOf(g.s.Target, candidate)) {
		return Individual{}, false
	}
	return g.individual(candidate, parent.ID, o, moves(parent.Choice, choice)), true
}

// moves lists the modules in which two choices differ: "L7 mlp ↑2 L22 attention ↓1".
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
		if from[s] == space.Exact {
			fmt.Fprintf(&b, "%s to level %d", to.SlotName(s), to[s])
			continue
		}
		arrow := "↑"
		if d < 0 {
			arrow, d = "↓", -d
		}
		fmt.Fprintf(&b, "%s %s%d", to.SlotName(s), arrow, d)
	}
	if more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

// Retarget continues from the best known subnet within the new target, or from an
// allocation by the sensitivities learned so far.
func (l *Ladder) Retarget(p *Problem, s State, t Target) State {
	s = s.clone()
	s.Target, s.Done = t, ""
	s.Ladder.Stale, s.Ladder.Step, s.Ladder.OneShots = 0, 0, nil
	s.Population = repriced(p, append(slices.Clone(s.Front), s.Population...), t)
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

// Accepts implements [Strategy].
func (l *Ladder) Accepts(p *Problem, s State) error {
	ld, slots := s.Ladder, p.Levels.Slots()
	switch {
	case ld == nil:
		return fmt.Errorf("it has no state of the strategy ladder")
	case len(ld.Tiers) != len(l.Tiers) || len(ld.Agreement) != len(l.Tiers)-1 || len(ld.Sense.Noise) != len(l.Tiers):
		return fmt.Errorf("it has %d tiers, not %d", len(ld.Tiers), len(l.Tiers))
	case ld.Step < 0 || ld.Step >= len(l.Steps) || ld.Sized < 0:
		return fmt.Errorf("it is at step %d of %d", ld.Step, len(l.Steps))
	case len(ld.Sense.Shift) != slots || len(ld.Sense.Precision) != slots*slots:
		return fmt.Errorf("its sensitivities are of %d modules, not %d", len(ld.Sense.Shift), slots)
	case slices.Min(ld.Tiers) < 1:
		return fmt.Errorf("it has an empty tier")
	}
	for _, in := range s.Population {
		if in.Choice == nil {
			return fmt.Errorf("individual %d is not a choice of levels", in.ID)
		}
	}
	for _, c := range ld.OneShots {
		if _, err := p.Levels.Masks(c); err != nil {
			return fmt.Errorf("a one-shot of it: %w", err)
		}
	}
	return nil
}
