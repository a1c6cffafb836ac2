package search

import (
	"math"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// costs holds the costs of levels in whole units of a measure (parameters, bytes,
// nanoseconds or billionths), as far as the cost of a choice is the sum over its
// modules. [Target.Cost] is exact where a file holds more than that sum.
type costs struct {
	level  [][]int64 // by slot and level
	exact  []int64   // by slot, of the modules of a base; nil without one
	fixed  int64     // of everything that no level changes
	budget int64
	typed  bool // the last slot is that of the vocabulary
}

func newCosts(p *Problem, t Target) costs {
	l := p.Levels
	dense := subnet.Dense(p.Geometry)
	unit := t.unit()
	c := costs{level: make([][]int64, l.Slots()), budget: int64(t.Value / unit)}
	if l.Typed() {
		return c.ofTypes(p, t)
	}
	whole := p.cost(t, dense)
	for s := range c.level {
		ladder := l.Ladder(s)
		c.level[s] = make([]int64, len(ladder))
		for i, level := range ladder {
			if t.Measure == Params {
				c.level[s][i] = level.Params
				continue
			}
			// By how much the level changes the cost of the dense model.
			m := dense.With(s/subnet.Modules, cutOf(dense.Layer(s/subnet.Modules), s, level.Mask))
			c.level[s][i] = int64(math.Round((p.cost(t, m) - whole) / unit))
		}
	}
	switch t.Measure {
	case Params:
		c.budget = int64(math.Floor(t.Value*float64(p.Geometry.BlockParams()) + 0.5))
	default:
		c.fixed = int64(whole/unit) - c.of(l.Dense())
	}
	return c
}

// ofTypes completes the costs of levels that have types: the bytes of their matrices, and for a memory those of the KV cache too.
func (c costs) ofTypes(p *Problem, t Target) costs {
	l := p.Levels
	c.typed = true
	dense := subnet.Dense(p.Geometry)
	for s := range c.level {
		ladder := l.Ladder(s)
		c.level[s] = make([]int64, len(ladder))
		for i, level := range ladder {
			c.level[s][i] = level.Bytes
			if t.Measure == Memory && !l.IsVocab(s) && subnet.Module(s%subnet.Modules) == subnet.Attention {
				at := s / subnet.Modules
				c.level[s][i] += t.CacheBytes(dense.With(at, cutOf(dense.Layer(at), s, level.Mask))) - t.CacheBytes(dense)
			}
		}
	}
	if whole, err := p.candidate(l.Dense()); err == nil {
		if cost := p.costOf(t, whole); !math.IsInf(cost, 0) {
			c.fixed = int64(cost) - c.of(l.Dense())
		}
	}
	return c
}

// unit is the unit of the target's measure in which costs are whole.
func (t Target) unit() float64 {
	if t.Timed() {
		return 1e-9
	}
	return 1
}

// cutOf returns a layer with the module of a slot cut like in the mask of a level.
func cutOf(layer subnet.Layer, slot int, mask subnet.Layer) subnet.Layer {
	if subnet.Module(slot%subnet.Modules) == subnet.Attention {
		layer.Heads, layer.QK, layer.VO = mask.Heads, mask.QK, mask.VO
	} else {
		layer.Channels = mask.Channels
	}
	return layer
}

// over returns the costs with those of the modules of a base, which may be nil.
func (c costs) over(p *Problem, t Target, base *space.Base) costs {
	if base == nil {
		return c
	}
	dense := subnet.Dense(p.Geometry)
	whole, unit := p.cost(t, dense), t.unit()
	c.exact = make([]int64, len(c.level))
	for s := range c.exact {
		i := s / subnet.Modules
		cut := cutOf(dense.Layer(i), s, base.Masks.Layer(i))
		if t.Measure == Params {
			params := [subnet.Modules]int64{}
			params[subnet.Attention], params[subnet.MLP] = cut.ModuleParams(p.Geometry, i)
			c.exact[s] = params[s%subnet.Modules]
			continue
		}
		c.exact[s] = int64(math.Round((p.cost(t, dense.With(i, cut)) - whole) / unit))
	}
	return c
}

// at returns the cost of one level of a slot, or of the base's module.
func (c costs) at(s int, v int16) int64 {
	if v == space.Exact {
		return c.exact[s]
	}
	return c.level[s][v]
}

// raised returns the level that is step levels above another. That above a module of the base is the first that costs more than
// the module; where none does it is the module itself.
func (c costs) raised(s int, v, step int16) int16 {
	if v != space.Exact {
		return max(0, v-step)
	}
	above := int16(-1)
	for i, cost := range c.level[s] {
		if cost > c.exact[s] {
			above = int16(i)
		}
	}
	if above < 0 {
		return v
	}
	return max(0, above-step+1)
}

// lowered returns the level that is step levels below another, as far as there are levels. That below a module of the base is
// the first that costs less than the module; where none does it is the module itself.
func (c costs) lowered(s int, v, step int16) int16 {
	bottom := int16(len(c.level[s]) - 1)
	if v != space.Exact {
		return min(bottom, v+step)
	}
	for i, cost := range c.level[s] {
		if cost < c.exact[s] {
			return min(bottom, int16(i)+step-1)
		}
	}
	return v
}

// of returns the cost of a choice.
func (c costs) of(choice space.Choice) int64 {
	sum := c.fixed
	for s, v := range choice {
		sum += c.at(s, v)
	}
	return sum
}

// fits reports whether a choice is within the budget.
func (c costs) fits(choice space.Choice) bool { return c.of(choice) <= c.budget }

// cheapest returns the level of every slot that costs least.
func (c costs) cheapest() space.Choice {
	choice := make(space.Choice, len(c.level))
	for s, level := range c.level {
		for i, v := range level {
			if v < level[choice[s]] {
				choice[s] = int16(i)
			}
		}
	}
	return choice
}

// maxBins bounds the table of [costs.allocate].
const maxBins = 1 << 14

// allocate returns the choice with the least sum of losses within the budget, and
// false when nothing fits. It is exact where the costs have few distinct sums;
// otherwise costs are rounded to 1/16384 of their span. This is the
// multiple-choice knapsack problem, solved by dynamic programming over slots and
// budget.
func (c costs) allocate(loss func(slot, level int) float64) (space.Choice, bool) {
	least := c.cheapest()
	room := c.budget - c.of(least)
	if room < 0 {
		return nil, false
	}
	above := func(s, i int) int64 { return c.level[s][i] - c.level[s][least[s]] }
	var span, unit int64
	for s := range c.level {
		var top int64
		for i := range c.level[s] {
			top = max(top, above(s, i))
			unit = gcd(unit, above(s, i))
		}
		span += top
	}
	room = min(room, span)
	unit = max(unit, 1, (room+maxBins-1)/maxBins)
	bins := int(room/unit) + 1

	best := make([]float64, bins) // best[b]: least loss of the slots so far for at most b units
	next := make([]float64, bins)
	pick := make([][]int16, len(c.level))
	for s := range c.level {
		pick[s] = make([]int16, bins)
		for b := range next {
			next[b] = math.Inf(1)
		}
		for i := range c.level[s] {
			units := int((above(s, i) + unit - 1) / unit)
			cost := loss(s, i)
			for b := units; b < bins; b++ {
				if v := best[b-units] + cost; v < next[b] {
					next[b], pick[s][b] = v, int16(i)
				}
			}
		}
		best, next = next, best
	}
	choice, b := make(space.Choice, len(c.level)), bins-1
	for s := len(c.level) - 1; s >= 0; s-- {
		choice[s] = pick[s][b]
		b -= int((above(s, int(choice[s])) + unit - 1) / unit)
	}
	return choice, true
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
