package mask

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Mutation holds the probabilities with which the paper's search varies masks,
// under the paper's names.
type Mutation struct {
	Pm float64 // P_m: that a set of the wanted ratio is redrawn all the same
	Ps float64 // P_s: that the ratio of a head or of an MLP is redrawn
	Pd float64 // P_d: that the depth is redrawn
	// Alpha is the overlap a redrawn set must have with the old one, as a share
	// of all N units, and Eta how many draws are tried.
	Alpha float64
	Eta   int
	// Directed draws a subset that has the overlap, where the paper waits for
	// one by chance, and takes Alpha as a share of the smaller of the two sets.
	// Chance gives overlaps near the product of the two ratios: at ratios whose
	// product is below Alpha, the printed algorithm practically never accepts.
	Directed bool
}

// Subset returns a random subset of n units of size k, each as likely.
func Subset(rng *rand.Rand, n, k int) Set { return subsetOf(rng, Full(n), k) }

// subsetOf returns a random subset of size k of s.
func subsetOf(rng *rand.Rand, s Set, k int) Set {
	out := Empty(s.n)
	left := s.count
	for _, i := range s.Indices() {
		if rng.IntN(left) < k {
			out.words[i/wordBits] |= 1 << (i % wordBits)
			k--
		}
		left--
	}
	return out.counted()
}

// Redraw is the paper's Algorithm 1 for a set s and a wanted size k: s itself
// when it has that size and a draw is above P_m; otherwise the first of at most
// Eta random subsets of size k whose overlap with s reaches Alpha·N; s itself
// when none does.
//
// The overlap of a random subset is hypergeometric, so the loop is not run: one
// draw says whether any of Eta subsets would have been accepted, one how large
// its overlap is, and the subset is drawn with that overlap. The outcomes have
// the same probabilities.
func (m Mutation) Redraw(rng *rand.Rand, s Set, k int) Set {
	if s.count == k && rng.Float64() > m.Pm {
		return s
	}
	if m.Directed {
		most := min(s.count, k)
		least := max(atLeast(m.Alpha, most), s.count+k-s.n)
		return overlapping(rng, s, k, least+rng.IntN(most-least+1))
	}
	overlaps := overlapOdds(s.n, s.count, k, atLeast(m.Alpha, s.n))
	if rng.Float64() >= overlaps.acceptedIn(m.Eta) {
		return s
	}
	return overlapping(rng, s, k, overlaps.draw(rng))
}

// atLeast returns the least number that is a share of n.
func atLeast(share float64, n int) int { return int(math.Ceil(share*float64(n) - 1e-9)) }

// overlapping returns a random set of size k that has so many units in common
// with s.
func overlapping(rng *rand.Rand, s Set, k, common int) Set {
	return subsetOf(rng, s, common).Union(subsetOf(rng, s.Complement(), k-common))
}

// odds holds the probabilities of the overlaps lo, lo+1, …
type odds struct {
	lo    int
	p     []float64
	total float64
}

// overlapOdds returns the probabilities that a random k-subset of n units has x
// units in common with a given s-subset, for x of at least least.
func overlapOdds(n, s, k, least int) odds {
	o := odds{lo: max(least, 0, s+k-n)}
	whole := logChoose(n, k)
	for x := o.lo; x <= min(s, k); x++ {
		p := math.Exp(logChoose(s, x) + logChoose(n-s, k-x) - whole)
		o.p = append(o.p, p)
		o.total += p
	}
	o.total = min(o.total, 1)
	return o
}

// acceptedIn returns the probability that one of eta draws is among the overlaps.
func (o odds) acceptedIn(eta int) float64 {
	if eta < 1 {
		return 0
	}
	return -math.Expm1(float64(eta) * math.Log1p(-o.total))
}

func (o odds) draw(rng *rand.Rand) int {
	r := rng.Float64() * o.total
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

// Mutate returns m varied as in the paper: the depth with probability P_d, the
// ratio of each head's channels (one set for Q, K, V and O, shared by a KV group)
// and of each MLP with probability P_s, and each set by [Mutation.Redraw]. A
// layer that comes back is that of base.
func (s Space) Mutate(rng *rand.Rand, m, base Masks, mu Mutation) Masks {
	out := Masks{m.geometry, slices.Clone(m.layers)}
	if rng.Float64() < mu.Pd {
		s.redrawDepth(rng, out, base)
	}
	for i, l := range out.layers {
		g := m.geometry.Layers[i]
		if !l.Channels.IsEmpty() {
			k := l.Channels.Len()
			if rng.Float64() < mu.Ps {
				k = Count(g.FFN, s.MLP.draw(rng), s.Granularity)
			}
			l.Channels = mu.Redraw(rng, l.Channels, k)
		}
		in := make([]Set, g.KVHeads)
		for group := range in {
			in[group] = l.VOOf(group, m.geometry.HeadDim)
			if !l.Groups(g).Has(group) {
				continue
			}
			k := in[group].Len()
			if rng.Float64() < mu.Ps {
				k = Count(m.geometry.HeadDim, s.Attention.draw(rng), s.HeadGranularity)
			}
			in[group] = mu.Redraw(rng, in[group], k)
		}
		l.QK, l.VO = in, in
		out.layers[i] = l.canonical(g, m.geometry.HeadDim)
	}
	return out
}

// redrawDepth drops or restores random layers of m, which it owns, until their
// number is a random depth of the space.
func (s Space) redrawDepth(rng *rand.Rand, m, base Masks) {
	n := len(m.layers)
	depth := s.MinLayers + rng.IntN(n-min(s.MinLayers, n)+1)
	kept := Empty(n)
	for i, l := range m.layers {
		if !l.IsDropped() {
			kept = kept.With(i)
		}
	}
	if kept.Len() > depth {
		for _, i := range subsetOf(rng, kept, kept.Len()-depth).Indices() {
			m.layers[i].Heads = Empty(m.layers[i].Heads.n)
			m.layers[i].Channels = Empty(m.layers[i].Channels.n)
		}
		return
	}
	for _, i := range subsetOf(rng, kept.Complement(), min(depth, n)-kept.Len()).Indices() {
		m.layers[i] = base.layers[i]
	}
}

// Crossover returns masks that take each block of each layer from a or from b,
// masks of one geometry, with equal probability; where one of the two has dropped
// the layer, the whole layer.
func Crossover(rng *rand.Rand, a, b Masks) Masks {
	out := Masks{a.geometry, slices.Clone(a.layers)}
	for i := range out.layers {
		attention, mlp := rng.IntN(2) == 1, rng.IntN(2) == 1
		if a.layers[i].IsDropped() != b.layers[i].IsDropped() {
			mlp = attention
		}
		if attention {
			l := b.layers[i]
			l.Channels = out.layers[i].Channels
			out.layers[i] = l
		}
		if mlp {
			out.layers[i].Channels = b.layers[i].Channels
		}
	}
	return out
}
