package search

import (
	"math"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// costs holds the costs of levels in whole units of a measure (parameters, bytes
// or nanoseconds), as far as the cost of a choice is the sum over its modules.
// [Target.cost] is exact where a file holds more than that sum.
type costs struct {
	level  [][]int64 // by slot and level
	fixed  int64     // of everything that no level changes
	budget int64
}

func newCosts(p *Problem, t Target) costs {
	l := p.Levels
	c := costs{level: make([][]int64, l.Slots())}
	for s := range c.level {
		ladder := l.Ladder(s)
		c.level[s] = make([]int64, len(ladder))
		for i := range ladder {
			c.level[s][i] = levelCost(p, t, s, i)
		}
	}
	dense := l.Dense()
	switch t.Measure {
	case Params:
		c.budget = int64(math.Floor(t.Value*float64(p.Geometry.BlockParams()) + 0.5))
	case Latency:
		c.budget = int64(t.Value * 1e9)
	default:
		whole := t.cost(Candidate{Masks: subnet.Dense(p.Geometry), Choice: dense}, l)
		c.fixed = int64(whole) - c.of(dense)
		c.budget = int64(t.Value)
	}
	return c
}

// levelCost returns the cost of one level of one slot.
func levelCost(p *Problem, t Target, slot, i int) int64 {
	level := &p.Levels.Ladder(slot)[i]
	switch t.Measure {
	case Params:
		return level.Params
	case Latency:
		return int64(math.Round(level.Seconds * 1e9))
	default: // nothing for the others
	}
	// The difference that the level makes in a model of two such layers, so that
	// no rule about first layers applies.
	layer := slot / subnet.Modules
	g := *p.Geometry
	g.Layers = []subnet.LayerGeometry{g.Layers[layer], g.Layers[layer]}
	cut := subnet.DenseLayer(g.Layers[1])
	if subnet.Module(slot%subnet.Modules) == subnet.Attention {
		cut.Heads, cut.QK, cut.VO = level.Mask.Heads, level.Mask.QK, level.Mask.VO
	} else {
		cut.Channels = level.Mask.Channels
	}
	dense := subnet.Dense(&g)
	return int64(t.cost(Candidate{Masks: dense.With(1, cut)}, nil) - t.cost(Candidate{Masks: dense}, nil))
}

// of returns the cost of a choice.
func (c costs) of(choice space.Choice) int64 {
	sum := c.fixed
	for s, v := range choice {
		sum += c.level[s][v]
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
