package search

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// Step runs one generation: it scores children of the parent tier by tier, and
// replaces the parent by the best child on the last tier if that is better.
func (l *Ladder) Step(ctx context.Context, p *Problem, s State, eval Scorer) (State, error) {
	g := &generation{p: p, s: s.clone(), eval: eval, full: len(l.Tiers)}
	if err := l.scorePending(ctx, g); err != nil {
		return State{}, err
	}
	parent := g.s.Population[0]
	field, err := l.children(g, parent)
	if err != nil {
		return State{}, err
	}
	seen, err := l.scoreChildren(ctx, g, parent, field)
	if err != nil {
		return State{}, err
	}
	if err := l.fillFront(ctx, g); err != nil {
		return State{}, err
	}
	l.selectParent(g, parent, seen)
	g.s.close()
	if l.Generations > 0 && g.s.Generation > l.Generations {
		g.s.Done = fmt.Sprintf("all %d generations are completed", l.Generations)
	}
	return g.s, nil
}

// scorePending scores pending subnets in full, and ensures that there is a parent
// within the target.
func (l *Ladder) scorePending(ctx context.Context, g *generation) error {
	var waiting []Individual
	for _, in := range g.s.Pending {
		if in.Origin == ByHand {
			in = g.asItIs(in)
		}
		waiting = append(waiting, in)
	}
	g.s.Pending = nil
	n := len(g.s.Ladder.Tiers)
	scored, err := g.score(ctx, waiting, n, Tier{Tokens: g.s.Ladder.Tiers[n-1]})
	if err != nil {
		return err
	}
	for _, in := range scored {
		if in.Choice == nil {
			continue // a parent needs a choice of levels
		}
		if !within(in, g.s.Target) {
			g.s.event(fmt.Sprintf("#%d (%s) costs more than the target and is kept for the front only", in.ID, in.Origin))
			continue
		}
		g.s.Population = append(g.s.Population, in)
	}
	slices.SortStableFunc(g.s.Population, better)
	if len(g.s.Population) > 0 && g.s.Population[0].Tier == n {
		return nil
	}
	choice, err := l.allocate(g, newCosts(g.p, g.s.Target), predicted(g.p.Levels).weighted(g.s.Ladder.Sense.mean()))
	if err != nil {
		return err
	}
	first, ok := g.propose(nil, choice, Individual{}, Seeded)
	if !ok {
		return fmt.Errorf("%w: no subnet of these levels has %v", ErrTarget, g.s.Target)
	}
	return l.begin(ctx, g, []Individual{first})
}

// asItIs makes a subnet made by hand a choice of its own modules.
func (g *generation) asItIs(in Individual) Individual {
	if in.Base == nil {
		in.Base = &space.Base{Masks: in.Masks}
	}
	in.Choice = slices.Repeat(space.Choice{space.Exact}, g.p.Levels.Slots())
	return in
}

// children proposes λ children of the parent, or fewer where it finds no others.
func (l *Ladder) children(g *generation, parent Individual) ([]Individual, error) {
	c := newCosts(g.p, g.s.Target)
	own := c.over(g.p, g.s.Target, parent.Base)
	weights := g.s.Ladder.Sense.mean()
	mutate, learn := g.rng(phaseMutate), g.rng(phaseLearn)
	var field []Individual
	add := func(choice space.Choice, o Origin) {
		if choice == nil || len(field) == l.Lambda {
			return
		}
		if in, ok := g.propose(field, choice, parent, o); ok {
			field = append(field, in)
		}
	}
	// From the posterior mean to wider samples: in many dimensions a full sample is
	// nearly always worse than the mean.
	learned := int(l.Learned * float64(l.Lambda))
	for i := range learned {
		choice, err := l.allocate(g, c, predicted(g.p.Levels).weighted(g.s.Ladder.Sense.sample(learn, float64(i)/float64(learned))))
		if err != nil {
			return nil, err
		}
		add(choice, Learned)
	}
	for tries := 0; len(field) < l.Lambda && tries < 20*l.Lambda; tries++ {
		add(l.mutate(mutate, g, own, parent.Choice, weights), Mutated)
	}
	return field, nil
}

// mutate returns the parent's choice with a few modules raised by a step and others
// lowered by steps until it fits; the budget that is then left goes to the modules
// that gain most. It returns nil where nothing fits.
func (l *Ladder) mutate(rng *rand.Rand, g *generation, c costs, parent space.Choice, weights []float64) space.Choice {
	choice := slices.Clone(parent)
	step := int16(l.Steps[g.s.Ladder.Step])
	raised, lowered := subnet.Empty(len(choice)), subnet.Empty(len(choice))
	gain := func(s int, to int16) float64 { return l.lossPerCost(g, c, weights, s, choice[s], to) }
	for range min(1+rng.IntN(l.Moves), 1+rng.IntN(l.Moves)) {
		s := l.pick(rng, choice, func(s int) float64 {
			if choice[s] == 0 || raised.Has(s) {
				return 0
			}
			up := c.raised(s, choice[s], step)
			if up == choice[s] {
				return 0
			}
			return gain(s, up)
		})
		if s < 0 {
			break
		}
		choice[s] = c.raised(s, choice[s], step)
		raised = raised.With(s)
	}
	for !c.fits(choice) {
		s := l.pick(rng, choice, func(s int) float64 {
			down := c.lowered(s, choice[s], step)
			if down == choice[s] || raised.Has(s) {
				return 0
			}
			return 1 / gain(s, down)
		})
		if s < 0 {
			return nil
		}
		choice[s] = c.lowered(s, choice[s], step)
		lowered = lowered.With(s)
	}
	l.fill(c, choice, lowered, gain)
	return choice
}

// lossPerCost returns the difference of the predicted losses of two levels of a slot
// per unit of cost. It is positive in either order.
func (l *Ladder) lossPerCost(g *generation, c costs, weights []float64, s int, from, to int16) float64 {
	ladder := g.p.Levels.Ladder(s)
	if from == space.Exact || to == space.Exact {
		small, large := from, to
		if c.at(s, small) > c.at(s, large) {
			small, large = large, small
		}
		loss := weights[s] * (g.lossAt(c, s, small) - g.lossAt(c, s, large))
		return max(loss, 1e-9) / float64(max(c.at(s, large)-c.at(s, small), 1))
	}
	loss := weights[s] * (ladder[max(from, to)].Loss - ladder[min(from, to)].Loss)
	cost := c.level[s][min(from, to)] - c.level[s][max(from, to)]
	return max(loss, 1e-9) / float64(max(cost, 1))
}

// lossAt returns the predicted loss of a level, and for the module of a base that of a level of its cost.
func (g *generation) lossAt(c costs, s int, v int16) float64 {
	ladder := g.p.Levels.Ladder(s)
	if v != space.Exact {
		return ladder[v].Loss
	}
	for i, cost := range c.level[s] {
		if cost > c.exact[s] {
			continue
		}
		if i == 0 || cost == c.exact[s] {
			return ladder[i].Loss
		}
		before := c.level[s][i-1]
		share := float64(before-c.exact[s]) / float64(before-cost)
		return ladder[i-1].Loss + share*(ladder[i].Loss-ladder[i-1].Loss)
	}
	return ladder[len(ladder)-1].Loss
}

// pick draws one of the slots with a positive weight: with probability Uniform all
// are equally likely, otherwise in proportion to their weights. It returns -1 when
// there is none.
func (l *Ladder) pick(rng *rand.Rand, choice space.Choice, weight func(s int) float64) int {
	w := make([]float64, len(choice))
	var sum, eligible float64
	for s := range w {
		if w[s] = weight(s); w[s] > 0 {
			sum += w[s]
			eligible++
		}
	}
	at := -1
	r := rng.Float64()
	for s := range w {
		if w[s] > 0 {
			at = s
			if r -= l.Uniform/eligible + (1-l.Uniform)*w[s]/sum; r < 0 {
				break
			}
		}
	}
	return at
}

// fill raises modules by one level each while that fits, those with the highest gain
// first. Modules just lowered stay, and those of a base.
func (l *Ladder) fill(c costs, choice space.Choice, lowered subnet.Set, gain func(s int, to int16) float64) {
	room := c.budget - c.of(choice)
	for {
		at, most := -1, 0.0
		for s, v := range choice {
			if v <= 0 || lowered.Has(s) || c.level[s][v-1]-c.level[s][v] > room {
				continue
			}
			if w := gain(s, v-1); w > most {
				at, most = s, w
			}
		}
		if at < 0 {
			return
		}
		room -= c.level[at][choice[at]-1] - c.level[at][choice[at]]
		choice[at]--
	}
}

// scoreChildren scores the children tier by tier. On every tier before the last it
// compares them with their parent on new text, updates the sensitivities, and
// promotes one in Keep; from the second tier on, only those that beat the parent.
// It returns every child with its last score.
func (l *Ladder) scoreChildren(ctx context.Context, g *generation, parent Individual, field []Individual) ([]Individual, error) {
	ld := g.s.Ladder
	draw := g.rng(phaseDraw).Uint64()
	mean := ld.Sense.mean()
	var out []Individual
	for n := 1; n <= len(ld.Tiers) && len(field) > 0; n++ {
		tier := Tier{Tokens: ld.Tiers[n-1], Draw: draw}
		batch, rival := field, parent.Score.Fitness
		if n == len(ld.Tiers) {
			tier.Draw = 0 // the text on which the parent's score was taken
		} else {
			batch = append([]Individual{parent}, field...)
		}
		scored, err := g.score(ctx, batch, n, tier)
		if err != nil {
			return nil, err
		}
		if at := slices.IndexFunc(scored, func(in Individual) bool { return in.ID == parent.ID }); at >= 0 {
			rival = scored[at].Score.Fitness
			scored = slices.Delete(scored, at, at+1)
		}
		for _, in := range scored {
			if difference, ok := l.lossDifference(g, in.Choice, parent.Choice); ok {
				ld.Sense.observe(mean, difference, in.Score.Fitness-rival, n, tier.Tokens)
			}
		}
		if n > 1 {
			l.tune(g, n, field, scored)
		}
		out = append(out, field...)
		out = slices.DeleteFunc(out, func(in Individual) bool { return contains(field, in.ID) })
		out = append(out, scored...)
		field = l.promoted(n, len(ld.Tiers), scored, rival)
	}
	return out, nil
}

func contains(list []Individual, id int) bool {
	return slices.ContainsFunc(list, func(in Individual) bool { return in.ID == id })
}

// promoted returns the children to score on the tier after tier n of so many.
func (l *Ladder) promoted(n, tiers int, scored []Individual, rival float64) []Individual {
	if n == tiers {
		return nil
	}
	kept := scored[:(len(scored)+l.Keep-1)/l.Keep]
	if n > 1 {
		worse := slices.IndexFunc(kept, func(in Individual) bool { return in.Score.Fitness >= rival })
		if worse >= 0 {
			kept = kept[:worse]
		}
	}
	return slices.Clone(kept)
}

// lossDifference returns, for each slot, the predicted loss of a minus that of b. It
// is false where one of them has a module of a base in a slot, whose loss no level
// predicts.
func (l *Ladder) lossDifference(g *generation, a, b space.Choice) (difference []float64, ok bool) {
	d := make([]float64, len(a))
	for s := range d {
		if a[s] != b[s] {
			if a[s] == space.Exact || b[s] == space.Exact {
				return nil, false
			}
			d[s] = g.p.Levels.Level(a, s).Loss - g.p.Levels.Level(b, s).Loss
		}
	}
	return d, true
}

const (
	// agreementMemory is the share of the old value in the running agreement.
	agreementMemory = 0.8
	// Below poorAgreement the text of a tier is doubled, above goodAgreement
	// halved.
	poorAgreement, goodAgreement = 0.25, 0.8
	// minTokens bounds how far a tier shrinks.
	minTokens = 128
)

// tune compares the ranks of children on tier n-1 with those on tier n, and changes
// the amount of text of the former.
func (l *Ladder) tune(g *generation, n int, before, after []Individual) {
	var a, b []float64
	for _, in := range after {
		at := slices.IndexFunc(before, func(o Individual) bool { return o.ID == in.ID })
		a, b = append(a, before[at].Score.Fitness), append(b, in.Score.Fitness)
	}
	if len(a) < 3 {
		return
	}
	ld := g.s.Ladder
	agree := &ld.Agreement[n-2]
	*agree = agreementMemory**agree + (1-agreementMemory)*Spearman(a, b)
	tokens := &ld.Tiers[n-2]
	was := *tokens
	switch half := was / 2; {
	case *agree < poorAgreement && 2*was < ld.Tiers[n-1]:
		*tokens = 2 * was
	case *agree > goodAgreement && half >= min(minTokens, l.Tiers[0]) && (n == 2 || half > ld.Tiers[n-3]):
		*tokens = half
	}
	if *tokens != was {
		*agree = (poorAgreement + goodAgreement) / 2
		g.s.event(fmt.Sprintf("tier %d uses %d tokens instead of %d: the rank correlation with the next tier is %.2f", n-1, *tokens, was, Spearman(a, b)))
	}
}

// typedFront are the sizes, as shares of the target, of the other subnets of the front where levels have types.
func typedFront() []float64 { return []float64{1.15, 0.9, 1.3, 0.8, 1.05} }

// fillFront scores, every FrontEvery generations, an allocation for another size.
func (l *Ladder) fillFront(ctx context.Context, g *generation) error {
	ld := g.s.Ladder
	if len(l.Front) == 0 || l.FrontEvery < 1 || (g.s.Generation+1)%l.FrontEvery != 0 {
		return nil
	}
	size := l.Front[ld.Sized%len(l.Front)]
	ld.Sized++
	if g.s.Target == Ratio(size) {
		return nil
	}
	// Allocated for that size; its cost is still in the unit of the search's target.
	other := *g
	other.s.Target = Ratio(size)
	if g.p.Levels.Typed() { // sizes around the target
		size = typedFront()[(ld.Sized-1)%len(typedFront())]
		other.s.Target = g.s.Target
		other.s.Target.Value *= size
	}
	choice, err := l.allocate(&other, newCosts(g.p, other.s.Target), predicted(g.p.Levels).weighted(ld.Sense.mean()))
	if err != nil {
		return nil // the levels do not reach that size
	}
	candidate, err := g.p.candidate(choice)
	if err != nil {
		return err
	}
	n := len(ld.Tiers)
	name := fmt.Sprintf("allocated for %g", size)
	if g.p.Levels.Typed() {
		name = fmt.Sprintf("allocated for %v", other.s.Target)
	}
	in := g.individual(candidate, 0, ForOthers, name)
	_, err = g.score(ctx, []Individual{in}, n, Tier{Tokens: ld.Tiers[n-1]})
	return err
}

// selectParent makes the best individual the parent of the next generation if it is
// significantly better, and makes the step finer when none was for a while. Children
// that are better, but not significantly, do not enter the population.
func (l *Ladder) selectParent(g *generation, parent Individual, seen []Individual) {
	ld := g.s.Ladder
	lucky := 0
	seen = slices.DeleteFunc(seen, func(in Individual) bool {
		luck := better(in, parent) < 0 && !in.Score.significantlyBetter(parent.Score, l.Errors)
		if luck {
			lucky++
		}
		return luck
	})
	if lucky > 0 {
		g.s.event(fmt.Sprintf("%d children are better than #%d by less than %g standard errors", lucky, parent.ID, l.Errors))
	}
	g.s.Population = append([]Individual{parent}, seen...)
	slices.SortStableFunc(g.s.Population, better)
	best := g.s.Population[0]
	if best.ID != parent.ID {
		ld.Stale = 0
		g.s.event(fmt.Sprintf("#%d is better: %.4f instead of %.4f (%s)", best.ID, best.Score.Fitness, parent.Score.Fitness, best.Moves))
		return
	}
	if ld.Stale++; ld.Stale >= l.Patience && ld.Step+1 < len(l.Steps) {
		ld.Stale = 0
		ld.Step++
		g.s.event(fmt.Sprintf("steps of %d levels from now on", l.Steps[ld.Step]))
	}
}
