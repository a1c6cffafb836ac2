package subnet

import (
	"errors"
	"fmt"
	"slices"
)

// Limits on sizes in text and files, far above those of any model in use.
const (
	MaxUnits  = 1 << 17 // units of one kind in one layer
	MaxLayers = 1 << 10 // layers of one model
	MaxVocab  = 1 << 24 // rows of the embedding

	MaxPositions = 1 << 24 // rows of a table of learned positions
)

var (
	// ErrInvalid is wrapped by errors about masks that do not fit their geometry, and about an impossible geometry.
	ErrInvalid = errors.New("subnet: invalid")
	// ErrSyntax is wrapped by errors about the text or binary form of sets and masks.
	ErrSyntax = errors.New("subnet: syntax error")
)

// LayerGeometry counts the units of one layer of the dense model: query heads,
// KV heads (Heads is a multiple of it) and MLP channels. Zero heads or zero
// channels mean a layer without that block.
type LayerGeometry struct{ Heads, KVHeads, FFN int }

// HeadsPerGroup returns how many query heads share one KV head, 0 in a layer
// without attention.
func (g LayerGeometry) HeadsPerGroup() int {
	if g.KVHeads == 0 {
		return 0
	}
	return g.Heads / g.KVHeads
}

// Geometry is the shape of the dense model, as masks and their costs need it. The matrices of a layer are W_Q [Heads·HeadDim, Hidden], W_K and
// W_V [KVHeads·HeadDim, Hidden], W_O [Hidden, Heads·HeadDim], W_G and W_U
// [FFN, Hidden] and W_D [Hidden, FFN]. An ungated family has no W_G.
type Geometry struct {
	Arch    string // general.architecture of the source file: llama, qwen2, …
	Hidden  int    // width of the residual stream
	Vocab   int    // rows of the embedding and of the LM head
	HeadDim int    // channels of one head
	Tied    bool   // the LM head is the embedding
	QKVBias bool   // biases on W_Q, W_K and W_V
	QKNorm  bool   // RMS norms over each query and key head
	// OutBias: W_O and W_D have biases, as in re-fitted files.
	OutBias bool
	// HalfSplit: rotary pairs are (i, i+HeadDim/2), otherwise adjacent rows
	// (2i, 2i+1).
	HalfSplit bool
	// RopeFreqs: the file has a rope_freqs tensor of HeadDim/2 factors.
	RopeFreqs bool
	// Positions is the number of rows of the table of learned positions, 0 for
	// rotary positions.
	Positions int
	Layers    []LayerGeometry
}

// Validate returns an error about the first count that is out of range. It wraps
// [ErrInvalid].
func (g *Geometry) Validate() error {
	if g == nil {
		return fmt.Errorf("%w: no geometry", ErrInvalid)
	}
	if len(g.Layers) == 0 || len(g.Layers) > MaxLayers {
		return fmt.Errorf("%w: %d layers, outside 1 to %d", ErrInvalid, len(g.Layers), MaxLayers)
	}
	for _, c := range []struct {
		name   string
		n, max int
	}{{"hidden size", g.Hidden, MaxUnits}, {"vocabulary", g.Vocab, MaxVocab}, {"head size", g.HeadDim, MaxUnits}} {
		if c.n < 1 || c.n > c.max {
			return fmt.Errorf("%w: %s %d, outside 1 to %d", ErrInvalid, c.name, c.n, c.max)
		}
	}
	if g.Positions < 0 || g.Positions > MaxPositions {
		return fmt.Errorf("%w: %d positions, outside 0 to %d", ErrInvalid, g.Positions, MaxPositions)
	}
	for i, l := range g.Layers {
		if l.Heads < 0 || l.Heads > MaxUnits || l.KVHeads < 0 || l.FFN < 0 || l.FFN > MaxUnits {
			return fmt.Errorf("%w: layer %d: %d heads, %d KV heads, %d MLP channels", ErrInvalid, i, l.Heads, l.KVHeads, l.FFN)
		}
		if (l.Heads == 0) != (l.KVHeads == 0) || l.KVHeads > 0 && l.Heads%l.KVHeads != 0 {
			return fmt.Errorf("%w: layer %d: %d heads are not a multiple of %d KV heads", ErrInvalid, i, l.Heads, l.KVHeads)
		}
	}
	return nil
}

// Equal reports whether g and h describe the same shape.
func (g *Geometry) Equal(h *Geometry) bool {
	if g == h || g == nil || h == nil {
		return g == h
	}
	return g.Arch == h.Arch && g.Hidden == h.Hidden && g.Vocab == h.Vocab && g.HeadDim == h.HeadDim &&
		g.Tied == h.Tied && g.QKVBias == h.QKVBias && g.QKNorm == h.QKNorm && g.OutBias == h.OutBias &&
		g.HalfSplit == h.HalfSplit && g.RopeFreqs == h.RopeFreqs && g.Positions == h.Positions &&
		slices.Equal(g.Layers, h.Layers)
}

// Layer is the mask of one layer: the units kept.
//
// QK and VO hold one set of HeadDim in-head channels per KV group of the dense
// layer; nil keeps all channels of all groups. QK[g] selects rows of W_K of
// group g and rows of W_Q of each of its kept query heads; VO[g] selects rows of
// W_V of group g and, for each of its kept query heads, columns of W_O. The
// sets of a group without kept heads have no effect.
type Layer struct {
	Heads    Set // query heads
	Channels Set // MLP channels: rows of W_G (where there is one) and W_U, columns of W_D
	QK, VO   []Set
}

// DenseLayer returns the mask that keeps everything of a layer.
func DenseLayer(g LayerGeometry) Layer {
	return Layer{Heads: Full(g.Heads), Channels: Full(g.FFN)}
}

// Groups returns the KV groups kept: those with a kept query head.
func (l Layer) Groups(g LayerGeometry) Set {
	kept := Empty(g.KVHeads)
	if per := g.HeadsPerGroup(); per > 0 {
		for _, h := range l.Heads.Indices() {
			kept.words[h/per/wordBits] |= 1 << (h / per % wordBits)
		}
	}
	return kept.counted()
}

// IsDropped reports whether neither block of the layer keeps anything.
func (l Layer) IsDropped() bool { return l.Heads.IsEmpty() && l.Channels.IsEmpty() }

// QKOf returns the Q/K channels kept in group g of heads of headDim channels.
func (l Layer) QKOf(g, headDim int) Set { return inHead(l.QK, g, headDim) }

// VOOf returns the V/O channels kept in group g of heads of headDim channels.
func (l Layer) VOOf(g, headDim int) Set { return inHead(l.VO, g, headDim) }

func inHead(sets []Set, g, headDim int) Set {
	if sets == nil {
		return Full(headDim)
	}
	return sets[g]
}

// Equal reports whether l and m keep the same units.
func (l Layer) Equal(m Layer) bool {
	return l.Heads.Equal(m.Heads) && l.Channels.Equal(m.Channels) &&
		slices.EqualFunc(l.QK, m.QK, Set.Equal) && slices.EqualFunc(l.VO, m.VO, Set.Equal)
}

// canonical returns l in the one form of its choice of units: in-head sets of
// dropped groups are full, and nil replaces sets that are all full.
func (l Layer) canonical(g LayerGeometry, headDim int) Layer {
	groups := l.Groups(g)
	l.QK = canonicalSets(l.QK, groups, headDim)
	l.VO = canonicalSets(l.VO, groups, headDim)
	return l
}

func canonicalSets(sets []Set, groups Set, headDim int) []Set {
	full := true
	out := slices.Clone(sets)
	for g := range out {
		if !groups.Has(g) {
			out[g] = Full(headDim)
		}
		full = full && out[g].IsFull() && out[g].n == headDim
	}
	if full {
		return nil
	}
	return out
}

// Validate returns an error about the first set that does not fit the layer.
func (l Layer) Validate(g LayerGeometry, headDim int) error {
	if l.Heads.n != g.Heads {
		return fmt.Errorf("mask over %d query heads, the layer has %d", l.Heads.n, g.Heads)
	}
	if l.Channels.n != g.FFN {
		return fmt.Errorf("mask over %d MLP channels, the layer has %d", l.Channels.n, g.FFN)
	}
	for _, kind := range []struct {
		name string
		sets []Set
	}{{"Q/K", l.QK}, {"V/O", l.VO}} {
		if kind.sets == nil {
			continue
		}
		if len(kind.sets) != g.KVHeads {
			return fmt.Errorf("%s channels of %d KV groups, the layer has %d", kind.name, len(kind.sets), g.KVHeads)
		}
		groups := l.Groups(g)
		for i, s := range kind.sets {
			if s.n != headDim {
				return fmt.Errorf("KV group %d: %s mask over %d channels, heads have %d", i, kind.name, s.n, headDim)
			}
			if groups.Has(i) && s.IsEmpty() {
				return fmt.Errorf("KV group %d: heads are kept, but none of their %s channels: drop the group instead", i, kind.name)
			}
		}
	}
	return nil
}

// Masks is an immutable choice of units for all layers of a model, and of entries
// of its vocabulary. Masks derived
// from one another share their unchanged layers. The zero value has no layers
// and is not valid.
type Masks struct {
	geometry *Geometry
	layers   []Layer
	vocab    Set // entries of the vocabulary that are kept; the zero value for all
}

// Dense returns the masks that keep everything.
func Dense(g *Geometry) Masks {
	layers := make([]Layer, len(g.Layers))
	for i, l := range g.Layers {
		layers[i] = DenseLayer(l)
	}
	return Masks{geometry: g, layers: layers}
}

// New returns the masks made of the given layers and the whole vocabulary, checked
// as by [Masks.Validate].
func New(g *Geometry, layers []Layer) (Masks, error) {
	if err := g.Validate(); err != nil {
		return Masks{}, err
	}
	m := Masks{geometry: g, layers: slices.Clone(layers)}
	if err := m.Validate(); err != nil {
		return Masks{}, err
	}
	for i, l := range m.layers {
		m.layers[i] = l.canonical(g.Layers[i], g.HeadDim)
	}
	return m, nil
}

// Geometry returns the shape of the dense model, which the caller must not change.
func (m Masks) Geometry() *Geometry { return m.geometry }

// Layers returns how many layers the dense model has.
func (m Masks) Layers() int { return len(m.layers) }

// Layer returns the mask of layer i.
func (m Masks) Layer(i int) Layer { return m.layers[i] }

// With returns m with layer i replaced. It does not check that the layer fits,
// see [Masks.Validate].
func (m Masks) With(i int, l Layer) Masks {
	g := m.geometry.Layers[i]
	if l.Validate(g, m.geometry.HeadDim) == nil {
		l = l.canonical(g, m.geometry.HeadDim)
	}
	m.layers = slices.Clone(m.layers)
	m.layers[i] = l
	return m
}

// Equal reports whether m and n keep the same units of models of one shape.
func (m Masks) Equal(n Masks) bool {
	return m.geometry.Equal(n.geometry) && slices.EqualFunc(m.layers, n.layers, Layer.Equal) && m.vocab.Equal(n.vocab)
}

// Validate returns an error about the first layer and unit that do not fit the
// geometry, and about masks that keep no layer. It wraps [ErrInvalid].
func (m Masks) Validate() error {
	if m.geometry == nil {
		return fmt.Errorf("%w: no geometry", ErrInvalid)
	}
	if len(m.layers) != len(m.geometry.Layers) {
		return fmt.Errorf("%w: masks of %d layers, the model has %d", ErrInvalid, len(m.layers), len(m.geometry.Layers))
	}
	kept := false
	for i, l := range m.layers {
		if err := l.Validate(m.geometry.Layers[i], m.geometry.HeadDim); err != nil {
			return fmt.Errorf("%w: layer %d: %w", ErrInvalid, i, err)
		}
		kept = kept || !l.IsDropped()
	}
	if !kept {
		return fmt.Errorf("%w: every layer is dropped", ErrInvalid)
	}
	if m.TrimsVocab() {
		return checkVocab(m.geometry, m.vocab)
	}
	return nil
}

// QRows returns the rows of W_Q of a layer's kept query heads in dense order, each head·HeadDim + channel, with all channels.
func (m Masks) QRows(layer int) []int { return m.headRows(m.layers[layer].Heads) }

// KVRows returns the rows of W_K and W_V of a layer's kept KV groups in dense order, with all channels.
func (m Masks) KVRows(layer int) []int {
	return m.headRows(m.layers[layer].Groups(m.geometry.Layers[layer]))
}

func (m Masks) headRows(units Set) []int {
	rows := make([]int, 0, units.Len()*m.geometry.HeadDim)
	for _, u := range units.Indices() {
		for c := range m.geometry.HeadDim {
			rows = append(rows, u*m.geometry.HeadDim+c)
		}
	}
	return rows
}

// OColumns returns the kept columns of W_O of a layer in dense order, each
// head·HeadDim + channel.
func (m Masks) OColumns(layer int) []int {
	g, l := m.geometry.Layers[layer], m.layers[layer]
	columns := make([]int, 0, l.Heads.Len()*m.geometry.HeadDim)
	for _, h := range l.Heads.Indices() {
		for _, c := range l.VOOf(h/g.HeadsPerGroup(), m.geometry.HeadDim).Indices() {
			columns = append(columns, h*m.geometry.HeadDim+c)
		}
	}
	return columns
}
