package search

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// Uniform searches for model families whose files hold the same widths in all
// layers. It chooses how many KV groups and how many MLP channels all layers keep,
// and which layers are dropped. It scores the neighbours of the best subnets until
// all of them are known; MLPs are as wide as the target allows. Its space excludes
// subnets that a file could hold only with zeros.
type Uniform struct {
	Batch  int // choices per generation
	Tokens int // of text each is scored on
}

// DefaultUniform returns the options that go with those of [DefaultLadder].
func DefaultUniform() *Uniform { return &Uniform{Batch: 8, Tokens: 8192} }

// Name returns "uniform".
func (u *Uniform) Name() string { return "uniform" }

// UsesLevels implements [Strategy].
func (u *Uniform) UsesLevels() bool { return true }

// LimitText implements [Strategy].
func (u *Uniform) LimitText(tokens int) int {
	u.Tokens = min(u.Tokens, tokens)
	return u.Tokens
}

const (
	maxPopulation  = 512 // the population holds everything that is known
	uniformParents = 8   // the best subnets whose neighbours are scored
)

// Check reports options, levels or a target that the strategy cannot work with.
func (u *Uniform) Check(p *Problem, t Target) error {
	if u.Batch < 1 || u.Tokens < 1 {
		return fmt.Errorf("%w: uniform with batches of %d on %d tokens", ErrConfig, u.Batch, u.Tokens)
	}
	if err := checkChoices(p, t); err != nil {
		return err
	}
	l := p.Levels
	for i := range p.Geometry.Layers {
		if p.Geometry.Layers[i] != p.Geometry.Layers[0] || len(l.Attention[i]) != len(l.Attention[0]) || len(l.MLP[i]) != len(l.MLP[0]) {
			return fmt.Errorf("%w: the layers have unequal shapes", ErrConfig)
		}
	}
	if len((&uniformSpace{p: p, target: t}).seeds()) == 0 {
		least := uniformWidths{attention: keepingLevels(l.Attention[0]) - 1, mlp: keepingLevels(l.MLP[0]) - 1}
		c, err := p.candidate(least.choice(l))
		if err != nil {
			return err
		}
		return t.unreachable(p.cost(t, c.Masks))
	}
	return nil
}

// Start scores every number of groups with as few layers dropped as the target
// allows.
func (u *Uniform) Start(ctx context.Context, p *Problem, eval Scorer) (State, error) {
	g := &generation{p: p, eval: eval, full: 1, s: State{Target: p.Target}}
	if err := u.run(ctx, g, slices.Values((&uniformSpace{p: p, target: p.Target}).seeds())); err != nil {
		return State{}, err
	}
	if len(g.s.Population) == 0 {
		return State{}, fmt.Errorf("search: the fitness of all initial subnets is NaN or infinite")
	}
	g.s.close()
	return g.s, nil
}

// Step scores unknown neighbours of the best.
func (u *Uniform) Step(ctx context.Context, p *Problem, s State, eval Scorer) (State, error) {
	g := &generation{p: p, s: s.clone(), eval: eval, full: 1}
	widths := &uniformSpace{p: p, target: s.Target}
	choices := func(yield func(space.Choice) bool) {
		for _, c := range widths.seeds() {
			if !yield(c) {
				return
			}
		}
		for _, in := range g.s.Population[:min(len(g.s.Population), uniformParents)] {
			if e, ok := widths.read(in.Choice); ok && !widths.near(e, yield) {
				return
			}
		}
	}
	if err := u.run(ctx, g, choices); err != nil {
		return State{}, err
	}
	g.s.close()
	return g.s, nil
}

// run scores the first unknown choices and the pending subnets made by hand.
func (u *Uniform) run(ctx context.Context, g *generation, choices iter.Seq[space.Choice]) error {
	batch := g.s.Pending
	g.s.Pending = nil
	known := append(slices.Clone(g.s.Population), batch...)
	for c := range choices {
		if in, ok := g.propose(known, c, Individual{}, Fresh); ok {
			batch, known = append(batch, in), append(known, in)
		}
		if len(batch) >= u.Batch {
			break
		}
	}
	if len(batch) == 0 {
		g.s.Done = "all neighbours of the best are known"
		return nil
	}
	scored, err := g.score(ctx, batch, 1, Tier{Tokens: u.Tokens})
	if err != nil {
		return err
	}
	if len(scored) == 0 {
		g.s.Done = "the fitness of all neighbours of the best is NaN or infinite"
	}
	g.s.Population = append(g.s.Population, slices.DeleteFunc(scored, func(in Individual) bool { return !within(in, g.s.Target) })...)
	slices.SortStableFunc(g.s.Population, better)
	g.s.Population = g.s.Population[:min(len(g.s.Population), maxPopulation)]
	return nil
}

// Retarget keeps the known subnets that fit.
func (u *Uniform) Retarget(p *Problem, s State, t Target) State {
	return (&Random{}).Retarget(p, s, t)
}

// Accepts implements [Strategy]: it accepts every state.
func (u *Uniform) Accepts(*Problem, State) error { return nil }

// uniformWidths is a subnet whose kept layers are at the same levels.
type uniformWidths struct {
	attention, mlp int
	dropped        subnet.Set // layers
}

// keepingLevels returns how many levels of a ladder keep something.
func keepingLevels(l space.Ladder) int {
	n := len(l)
	if n > 1 && l[n-1].Params == 0 {
		n--
	}
	return n
}

// choice returns the levels of a subnet.
func (e uniformWidths) choice(l *space.Levels) space.Choice {
	c := l.Dense()
	for s := range c {
		c[s] = int16(e.attention)
		if subnet.Module(s%subnet.Modules) == subnet.MLP {
			c[s] = int16(e.mlp)
		}
		if e.dropped.N() > 0 && e.dropped.Has(s/subnet.Modules) {
			c[s] = int16(len(l.Ladder(s)) - 1)
		}
	}
	return c
}

// uniformSpace enumerates subnets within a target.
type uniformSpace struct {
	p      *Problem
	target Target
}

// read returns the widths of a choice, and false if its kept layers are not at the
// same levels.
func (s *uniformSpace) read(c space.Choice) (uniformWidths, bool) {
	l, layers := s.p.Levels, len(s.p.Geometry.Layers)
	if len(c) != l.Slots() {
		return uniformWidths{}, false
	}
	e := uniformWidths{attention: -1, dropped: subnet.Empty(layers)}
	for i := range layers {
		a, m := int(c[subnet.Modules*i+int(subnet.Attention)]), int(c[subnet.Modules*i+int(subnet.MLP)])
		switch {
		case l.Attention[i][a].Params == 0 && l.MLP[i][m].Params == 0:
			e.dropped = e.dropped.With(i)
		case e.attention < 0:
			e.attention, e.mlp = a, m
		case a != e.attention || m != e.mlp:
			return uniformWidths{}, false
		}
	}
	return e, e.attention >= 0
}

// fit returns the choice with the widest MLPs that the target allows, and false
// where there is none, or none that a file holds without zeros.
func (s *uniformSpace) fit(attention int, dropped subnet.Set) (space.Choice, bool) {
	l := s.p.Levels
	if attention < 0 || attention >= keepingLevels(l.Attention[0]) || dropped.IsFull() || dropped.Len() > 0 && !s.droppable() {
		return nil, false
	}
	for m := range keepingLevels(l.MLP[0]) {
		choice := uniformWidths{attention, m, dropped}.choice(l)
		c, err := s.p.candidate(choice)
		if err != nil {
			return nil, false
		}
		if s.target.allows(s.p.cost(s.target, c.Masks)) {
			return choice, c.Masks.Size().ZeroedParams == 0
		}
	}
	return nil, false
}

// droppable reports whether the ladders have levels that keep nothing.
func (s *uniformSpace) droppable() bool {
	a, m := s.p.Levels.Attention[0], s.p.Levels.MLP[0]
	return a[len(a)-1].Params == 0 && m[len(m)-1].Params == 0
}

// seeds returns the choices that a search starts with: every number of groups, with
// the fewest layers dropped for which any choice fits. The layers of the least
// predicted loss are dropped first.
func (s *uniformSpace) seeds() []space.Choice {
	dropped := subnet.Empty(len(s.p.Geometry.Layers))
	for !dropped.IsFull() {
		var out []space.Choice
		for a := range keepingLevels(s.p.Levels.Attention[0]) {
			if c, ok := s.fit(a, dropped); ok {
				out = append(out, c)
			}
		}
		if len(out) > 0 {
			return out
		}
		next := dropped
		for _, more := range s.drops(dropped) {
			if next = dropped.Union(more); next.Len() > dropped.Len() {
				break
			}
		}
		if next.Len() == dropped.Len() {
			return nil
		}
		dropped = next
	}
	return nil
}

// near yields the neighbours of a subnet: one KV group more or less, one run of
// layers more or less. It returns the last result of yield.
func (s *uniformSpace) near(e uniformWidths, yield func(space.Choice) bool) bool {
	try := func(attention int, dropped subnet.Set) bool {
		c, ok := s.fit(attention, dropped)
		return !ok || yield(c)
	}
	if !try(e.attention+1, e.dropped) || !try(e.attention-1, e.dropped) {
		return false
	}
	for _, more := range s.drops(e.dropped) {
		if !try(e.attention, e.dropped.Union(more)) {
			return false
		}
	}
	for _, run := range s.runs() {
		if !run.Intersect(e.dropped).IsEmpty() && !try(e.attention, e.dropped.Minus(run)) {
			return false
		}
	}
	return true
}

// drops lists the runs of layers that may be dropped too, those of the least
// predicted loss per layer first.
func (s *uniformSpace) drops(dropped subnet.Set) []subnet.Set {
	l := s.p.Levels
	loss := func(run subnet.Set) float64 {
		var sum float64
		for _, i := range run.Indices() {
			sum += l.Attention[i][len(l.Attention[i])-1].Loss + l.MLP[i][len(l.MLP[i])-1].Loss
		}
		return sum / float64(run.Len())
	}
	list := slices.DeleteFunc(s.runs(), func(run subnet.Set) bool { return !run.Intersect(dropped).IsEmpty() })
	slices.SortStableFunc(list, func(a, b subnet.Set) int {
		switch x, y := loss(a), loss(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return list
}

// runs lists the layers that may be dropped together: single ones and, where kinds of
// layers alternate, whole periods, which keep the order of the others.
func (s *uniformSpace) runs() []subnet.Set {
	n := len(s.p.Geometry.Layers)
	var out []subnet.Set
	lengths := []int{1}
	if period := s.p.Geometry.Limits().Period; period > 1 {
		lengths = append(lengths, period)
	}
	for _, length := range lengths {
		for i := 0; i+length <= n; i++ {
			out = append(out, subnet.Range(n, i, i+length))
		}
	}
	return out
}
