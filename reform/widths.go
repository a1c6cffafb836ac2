package reform

import (
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

// counts is how many units each layer keeps.
type counts struct {
	groups   []int
	channels []int
}

func denseCounts(g *subnet.Geometry) counts {
	c := counts{make([]int, len(g.Layers)), make([]int, len(g.Layers))}
	for i, l := range g.Layers {
		c.groups[i], c.channels[i] = l.KVHeads, l.FFN
	}
	return c
}

func (c counts) of(layer int, m subnet.Module) int {
	if m == subnet.Attention {
		return c.groups[layer]
	}
	return c.channels[layer]
}

func (c counts) list(m subnet.Module) []int {
	if m == subnet.Attention {
		return c.groups
	}
	return c.channels
}

// unitParams is what one unit of a module takes in the block matrices: a channel, or a KV group with its query heads.
func unitParams(g *subnet.Geometry, layer int, m subnet.Module) int64 {
	l := g.Layers[layer]
	if m == subnet.MLP {
		return g.MLPMatrices() * int64(g.Hidden)
	}
	return 2 * int64(g.Hidden) * int64(l.HeadsPerGroup()+1) * int64(g.HeadDim)
}

func (c counts) params(g *subnet.Geometry) int64 {
	var n int64
	for i := range g.Layers {
		n += int64(c.groups[i])*unitParams(g, i, subnet.Attention) + int64(c.channels[i])*unitParams(g, i, subnet.MLP)
	}
	return n
}

// budget is how many block parameters a ratio allows.
func budget(g *subnet.Geometry, ratio float64) (int64, error) {
	if !(ratio > 0 && ratio <= 1) {
		return 0, fmt.Errorf("ratio %g is not over 0 and up to 1: %w", ratio, ErrRatio)
	}
	return int64(math.Floor(ratio*float64(g.BlockParams()) + 0.5)), nil
}

// uniform gives each layer the same share of its channels, and of its KV groups where attention is cut too: those are
// rounded to the nearest count of at least one, and the channels make up for it. What rounding to steps of channels
// leaves over goes to the next layer.
func uniform(g *subnet.Geometry, ratio float64, step int, attention bool) (counts, error) {
	most, err := budget(g, ratio)
	if err != nil {
		return counts{}, err
	}
	c := denseCounts(g)
	var channels int64
	left := most
	for i, l := range g.Layers {
		if attention && l.KVHeads > 0 {
			c.groups[i] = max(1, int(math.Round(ratio*float64(l.KVHeads))))
		}
		left -= int64(c.groups[i]) * unitParams(g, i, subnet.Attention)
		channels += int64(l.FFN)
	}
	share := min(1, float64(left)/float64(max(channels, 1)*unitParams(g, 0, subnet.MLP)))
	if share == 1 {
		return c, nil
	}
	perLayer, carry := g.Limits().PerLayer, 0.0
	for i, l := range g.Layers {
		want := share*float64(l.FFN) + carry
		n := min(l.FFN, int(math.Floor(want/float64(step)+1e-9))*step)
		if perLayer { // elsewhere a file would hold zeros where a layer is narrower than another
			carry = want - float64(n)
		}
		if l.FFN > 0 && n < min(step, l.FFN) {
			return counts{}, tooSmall(g, step, attention, 0)
		}
		c.channels[i] = n
	}
	return c, nil
}

// leastChannels is how many channels a layer keeps, if it has so many: a step, and the share floor of all.
func leastChannels(l subnet.LayerGeometry, step int, floor float64) int {
	return max(step, int(math.Ceil(floor*float64(l.FFN)/float64(step)-1e-9))*step)
}

// tooSmall says how small a ratio the units that may be dropped allow.
func tooSmall(g *subnet.Geometry, step int, attention bool, floor float64) error {
	c := denseCounts(g)
	for i, l := range g.Layers {
		c.channels[i] = min(leastChannels(l, step, floor), l.FFN)
		if attention {
			c.groups[i] = min(1, l.KVHeads)
		}
	}
	least := float64(c.params(g)) / float64(g.BlockParams())
	return fmt.Errorf("the units that may be dropped leave a ratio of %.3f or more: %w", least, ErrRatio)
}

// cheapest drops units a step at a time, each time where cost per parameter is least, until the ratio is met. A step is so
// many channels or one KV group; every layer keeps one step of each, and the share floor of its channels. cost says what
// dropping from have to keep units adds.
func cheapest(g *subnet.Geometry, ratio float64, step int, attention bool, floor float64, cost func(layer int, m subnet.Module, have, keep int) float64) (counts, error) {
	most, err := budget(g, ratio)
	if err != nil {
		return counts{}, err
	}
	c := denseCounts(g)
	modules := []subnet.Module{subnet.MLP}
	if attention {
		modules = append(modules, subnet.Attention)
	}
	// A step that was looked at once costs the same until it is taken.
	type slot struct {
		layer  int
		module subnet.Module
		keep   int
		rate   float64
	}
	next := func(layer int, m subnet.Module) (slot, bool) {
		have, by, least := c.of(layer, m), 1, 1
		if m == subnet.MLP {
			by, least = step, leastChannels(g.Layers[layer], step, floor)
		}
		keep := (have - 1) / by * by // the first step may be shorter, where the width is no multiple
		if keep < least {
			return slot{}, false
		}
		params := float64(int64(have-keep) * unitParams(g, layer, m))
		return slot{layer, m, keep, cost(layer, m, have, keep) / params}, true
	}
	var slots []slot
	for i := range g.Layers {
		for _, m := range modules {
			if s, ok := next(i, m); ok {
				slots = append(slots, s)
			}
		}
	}
	for size := c.params(g); size > most; {
		if len(slots) == 0 {
			return counts{}, tooSmall(g, step, attention, floor)
		}
		best := 0
		for i, s := range slots {
			if s.rate < slots[best].rate {
				best = i
			}
		}
		s := slots[best]
		size -= int64(c.of(s.layer, s.module)-s.keep) * unitParams(g, s.layer, s.module)
		c.list(s.module)[s.layer] = s.keep
		if n, ok := next(s.layer, s.module); ok {
			slots[best] = n
		} else {
			slots[best] = slots[len(slots)-1]
			slots = slots[:len(slots)-1]
		}
	}
	return c, nil
}

// standardized returns the scores of a ranking in its order, with mean 0 and variance 1, so that those of different
// layers can be compared.
func standardized(r importance.Ranking) []float64 {
	out := make([]float64, len(r.Order))
	var mean, square float64
	for _, s := range r.Scores {
		mean += s / float64(len(r.Scores))
	}
	for _, s := range r.Scores {
		square += (s - mean) * (s - mean) / float64(len(r.Scores))
	}
	for i, u := range r.Order {
		if square > 0 {
			out[i] = (r.Scores[u] - mean) / math.Sqrt(square)
		}
	}
	return out
}

func sumOf(x []float64) float64 {
	var s float64
	for _, v := range x {
		s += v
	}
	return s
}
