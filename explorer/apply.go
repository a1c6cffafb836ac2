package explorer

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// step is the granularity, in MLP channels, that counts computed here are rounded to where the width allows.
const granularity = 32

// Apply returns the masks changed by the mutations in order. Mutations that choose units by importance take it from s and
// fail with ErrNoStatistics where it is not there. All other errors wrap ErrInvalid and name the layer.
func Apply(m subnet.Masks, s Statistics, mutations ...Mutation) (subnet.Masks, error) {
	for _, mu := range mutations {
		next, err := apply(m, s, mu)
		if err != nil {
			return m, err
		}
		m = next
	}
	if err := m.Validate(); err != nil {
		return m, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return m, nil
}

func apply(m subnet.Masks, s Statistics, mutation Mutation) (subnet.Masks, error) {
	switch mu := mutation.(type) {
	case SetChannels:
		return each(m, []int{mu.Layer}, func(g subnet.LayerGeometry, l *subnet.Layer) error {
			l.Channels = mu.Set
			return sameSize("MLP channels", mu.Set, g.FFN)
		})
	case SetHeads:
		return each(m, []int{mu.Layer}, func(g subnet.LayerGeometry, l *subnet.Layer) error {
			l.Heads = mu.Set
			return sameSize("query heads", mu.Set, g.Heads)
		})
	case SetHeadChannels:
		return setHeadChannels(m, mu)
	case DropAttention:
		return drop(m, mu.Layers, Attention)
	case DropMLP:
		return drop(m, mu.Layers, MLP)
	case DropLayer:
		return drop(m, mu.Layers, Whole)
	case Restore:
		return each(m, mu.Layers, func(g subnet.LayerGeometry, l *subnet.Layer) error {
			take(l, subnet.DenseLayer(g), mu.Part)
			return checkPart(mu.Part)
		})
	case CopyLayer:
		return copyLayer(m, mu)
	case KeepTop:
		if err := checkPart(mu.Part); err != nil || mu.Part == Whole {
			return m, fmt.Errorf("%w: keep top needs a part, attention or mlp", ErrInvalid)
		}
		return keepTop(m, s, mu.Layers, mu.Part, mu.Count)
	case Equalise:
		return equalise(m, s, mu)
	case Invert:
		return each(m, mu.Layers, func(_ subnet.LayerGeometry, l *subnet.Layer) error {
			take(l, subnet.Layer{Heads: l.Heads.Complement(), Channels: l.Channels.Complement()}, mu.Part)
			return checkPart(mu.Part)
		})
	case SetMasks:
		if !mu.Masks.Geometry().Equal(m.Geometry()) {
			return m, fmt.Errorf("%w: masks of another model", ErrInvalid)
		}
		return mu.Masks, nil
	}
	return m, fmt.Errorf("%w: unknown mutation %T", ErrInvalid, mutation)
}

// each changes the named layers one by one.
func each(m subnet.Masks, layers []int, change func(subnet.LayerGeometry, *subnet.Layer) error) (subnet.Masks, error) {
	for _, i := range layers {
		if i < 0 || i >= m.Layers() {
			return m, fmt.Errorf("%w: layer %d, the model has layers 0 to %d", ErrInvalid, i, m.Layers()-1)
		}
		l := m.Layer(i)
		if err := change(m.Geometry().Layers[i], &l); err != nil {
			return m, fmt.Errorf("layer %d: %w", i, err)
		}
		m = m.With(i, l)
	}
	return m, nil
}

func sameSize(what string, s subnet.Set, n int) error {
	if s.N() != n {
		return fmt.Errorf("%w: a set over %d %s, the layer has %d", ErrInvalid, s.N(), what, n)
	}
	return nil
}

func checkPart(p Part) error {
	if p != Attention && p != MLP && p != Whole {
		return fmt.Errorf("%w: part %q, not attention, mlp or layer", ErrInvalid, p)
	}
	return nil
}

// take replaces a part of l by that of from.
func take(l *subnet.Layer, from subnet.Layer, p Part) {
	if p != MLP {
		l.Heads, l.QK, l.VO = from.Heads, from.QK, from.VO
	}
	if p != Attention {
		l.Channels = from.Channels
	}
}

func drop(m subnet.Masks, layers []int, p Part) (subnet.Masks, error) {
	return each(m, layers, func(g subnet.LayerGeometry, l *subnet.Layer) error {
		take(l, subnet.Layer{Heads: subnet.Empty(g.Heads), Channels: subnet.Empty(g.FFN)}, p)
		return nil
	})
}

func setHeadChannels(m subnet.Masks, mu SetHeadChannels) (subnet.Masks, error) {
	dim := m.Geometry().HeadDim
	return each(m, []int{mu.Layer}, func(g subnet.LayerGeometry, l *subnet.Layer) error {
		if mu.Group < 0 || mu.Group >= g.KVHeads {
			return fmt.Errorf("%w: KV group %d, the layer has %d", ErrInvalid, mu.Group, g.KVHeads)
		}
		if err := sameSize("channels of a head", mu.Set, dim); err != nil {
			return err
		}
		sets := &l.QK
		if mu.VO {
			sets = &l.VO
		}
		if *sets == nil {
			*sets = slices.Repeat([]subnet.Set{subnet.Full(dim)}, g.KVHeads)
		}
		*sets = slices.Clone(*sets)
		(*sets)[mu.Group] = mu.Set
		return nil
	})
}

func copyLayer(m subnet.Masks, mu CopyLayer) (subnet.Masks, error) {
	if mu.From < 0 || mu.From >= m.Layers() {
		return m, fmt.Errorf("%w: layer %d, the model has layers 0 to %d", ErrInvalid, mu.From, m.Layers()-1)
	}
	if err := checkPart(mu.Part); err != nil {
		return m, err
	}
	from, shape := m.Layer(mu.From), m.Geometry().Layers[mu.From]
	return each(m, mu.To, func(g subnet.LayerGeometry, l *subnet.Layer) error {
		if g != shape {
			return fmt.Errorf("%w: its shape is not that of layer %d", ErrInvalid, mu.From)
		}
		take(l, from, mu.Part)
		return nil
	})
}

// keepTop keeps the count most important units of a part: MLP channels or KV groups.
func keepTop(m subnet.Masks, s Statistics, layers []int, p Part, count int) (subnet.Masks, error) {
	for _, i := range layers {
		if i < 0 || i >= m.Layers() {
			return m, fmt.Errorf("%w: layer %d, the model has layers 0 to %d", ErrInvalid, i, m.Layers()-1)
		}
		if len(s.Importance) != m.Layers() {
			return m, ErrNoStatistics
		}
		g, l := m.Geometry().Layers[i], m.Layer(i)
		n := g.FFN
		if p == Attention {
			n = g.KVHeads
		}
		if count < 0 || count > n {
			return m, fmt.Errorf("%w: layer %d: %d units, it has %d", ErrInvalid, i, count, n)
		}
		if p == MLP {
			l.Channels = subnet.Of(n, Rank(s.Importance[i].Channels)[:count]...)
		} else {
			l.Heads = headsOf(g, Rank(groupScores(g, s.Importance[i].Heads))[:count])
			l.QK, l.VO = nil, nil
		}
		m = m.With(i, l)
	}
	return m, nil
}

func equalise(m subnet.Masks, s Statistics, mu Equalise) (subnet.Masks, error) {
	if mu.Part == Whole {
		for _, p := range []Part{Attention, MLP} {
			var err error
			if m, err = equalise(m, s, Equalise{Layers: mu.Layers, Part: p}); err != nil {
				return m, err
			}
		}
		return m, nil
	}
	if err := checkPart(mu.Part); err != nil {
		return m, err
	}
	if len(mu.Layers) == 0 {
		return m, nil
	}
	sum, limit := 0, math.MaxInt
	for _, i := range mu.Layers {
		if i < 0 || i >= m.Layers() {
			return m, fmt.Errorf("%w: layer %d, the model has layers 0 to %d", ErrInvalid, i, m.Layers()-1)
		}
		g := m.Geometry().Layers[i]
		if mu.Part == MLP {
			sum, limit = sum+m.Layer(i).Channels.Len(), min(limit, g.FFN)
		} else {
			sum, limit = sum+m.Layer(i).Groups(g).Len(), min(limit, g.KVHeads)
		}
	}
	mean := float64(sum) / float64(len(mu.Layers))
	count := int(math.Round(mean))
	if mu.Part == MLP && limit%granularity == 0 {
		count = granularity * int(math.Round(mean/granularity))
	}
	return keepTop(m, s, mu.Layers, mu.Part, min(count, limit))
}

// Rank lists the units from the most to the least important; equal ones in order.
func Rank(scores []float64) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	return order
}

// groupScores adds the scores of the query heads of each KV group.
func groupScores(g subnet.LayerGeometry, heads []float64) []float64 {
	scores := make([]float64, g.KVHeads)
	for h, s := range heads {
		scores[h/g.HeadsPerGroup()] += s
	}
	return scores
}

// headsOf is the set of query heads of the given KV groups.
func headsOf(g subnet.LayerGeometry, groups []int) subnet.Set {
	per := g.HeadsPerGroup()
	heads := make([]int, 0, len(groups)*per)
	for _, group := range groups {
		for h := range per {
			heads = append(heads, group*per+h)
		}
	}
	return subnet.Of(g.Heads, heads...)
}

// Describe says in one line what turned a into b.
func Describe(a, b subnet.Masks) string {
	edits := subnet.Diff(a, b)
	if len(edits) == 0 {
		return "no change"
	}
	layers := make(map[int]bool)
	for _, e := range edits {
		layers[e.Layer] = true
	}
	if len(layers) > 1 {
		first, last := edits[0].Layer, edits[len(edits)-1].Layer
		return fmt.Sprintf("%d layers of %d to %d: share %.3f → %.3f", len(layers), first, last, a.Size().Ratio, b.Size().Ratio)
	}
	i := edits[0].Layer
	g, x, y := a.Geometry().Layers[i], a.Layer(i), b.Layer(i)
	text := fmt.Sprintf("layer %d:", i)
	if !x.Heads.Equal(y.Heads) {
		text += fmt.Sprintf(" heads %d → %d", x.Heads.Len(), y.Heads.Len())
		if gx, gy := x.Groups(g).Len(), y.Groups(g).Len(); gx != gy {
			text += fmt.Sprintf(" (KV groups %d → %d)", gx, gy)
		}
	}
	if !x.Channels.Equal(y.Channels) {
		text += fmt.Sprintf(" mlp %d → %d", x.Channels.Len(), y.Channels.Len())
	}
	if x.Heads.Equal(y.Heads) && x.Channels.Equal(y.Channels) {
		text += " channels inside heads"
	}
	return text
}
