package space

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Mutation holds the probabilities of the paper's mutations, with the paper's names.
type Mutation struct {
	Pm float64 // P_m: that a set which has the new ratio already is redrawn
	Ps float64 // P_s: that the ratio of a head or of an MLP is redrawn
	Pd float64 // P_d: that the depth is redrawn
	// Alpha is the minimum similarity of a redrawn set with the old one: the units
	// that they have in common, as a share of those of the new set.
	Alpha float64
	// Literal reads the threshold as the paper prints it: Alpha is a share of all N
	// units, and Eta is how many subsets are drawn to reach it. No set of a ratio
	// below Alpha can then be redrawn.
	Literal bool
	Eta     int
	// Directed draws the overlap uniformly between the least and the greatest
	// possible one, where Alpha is a share of the smaller of the two sets.
	Directed bool
}

// Redraw is the paper's Algorithm 1 for a set s and a new size k. It returns s if
// that has the size and a random number is above P_m; otherwise a random subset of
// size k that has at least Alpha·k units in common with s, or s if there is none.
//
// The algorithm draws subsets until one has the overlap. Here the overlap is drawn
// from the distribution that those draws have, hypergeometric and cut off below the
// threshold, and then the subset with that overlap. Where the loop would end the
// outcomes have the same probabilities, and no number of tries is needed.
//
// With Literal, the overlap is at least Alpha·N, and one random number decides
// whether any of Eta subsets would have had it; if none would, Redraw returns s.
func (m Mutation) Redraw(rng *rand.Rand, s subnet.Set, k int) subnet.Set {
	if s.Len() == k && rng.Float64() > m.Pm {
		return s
	}
	if m.Directed {
		most := min(s.Len(), k)
		least := max(atLeast(m.Alpha, most), s.Len()+k-s.N())
		return overlapping(rng, s, k, least+rng.IntN(most-least+1))
	}
	if m.Literal {
		overlaps := overlapOdds(s.N(), s.Len(), k, atLeast(m.Alpha, s.N()))
		if rng.Float64() >= overlaps.acceptedIn(m.Eta) {
			return s
		}
		return overlapping(rng, s, k, overlaps.draw(rng))
	}
	overlaps := overlapOdds(s.N(), s.Len(), k, atLeast(m.Alpha, k))
	if len(overlaps.p) == 0 {
		return s
	}
	return overlapping(rng, s, k, overlaps.draw(rng))
}

// atLeast returns the least integer that is at least a share of n.
func atLeast(share float64, n int) int { return int(math.Ceil(share*float64(n) - 1e-9)) }

// overlapping returns a random set of size k with so many units in common with s.
func overlapping(rng *rand.Rand, s subnet.Set, k, common int) subnet.Set {
	return s.Sample(rng, common).Union(s.Complement().Sample(rng, k-common))
}

// odds holds the probabilities of the overlaps lo, lo+1, …
type odds struct {
	lo    int
	p     []float64 // relative to the largest
	sum   float64   // of p
	total float64   // the probability of any of them
}

// overlapOdds returns the probabilities that a random k-subset of n units has x
// units in common with a given s-subset, for x ≥ least.
func overlapOdds(n, s, k, least int) odds {
	o := odds{lo: max(least, 0, s+k-n)}
	whole := logChoose(n, k)
	var logs []float64
	for x := o.lo; x <= min(s, k); x++ {
		logs = append(logs, logChoose(s, x)+logChoose(n-s, k-x)-whole)
	}
	if len(logs) == 0 {
		return o
	}
	// Far in the tail all of them would underflow to zero.
	most := slices.Max(logs)
	for _, l := range logs {
		o.p = append(o.p, math.Exp(l-most))
		o.sum += o.p[len(o.p)-1]
	}
	o.total = min(math.Exp(most)*o.sum, 1)
	return o
}

// acceptedIn returns the probability that at least one of eta draws is among the
// overlaps.
func (o odds) acceptedIn(eta int) float64 {
	if eta < 1 {
		return 0
	}
	return -math.Expm1(float64(eta) * math.Log1p(-o.total))
}

func (o odds) draw(rng *rand.Rand) int {
	r := rng.Float64() * o.sum
	for i, p := range o.p {
		if r < p {
			return o.lo + i
		}
		r -= p
	}
	return o.lo + len(o.p) - 1
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n) + 1)
	b, _ := math.Lgamma(float64(k) + 1)
	c, _ := math.Lgamma(float64(n-k) + 1)
	return a - b - c
}

// Mutate returns m mutated as in the paper: the depth with probability P_d, the
// ratio of each head's channels (one set for Q, K, V and O, shared by a KV group)
// and of each MLP with probability P_s, and each set by [Mutation.Redraw]. A
// restored layer is that of base.
func (s Space) Mutate(rng *rand.Rand, m, base subnet.Masks, mu Mutation) subnet.Masks {
	if rng.Float64() < mu.Pd {
		m = s.redrawDepth(rng, m, base)
	}
	geometry := m.Geometry()
	for i := range m.Layers() {
		l, g := m.Layer(i), geometry.Layers[i]
		if !l.Channels.IsEmpty() {
			k := l.Channels.Len()
			if rng.Float64() < mu.Ps {
				k = subnet.Count(g.FFN, s.MLP.draw(rng), s.Granularity)
			}
			l.Channels = mu.Redraw(rng, l.Channels, k)
		}
		in := make([]subnet.Set, g.KVHeads)
		for group := range in {
			in[group] = l.VOOf(group, geometry.HeadDim)
			if !l.Groups(g).Has(group) {
				continue
			}
			k := in[group].Len()
			if rng.Float64() < mu.Ps {
				k = subnet.Count(geometry.HeadDim, s.Attention.draw(rng), s.HeadGranularity)
			}
			in[group] = mu.Redraw(rng, in[group], k)
		}
		l.QK, l.VO = in, in
		m = m.With(i, l)
	}
	return m
}

// redrawDepth returns m with random layers dropped, or restored from base, to a
// random depth of the space.
func (s Space) redrawDepth(rng *rand.Rand, m, base subnet.Masks) subnet.Masks {
	n := m.Layers()
	depth := s.MinLayers + rng.IntN(n-min(s.MinLayers, n)+1)
	kept := subnet.Empty(n)
	for i := range n {
		if !m.Layer(i).IsDropped() {
			kept = kept.With(i)
		}
	}
	if kept.Len() > depth {
		for _, i := range kept.Sample(rng, kept.Len()-depth).Indices() {
			l := m.Layer(i)
			l.Heads, l.Channels = subnet.Empty(l.Heads.N()), subnet.Empty(l.Channels.N())
			m = m.With(i, l)
		}
		return m
	}
	for _, i := range kept.Complement().Sample(rng, min(depth, n)-kept.Len()).Indices() {
		m = m.With(i, base.Layer(i))
	}
	return m
}

// Crossover returns masks with each block of each layer from a or b with equal
// probability, or with the whole layer where one of the two has dropped it. Both
// must have the same geometry.
func Crossover(rng *rand.Rand, a, b subnet.Masks) subnet.Masks {
	out := a
	for i := range a.Layers() {
		attention, mlp := rng.IntN(2) == 1, rng.IntN(2) == 1
		if a.Layer(i).IsDropped() != b.Layer(i).IsDropped() {
			mlp = attention
		}
		l := a.Layer(i)
		if attention {
			l = b.Layer(i)
			l.Channels = a.Layer(i).Channels
		}
		if mlp {
			l.Channels = b.Layer(i).Channels
		}
		out = out.With(i, l)
	}
	return out
}
