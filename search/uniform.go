package search

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/lathe-llm/lathe/search/space"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Uniform chooses for model families whose files hold the same widths in all
// layers: how many KV groups all layers keep, how many MLP channels, and which
// layers go as a whole. It tries the neighbours of the best subnets until all of
// them are known; MLPs are as wide as the target leaves them. Subnets that a file
// could hold only with zeros are not in its space.
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
	evenField   = 512 // bounds the population, which is all that is known
	evenParents = 8   // of the best, whose neighbours are tried
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
			return fmt.Errorf("%w: equal widths for layers of unequal shapes", ErrConfig)
		}
	}
	if len((&evenSpace{p: p, target: t}).seeds()) == 0 {
		least := even{attention: evenLevels(l.Attention[0]) - 1, mlp: evenLevels(l.MLP[0]) - 1}
		c, err := p.candidate(least.choice(l))
		if err != nil {
			return err
		}
		return t.unreachable(t.cost(c, l))
	}
	return nil
}

// Start scores every number of groups with all layers, or with as few dropped as
// the target needs.
func (u *Uniform) Start(ctx context.Context, p *Problem, eval Scorer) (State, error) {
	g := &generation{p: p, eval: eval, full: 1, s: State{Target: p.Target}}
	if err := u.run(ctx, g, slices.Values((&evenSpace{p: p, target: p.Target}).seeds())); err != nil {
		return State{}, err
	}
	if len(g.s.Population) == 0 {
		return State{}, fmt.Errorf("search: the fitness of the first subnets is no number")
	}
	g.s.close()
	return g.s, nil
}

// Step scores neighbours of the best that are not known yet.
func (u *Uniform) Step(ctx context.Context, p *Problem, s State, eval Scorer) (State, error) {
	g := &generation{p: p, s: s.clone(), eval: eval, full: 1}
	widths := &evenSpace{p: p, target: s.Target}
	choices := func(yield func(space.Choice) bool) {
		for _, c := range widths.seeds() {
			if !yield(c) {
				return
			}
		}
		for _, in := range g.s.Population[:min(len(g.s.Population), evenParents)] {
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

// run scores those of the choices that are not known, and what was made by hand.
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
		g.s.Done = "the fitness of all neighbours of the best is no number"
	}
	g.s.Population = append(g.s.Population, slices.DeleteFunc(scored, func(in Individual) bool { return !within(in, g.s.Target) })...)
	slices.SortStableFunc(g.s.Population, better)
	g.s.Population = g.s.Population[:min(len(g.s.Population), evenField)]
	return nil
}

// Retarget keeps what is known to fit.
func (u *Uniform) Retarget(p *Problem, s State, t Target) State {
	return (&Random{}).Retarget(p, s, t)
}

// Accepts reports a state that is not one of this strategy.
func (u *Uniform) Accepts(*Problem, State) error { return nil }

// even is a subnet whose kept layers are at the same levels.
type even struct {
	attention, mlp int
	dropped        subnet.Set // layers
}

// evenLevels is how many levels of a ladder keep something.
func evenLevels(l space.Ladder) int {
	n := len(l)
	if n > 1 && l[n-1].Params == 0 {
		n--
	}
	return n
}

// choice returns the levels of a subnet.
func (e even) choice(l *space.Levels) space.Choice {
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

// evenSpace makes subnets within a target.
type evenSpace struct {
	p      *Problem
	target Target
}

// read takes a choice apart; false means that its layers are not at the same
// levels.
func (s *evenSpace) read(c space.Choice) (even, bool) {
	l, layers := s.p.Levels, len(s.p.Geometry.Layers)
	if len(c) != l.Slots() {
		return even{}, false
	}
	e := even{attention: -1, dropped: subnet.Empty(layers)}
	for i := range layers {
		a, m := int(c[subnet.Modules*i+int(subnet.Attention)]), int(c[subnet.Modules*i+int(subnet.MLP)])
		switch {
		case l.Attention[i][a].Params == 0 && l.MLP[i][m].Params == 0:
			e.dropped = e.dropped.With(i)
		case e.attention < 0:
			e.attention, e.mlp = a, m
		case a != e.attention || m != e.mlp:
			return even{}, false
		}
	}
	return e, e.attention >= 0
}

// fit returns the choice with the widest MLPs that the target has room for, and
// false where there is none, or none that a file holds without zeros.
func (s *evenSpace) fit(attention int, dropped subnet.Set) (space.Choice, bool) {
	l := s.p.Levels
	if attention < 0 || attention >= evenLevels(l.Attention[0]) || dropped.IsFull() || dropped.Len() > 0 && !s.droppable() {
		return nil, false
	}
	for m := range evenLevels(l.MLP[0]) {
		choice := even{attention, m, dropped}.choice(l)
		c, err := s.p.candidate(choice)
		if err != nil {
			return nil, false
		}
		if s.target.cost(c, l) <= s.target.Value*(1+1e-9) {
			return choice, c.Masks.Size().ZeroedParams == 0
		}
	}
	return nil, false
}

// droppable reports whether the ladders have levels that keep nothing.
func (s *evenSpace) droppable() bool {
	a, m := s.p.Levels.Attention[0], s.p.Levels.MLP[0]
	return a[len(a)-1].Params == 0 && m[len(m)-1].Params == 0
}

// seeds are the choices that a search begins with: every number of groups, with the
// fewest layers dropped for which any fits, those first that are predicted to cost
// least.
func (s *evenSpace) seeds() []space.Choice {
	dropped := subnet.Empty(len(s.p.Geometry.Layers))
	for !dropped.IsFull() {
		var out []space.Choice
		for a := range evenLevels(s.p.Levels.Attention[0]) {
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

// near yields the neighbours of a subnet: a group more or less, layers more or less
// dropped. It returns what yield returned last.
func (s *evenSpace) near(e even, yield func(space.Choice) bool) bool {
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

// drops lists what may be dropped besides, the least predicted loss for each layer
// first.
func (s *evenSpace) drops(dropped subnet.Set) []subnet.Set {
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

// runs are the layers that go together: each by itself and, where kinds of layers
// take turns, as many in a row as leave the order of the others.
func (s *evenSpace) runs() []subnet.Set {
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
