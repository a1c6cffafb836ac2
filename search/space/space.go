package space

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Ratios is a range of inheriting ratios with the distance between neighbours.
type Ratios struct{ Lo, Hi, Step float64 }

// count returns how many ratios the range has.
func (r Ratios) count() int {
	if r.Step <= 0 {
		return 1
	}
	return int(math.Floor((r.Hi-r.Lo)/r.Step+1e-9)) + 1
}

// draw returns one of the ratios with equal probability.
func (r Ratios) draw(rng *rand.Rand) float64 {
	return min(r.Hi, r.Lo+r.Step*float64(rng.IntN(r.count())))
}

// Space bounds the masks of a search.
type Space struct {
	// Attention holds the ratios of channels kept inside a head, MLP those of
	// MLP channels, in every kept layer.
	Attention, MLP Ratios
	// MinLayers is the minimum depth: the number of layers kept.
	MinLayers int
	// Granularity divides the number of kept MLP channels: 32 for the blocks of
	// quantised rows, 256 for those of K-quants.
	Granularity int
	// HeadGranularity divides the number of kept channels inside a head.
	HeadGranularity int
}

// PaperSpace returns the search space of the paper's table 1 for the LLaMA family:
// the row of the largest ratio that is not above target (the last row below 0.5),
// with the depths of its 32 layers scaled to those of g. As there, channels are
// chosen one by one.
func PaperSpace(g *subnet.Geometry, target float64) Space {
	s := Space{Granularity: 1, HeadGranularity: 1}
	depth := 32
	switch {
	case target >= 0.9:
		s.Attention, s.MLP = Ratios{0.9, 1, 0.01}, Ratios{0.6, 1, 0.05}
	case target >= 0.8:
		s.Attention, s.MLP = Ratios{0.8, 1, 0.01}, Ratios{0.4, 1, 0.05}
	case target >= 0.7:
		s.Attention, s.MLP, depth = Ratios{0.3, 1, 0.01}, Ratios{0.2, 1, 0.05}, 30
	default:
		s.Attention, s.MLP, depth = Ratios{0.6, 1, 0.01}, Ratios{0.1, 1, 0.05}, 28
	}
	layers := len(g.Layers)
	s.MinLayers = (layers*depth + 31) / 32
	return s
}

// Contains reports whether the masks are in the space.
func (s Space) Contains(m subnet.Masks) bool { return s.Check(m) == nil }

// Check returns an error for masks outside the space, which names the layer and
// wraps [subnet.ErrInvalid].
func (s Space) Check(m subnet.Masks) error {
	depth := 0
	for i := range m.Layers() {
		l := m.Layer(i)
		if l.IsDropped() {
			continue
		}
		depth++
		if n := l.Channels.Len(); n != 0 && !s.fits(n, l.Channels.N(), s.MLP, s.Granularity) {
			return fmt.Errorf("%w: layer %d: %d of %d MLP channels are outside the search space", subnet.ErrInvalid, i, n, l.Channels.N())
		}
		for _, group := range l.Groups(m.Geometry().Layers[i]).Indices() {
			for _, set := range []subnet.Set{l.QKOf(group, m.Geometry().HeadDim), l.VOOf(group, m.Geometry().HeadDim)} {
				if !s.fits(set.Len(), set.N(), s.Attention, s.HeadGranularity) {
					return fmt.Errorf("%w: layer %d: KV group %d: %d of %d channels are outside the search space", subnet.ErrInvalid, i, group, set.Len(), set.N())
				}
			}
		}
	}
	if depth < s.MinLayers {
		return fmt.Errorf("%w: %d layers are kept, the search space has at least %d", subnet.ErrInvalid, depth, s.MinLayers)
	}
	return nil
}

func (s Space) fits(kept, n int, r Ratios, granularity int) bool {
	return kept >= subnet.Count(n, r.Lo, granularity) && kept <= subnet.Count(n, r.Hi, granularity) &&
		(kept == n || kept%max(granularity, 1) == 0)
}

// Smallest returns the number of block parameters of the smallest masks of the
// space over g.
func (s Space) Smallest(g *subnet.Geometry) int64 {
	perLayer := make([]int64, len(g.Layers))
	for i, lg := range g.Layers {
		l := subnet.DenseLayer(lg)
		if lg.FFN > 0 {
			l.Channels = subnet.Range(lg.FFN, 0, subnet.Count(lg.FFN, s.MLP.Lo, s.Granularity))
		}
		in := subnet.Range(g.HeadDim, 0, subnet.Count(g.HeadDim, s.Attention.Lo, s.HeadGranularity))
		l.QK = make([]subnet.Set, lg.KVHeads)
		for j := range l.QK {
			l.QK[j] = in
		}
		l.VO = l.QK
		perLayer[i] = l.Params(g, i)
	}
	return smallestSum(perLayer, s.MinLayers)
}

// smallestSum returns the sum of the n smallest values.
func smallestSum(values []int64, n int) int64 {
	left := append([]int64(nil), values...)
	var sum int64
	for range min(n, len(left)) {
		least := 0
		for i, v := range left {
			if v < left[least] {
				least = i
			}
		}
		sum += left[least]
		left[least] = left[len(left)-1]
		left = left[:len(left)-1]
	}
	return sum
}
