package subnet

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is a kind of units.
type Kind uint8

// The kinds of units that a [Layer] has sets of.
const (
	Heads    Kind = iota // query heads
	Channels             // MLP channels
	QK                   // Q/K channels inside the heads of a KV group
	VO                   // V/O channels inside the heads of a KV group
)

// String returns the name of the kind in the text form of masks.
func (k Kind) String() string {
	switch k {
	case Heads:
		return "heads"
	case Channels:
		return "mlp"
	case QK:
		return "qk"
	case VO:
		return "vo"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Edit is a change of the units of one kind in one layer.
type Edit struct {
	Layer int
	Kind  Kind
	Group int // the KV group of Q/K and V/O channels, otherwise 0
	// Added and Dropped are disjoint sets of units of that kind.
	Added, Dropped Set
}

// Inverse returns the edit that undoes e.
func (e Edit) Inverse() Edit {
	e.Added, e.Dropped = e.Dropped, e.Added
	return e
}

// String returns the edit in words: "layer 3 mlp +0-31 -64-95".
func (e Edit) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "layer %d %v", e.Layer, e.Kind)
	if e.Kind == QK || e.Kind == VO {
		fmt.Fprintf(&b, " group %d", e.Group)
	}
	if !e.Added.IsEmpty() {
		fmt.Fprintf(&b, " +%v", e.Added)
	}
	if !e.Dropped.IsEmpty() {
		fmt.Fprintf(&b, " -%v", e.Dropped)
	}
	return b.String()
}

// Diff returns the edits that turn the layers of a into those of b, masks of one
// geometry, in order of layer, kind and group. It leaves out the vocabulary.
func Diff(a, b Masks) []Edit {
	var edits []Edit
	for i := range a.layers {
		la, lb := a.layers[i], b.layers[i]
		add := func(kind Kind, group int, from, to Set) {
			if !from.Equal(to) {
				edits = append(edits, Edit{Layer: i, Kind: kind, Group: group, Added: to.Minus(from), Dropped: from.Minus(to)})
			}
		}
		add(Heads, 0, la.Heads, lb.Heads)
		add(Channels, 0, la.Channels, lb.Channels)
		dim := a.geometry.HeadDim
		for g := range a.geometry.Layers[i].KVHeads {
			add(QK, g, la.QKOf(g, dim), lb.QKOf(g, dim))
		}
		for g := range a.geometry.Layers[i].KVHeads {
			add(VO, g, la.VOOf(g, dim), lb.VOOf(g, dim))
		}
	}
	return edits
}

// Apply returns m with the edits made. Adding a kept unit and dropping a dropped
// one have no effect. Errors wrap [ErrInvalid].
func (m Masks) Apply(edits ...Edit) (Masks, error) {
	out := Masks{geometry: m.geometry, layers: slices.Clone(m.layers)}
	for _, e := range edits {
		if e.Layer < 0 || e.Layer >= len(out.layers) {
			return Masks{}, fmt.Errorf("%w: edit of layer %d, the model has %d", ErrInvalid, e.Layer, len(out.layers))
		}
		if err := out.apply(e); err != nil {
			return Masks{}, fmt.Errorf("%w: layer %d: %w", ErrInvalid, e.Layer, err)
		}
	}
	out, err := New(m.geometry, out.layers)
	if err != nil {
		return Masks{}, err
	}
	out.vocab = m.vocab
	return out, nil
}

func (m Masks) apply(e Edit) error {
	g, l := m.geometry.Layers[e.Layer], &m.layers[e.Layer]
	change := func(s *Set) error {
		if e.Added.n != s.n || e.Dropped.n != s.n {
			return fmt.Errorf("edit over %d and %d %v units, the layer has %d", e.Added.n, e.Dropped.n, e.Kind, s.n)
		}
		*s = s.Minus(e.Dropped).Union(e.Added)
		return nil
	}
	changeGroup := func(sets *[]Set) error {
		if e.Group < 0 || e.Group >= g.KVHeads {
			return fmt.Errorf("edit of KV group %d, the layer has %d", e.Group, g.KVHeads)
		}
		if *sets == nil {
			*sets = slices.Repeat([]Set{Full(m.geometry.HeadDim)}, g.KVHeads)
		} else {
			*sets = slices.Clone(*sets)
		}
		return change(&(*sets)[e.Group])
	}
	switch e.Kind {
	case Heads:
		return change(&l.Heads)
	case Channels:
		return change(&l.Channels)
	case QK:
		return changeGroup(&l.QK)
	case VO:
		return changeGroup(&l.VO)
	}
	return fmt.Errorf("edit of unknown units %v", e.Kind)
}
