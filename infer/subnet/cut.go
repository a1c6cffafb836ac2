package subnet

import "slices"

// Zero marks a unit in a [Cut] that the file must hold although the masks do not
// keep it. It is filled with zeros, so that it changes nothing, but it takes its
// bytes.
const Zero = -1

// MinChannels is the width of the zero-filled MLP that a layer without MLP
// keeps: llama.cpp drops the attention output of a layer whose
// feed_forward_length is 0.
const MinChannels = 32

// Limits describes which shapes files of subnets can have. Units that a file must
// hold although they are dropped are filled with zeros, see [Masks.Cut].
type Limits struct {
	// PerLayer: widths may differ between layers. Otherwise all layers have
	// those of the widest.
	PerLayer bool
	// NoAttention: layers other than the first of the file may lack the attention
	// block. Otherwise a zero-filled head stays.
	NoAttention bool
	// AllQuery: a layer with attention has all query heads, because the bias of
	// W_Q must have as many elements as the hidden size.
	AllQuery bool
	// InHead: the head size may be cut, to one size and one choice of rotary
	// pairs for all layers.
	InHead bool
	// Period, where not 0, is that of the layers with full attention among those
	// with a sliding window. A layer can only be at a position of its own kind, so
	// dropped layers may have to stay before it, filled with zeros.
	Period int
}

// Limits returns the limits of files of subnets of g: those of the architecture
// that holds layers of different counts, where the family has one.
func (g *Geometry) Limits() Limits {
	f := g.family()
	limits := Limits{Period: f.Window.Period}
	to := find(f.Ragged)
	if to == &unknown || to.TiedOnly && !g.Tied || to.QKVBias == NoBias && g.QKVBias {
		return limits
	}
	limits.PerLayer, limits.NoAttention = true, to.NoAttention
	limits.AllQuery = g.QKVBias && to.QKVBias == HiddenBias
	limits.InHead = to.InHead && !g.QKVBias && !g.QKNorm && !g.HalfSplit
	return limits
}

// family returns the facts of the architecture of g.
func (g *Geometry) family() *Family { return find(g.Arch) }

// Cut is the shape of the file that holds a subnet: the unit of the dense model
// at each position, or [Zero].
type Cut struct {
	HeadDim int // channels of every head
	// Pairs holds the dense Q/K channel behind each of the HeadDim written
	// channels, for the rotary frequencies; the same in all heads.
	Pairs []int
	// Vocab is the number of entries of the vocabulary.
	Vocab int
	// Layers holds the kept layers in order, and dropped ones only where the file
	// needs them, filled with zeros.
	Layers []CutLayer
}

// CutLayer is the shape of one layer of the file.
type CutLayer struct {
	Source int // layer of the dense model
	// Groups and Heads hold the dense KV group and query head at each position;
	// the heads of the group at position j start at len(Heads)/len(Groups)·j.
	// Both are empty in a layer without attention.
	Groups, Heads []int
	// QK and VO hold, for the group at each position, the dense in-head channel
	// at each of the HeadDim positions.
	QK, VO [][]int
	// Channels holds the dense MLP channel at each position.
	Channels []int
}

// Cut returns the shape of the file that holds the subnet. Besides the units
// kept, a file has, filled with zeros:
//
//   - query heads, where the kept groups of a layer keep unequal counts;
//   - channels inside heads, beyond the largest count that any head keeps and
//     outside the rotary pairs that every head keeps;
//   - one head and its group, where the first layer has no attention;
//   - [MinChannels] MLP channels, where a layer has attention and no MLP;
//   - a layer of one head and as many channels in front, where the first layers
//     are dropped and their output biases must stay;
//   - dropped layers, where the next kept one would otherwise be at a position
//     of another kind of layer;
//   - what the other [Limits] of the family require.
func (m Masks) Cut() Cut {
	g, limits := m.geometry, m.geometry.Limits()
	cut := m.headCut(limits)
	if g.OutBias && m.layers[0].IsDropped() {
		cut.Layers = append(cut.Layers, CutLayer{Groups: []int{Zero}, Heads: []int{Zero}, Channels: padded(nil, MinChannels)})
	}
	var dropped []int // layers that may stay, filled with zeros, before the next kept one
	for i, l := range m.layers {
		if l.IsDropped() {
			dropped = append(dropped, i)
			continue
		}
		for !limits.sameKind(i, len(cut.Layers)) {
			cut.Layers = append(cut.Layers, CutLayer{
				Source: dropped[len(dropped)-1], Groups: []int{Zero}, Heads: []int{Zero}, Channels: padded(nil, MinChannels),
			})
			dropped = dropped[:len(dropped)-1]
		}
		c := CutLayer{Source: i, Channels: l.Channels.Indices()}
		c.cutHeads(l, g.Layers[i], limits)
		if len(c.Groups) == 0 && (len(cut.Layers) == 0 || !limits.NoAttention) {
			c.Groups, c.Heads = []int{Zero}, []int{Zero}
		}
		if len(c.Channels) == 0 {
			c.Channels = padded(c.Channels, MinChannels)
		}
		cut.Layers = append(cut.Layers, c)
	}
	if !limits.PerLayer {
		cut.level()
	}
	for i := range cut.Layers {
		cut.cutChannels(&cut.Layers[i], m.layers[cut.Layers[i].Source], g.HeadDim)
	}
	return cut
}

// sameKind reports whether a layer of the model may be at a position of the file.
func (l Limits) sameKind(layer, position int) bool {
	w := Window{Period: l.Period}
	return w.Local(layer) == w.Local(position)
}

// headCut returns a cut without layers whose head size and rotary pairs fit
// every kept head.
func (m Masks) headCut(limits Limits) Cut {
	dim := m.geometry.HeadDim
	whole := Cut{HeadDim: dim, Pairs: Full(dim).Indices(), Vocab: m.VocabLen()}
	if !limits.InHead || dim%2 != 0 {
		return whole
	}
	pairs, most := Empty(dim), 0
	for i, l := range m.layers {
		for _, group := range l.Groups(m.geometry.Layers[i]).Indices() {
			pairs = pairs.Union(l.QKOf(group, dim))
			most = max(most, l.VOOf(group, dim).Len())
		}
		if pairs.IsFull() || most == dim {
			return whole
		}
	}
	for _, c := range pairs.Indices() {
		pairs = pairs.With(c ^ 1)
	}
	most += most % 2
	for p := 0; pairs.Len() < most; p += 2 {
		pairs = pairs.With(p, p+1)
	}
	if pairs.IsEmpty() {
		return whole
	}
	return Cut{HeadDim: pairs.Len(), Pairs: pairs.Indices(), Vocab: whole.Vocab}
}

// cutHeads sets the groups and heads to those that l keeps.
func (c *CutLayer) cutHeads(l Layer, g LayerGeometry, limits Limits) {
	per := 0 // heads of the fullest group
	var kept [][]int
	for _, group := range l.Groups(g).Indices() {
		lo := group * g.HeadsPerGroup()
		heads := l.Heads.Intersect(Range(g.Heads, lo, lo+g.HeadsPerGroup())).Indices()
		per = max(per, len(heads))
		kept = append(kept, heads)
		c.Groups = append(c.Groups, group)
	}
	if len(kept) == 0 {
		return
	}
	groups := len(kept)
	if limits.AllQuery {
		for g.Heads%groups != 0 {
			groups++
		}
		per = g.Heads / groups
	}
	c.Groups = padded(c.Groups, groups)
	for _, heads := range kept {
		c.Heads = append(c.Heads, padded(heads, per)...)
	}
	c.Heads = padded(c.Heads, groups*per)
}

// level pads all layers to the widths of the widest.
func (cut *Cut) level() {
	var groups, per, channels int
	for _, l := range cut.Layers {
		groups = max(groups, len(l.Groups))
		per = max(per, len(l.Heads)/max(len(l.Groups), 1))
		channels = max(channels, len(l.Channels))
	}
	for i := range cut.Layers {
		l := &cut.Layers[i]
		var heads []int
		if n := len(l.Groups); n > 0 {
			for group := range slices.Chunk(l.Heads, len(l.Heads)/n) {
				heads = append(heads, padded(group, per)...)
			}
		}
		l.Heads = padded(heads, groups*per)
		l.Groups = padded(l.Groups, groups)
		l.Channels = padded(l.Channels, channels)
	}
}

// cutChannels sets the in-head channels to those that l keeps. dim is the head
// size of the dense model.
func (cut *Cut) cutChannels(c *CutLayer, l Layer, dim int) {
	c.QK, c.VO = make([][]int, len(c.Groups)), make([][]int, len(c.Groups))
	for position, group := range c.Groups {
		qk, vo := Empty(dim), Empty(dim)
		if group != Zero {
			qk, vo = l.QKOf(group, dim), l.VOOf(group, dim)
		}
		c.QK[position] = keptOrZero(cut.Pairs, qk)
		if cut.HeadDim == dim {
			c.VO[position] = keptOrZero(cut.Pairs, vo)
		} else {
			c.VO[position] = padded(vo.Indices(), cut.HeadDim)
		}
	}
}

func keptOrZero(channels []int, kept Set) []int {
	out := slices.Clone(channels)
	for i, c := range out {
		if !kept.Has(c) {
			out[i] = Zero
		}
	}
	return out
}

// padded returns units extended by zero-filled ones to n.
func padded(units []int, n int) []int {
	units = slices.Clip(units)
	for len(units) < n {
		units = append(units, Zero)
	}
	return units
}

// MLPMatrices returns how many matrices an MLP has, each of FFN·Hidden
// parameters: W_G, W_U and W_D, or the last two where there is no gate.
func (g *Geometry) MLPMatrices() int64 {
	if g.family().Ungated {
		return 2
	}
	return 3
}

// LinearInUp reports whether the output of an MLP is linear in W_U, so that
// re-fitting W_U is a least-squares problem: not where the output is normalised,
// and not without a gate, where the activation comes after W_U.
func (g *Geometry) LinearInUp() bool {
	f := g.family()
	return !f.Ungated && !f.PostNorms
}
