package oneshot

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

// unitParams returns the parameters of one unit in the block matrices: a channel, or a KV group with its query heads.
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

// budget returns how many block parameters a ratio allows.
func budget(g *subnet.Geometry, ratio float64) (int64, error) {
	if !(ratio > 0 && ratio <= 1) {
		return 0, fmt.Errorf("ratio %g is not in (0, 1]: %w", ratio, ErrRatio)
	}
	return int64(math.Floor(ratio*float64(g.BlockParams()) + 0.5)), nil
}

// widths shares the units that a ratio leaves out over the layers.
type widths struct {
	g         *subnet.Geometry
	ratio     float64
	step      int     // granularity of MLP widths
	attention bool    // KV groups are dropped too
	floor     float64 // share of its channels that every layer keeps
	groups    float64 // share of its KV groups that uniform keeps in every layer; 0 is the ratio
	saved     savings // nil for parameters
}

// savings is what dropping a unit of each module saves of the cost that a target compares.
type savings [][subnet.Modules]float64

// savingsOf returns the mean savings over half of each module's units: costs such as the time per token are not linear. It returns nil, for
// parameters, where units of one layer alone save nothing, as where files hold them as zeros.
func savingsOf(g *subnet.Geometry, cost func(subnet.Masks) float64) (savings, error) {
	s := make(savings, len(g.Layers))
	dense := denseCounts(g)
	all, err := dense.masks(g)
	if err != nil {
		return nil, err
	}
	whole := cost(all)
	for i := range g.Layers {
		for _, m := range []subnet.Module{subnet.Attention, subnet.MLP} {
			c := denseCounts(g)
			have := c.of(i, m)
			dropped := have - have/2
			if have < 2 {
				dropped = have
			}
			if dropped == 0 {
				continue
			}
			c.list(m)[i] = have - dropped
			masks, err := c.masks(g)
			if err != nil {
				return nil, err
			}
			if s[i][m] = (whole - cost(masks)) / float64(dropped); !(s[i][m] > 0) {
				return nil, nil
			}
		}
	}
	return s, nil
}

// uniform gives each layer the same share of its channels, and of its KV groups where attention is cut too: those are
// rounded to the nearest count of at least one, which the channels compensate for. What rounding to steps of channels
// leaves over goes to the next layer.
func (w widths) uniform() (counts, error) {
	most, err := budget(w.g, w.ratio)
	if err != nil {
		return counts{}, err
	}
	w.floor = 0
	groups := w.ratio
	if w.groups > 0 {
		groups = w.groups
	}
	c := denseCounts(w.g)
	var channels int64
	left := most
	for i, l := range w.g.Layers {
		if w.attention && l.KVHeads > 0 {
			c.groups[i] = max(1, int(math.Round(groups*float64(l.KVHeads))))
		}
		left -= int64(c.groups[i]) * unitParams(w.g, i, subnet.Attention)
		channels += int64(l.FFN)
	}
	share := min(1, float64(left)/float64(max(channels, 1)*unitParams(w.g, 0, subnet.MLP)))
	if share == 1 {
		return c, nil
	}
	perLayer, carry := w.g.Limits().PerLayer, 0.0
	for i, l := range w.g.Layers {
		exact := share*float64(l.FFN) + carry
		n := min(l.FFN, int(math.Floor(exact/float64(w.step)+1e-9))*w.step)
		if perLayer { // in other files a layer narrower than another is padded with zeros
			carry = exact - float64(n)
		}
		if l.FFN > 0 && n < min(w.step, l.FFN) {
			return counts{}, w.tooSmall()
		}
		c.channels[i] = n
	}
	return c, nil
}

// leastChannels returns how many channels a layer keeps at least: a step and its floor, if it has so many.
func (w widths) leastChannels(layer int) int {
	all := w.g.Layers[layer].FFN
	least := max(w.step, int(math.Ceil(w.floor*float64(all)/float64(w.step)-1e-9))*w.step)
	return min(least, all)
}

// reachesRatio reports whether widths of a kind reach the ratio.
func (w widths) reachesRatio(kind Widths) bool {
	if kind == Uniform {
		_, err := w.uniform()
		return err == nil
	}
	return w.leastRatio() <= w.ratio
}

// tooSmall reports the smallest ratio that the units that may be dropped allow.
func (w widths) tooSmall() error {
	hint := ""
	if !w.attention {
		hint = " (MLP channels alone)"
	}
	return fmt.Errorf("the units that may be dropped%s allow ratios from %.3f, not %g: %w", hint, w.leastRatio(), w.ratio, ErrRatio)
}

// leastRatio returns the ratio with as few units as may be kept.
func (w widths) leastRatio() float64 {
	return float64(w.least().params(w.g)) / float64(w.g.BlockParams())
}

// least returns as few units as may be kept.
func (w widths) least() counts {
	c := denseCounts(w.g)
	for i, l := range w.g.Layers {
		c.channels[i] = w.leastChannels(i)
		if w.attention {
			c.groups[i] = min(1, l.KVHeads)
		}
	}
	return c
}

// drop is the next step of one module: the number of units it would keep.
type drop struct {
	layer  int
	module subnet.Module
	keep   int
	rate   float64 // cost per parameter, or per what the target saves
}

// costs returns the cost of dropping units of a module, from have to keep.
type costs func(layer int, m subnet.Module, have, keep int) float64

// allocateGreedy drops units a step at a time, each time where the cost per parameter is least, until the ratio is met. A step
// is the granularity in channels, or one KV group; every layer keeps one step of each, and its floor.
func (w widths) allocateGreedy(cost costs) (counts, error) {
	most, err := budget(w.g, w.ratio)
	if err != nil {
		return counts{}, err
	}
	c := denseCounts(w.g)
	// The cost of a step does not change until the module is cut.
	var drops []drop
	for i := range w.g.Layers {
		for _, m := range []subnet.Module{subnet.MLP, subnet.Attention} {
			if m == subnet.Attention && !w.attention {
				continue
			}
			if d, ok := w.next(c, i, m, cost); ok {
				drops = append(drops, d)
			}
		}
	}
	for size := c.params(w.g); size > most; {
		if len(drops) == 0 {
			return counts{}, w.tooSmall()
		}
		best := 0
		for i, d := range drops {
			if d.rate < drops[best].rate {
				best = i
			}
		}
		d := drops[best]
		size -= int64(c.of(d.layer, d.module)-d.keep) * unitParams(w.g, d.layer, d.module)
		c.list(d.module)[d.layer] = d.keep
		if n, ok := w.next(c, d.layer, d.module, cost); ok {
			drops[best] = n
		} else {
			drops[best] = drops[len(drops)-1]
			drops = drops[:len(drops)-1]
		}
	}
	return c, nil
}

// next returns the next step of a module, if it may still be cut.
func (w widths) next(c counts, layer int, m subnet.Module, cost costs) (drop, bool) {
	have, by, least := c.of(layer, m), 1, 1
	if m == subnet.MLP {
		by, least = w.step, w.leastChannels(layer)
	}
	keep := (have - 1) / by * by // the first step is shorter where the width is no multiple
	if keep < least || have == 0 {
		return drop{}, false
	}
	unit := float64(unitParams(w.g, layer, m))
	if w.saved != nil {
		unit = w.saved[layer][m]
	}
	return drop{layer, m, keep, cost(layer, m, have, keep) / max(float64(have-keep)*unit, math.SmallestNonzeroFloat32)}, true
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
