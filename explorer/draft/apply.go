package draft

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/internal/fault"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// granularity is the number of MLP channels to a multiple of which computed counts are rounded where the width allows.
const granularity = 32

// Importance holds the scores of one layer's units: larger is more important. Scores are comparable within a slice.
type Importance struct {
	Channels []float64 // [ffn], of MLP channels
	Heads    []float64 // [heads], of query heads; that of a KV group is their sum
}

// Apply returns the masks changed by the mutations in order. Mutations that choose units by importance need that of every
// layer; otherwise it may be nil.
func Apply(m subnet.Masks, importance []Importance, mutations ...Mutation) (subnet.Masks, error) {
	for _, mu := range mutations {
		next, err := apply(m, importance, mu)
		if err != nil {
			return m, err
		}
		m = next
	}
	if err := m.Validate(); err != nil {
		return m, fmt.Errorf("%w: %w", fault.ErrInvalid, err)
	}
	return m, nil
}

func apply(m subnet.Masks, importance []Importance, mutation Mutation) (subnet.Masks, error) {
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
			take(l, subnet.DenseLayer(g), mu.Module)
			return checkModule(mu.Module)
		})
	case CopyLayer:
		return copyLayer(m, mu)
	case KeepTop:
		if err := checkModule(mu.Module); err != nil || mu.Module == Whole {
			return m, fmt.Errorf("%w: keep top needs a module, attention or mlp", fault.ErrInvalid)
		}
		return keepTop(m, importance, mu.Layers, mu.Module, mu.Count)
	case Equalise:
		return equalise(m, importance, mu)
	case Invert:
		return each(m, mu.Layers, func(_ subnet.LayerGeometry, l *subnet.Layer) error {
			take(l, subnet.Layer{Heads: l.Heads.Complement(), Channels: l.Channels.Complement()}, mu.Module)
			return checkModule(mu.Module)
		})
	case SetMasks:
		if !mu.Masks.Geometry().Equal(m.Geometry()) {
			return m, fmt.Errorf("%w: masks of another model", fault.ErrInvalid)
		}
		return mu.Masks, nil
	}
	return m, fmt.Errorf("%w: unknown mutation %T", fault.ErrInvalid, mutation)
}

// each changes the named layers one by one.
func each(m subnet.Masks, layers []int, change func(subnet.LayerGeometry, *subnet.Layer) error) (subnet.Masks, error) {
	for _, i := range layers {
		if i < 0 || i >= m.Layers() {
			return m, fmt.Errorf("%w: layer %d, the model has layers 0 to %d", fault.ErrInvalid, i, m.Layers()-1)
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
		return fmt.Errorf("%w: a set over %d %s, the layer has %d", fault.ErrInvalid, s.N(), what, n)
	}
	return nil
}

func checkModule(module Module) error {
	if module != Attention && module != MLP && module != Whole {
		return fmt.Errorf("%w: module %q, not attention, mlp or layer", fault.ErrInvalid, module)
	}
	return nil
}

// take replaces a module of l by that of from.
func take(l *subnet.Layer, from subnet.Layer, module Module) {
	if module != MLP {
		l.Heads, l.QK, l.VO = from.Heads, from.QK, from.VO
	}
	if module != Attention {
		l.Channels = from.Channels
	}
}

func drop(m subnet.Masks, layers []int, module Module) (subnet.Masks, error) {
	return each(m, layers, func(g subnet.LayerGeometry, l *subnet.Layer) error {
		take(l, subnet.Layer{Heads: subnet.Empty(g.Heads), Channels: subnet.Empty(g.FFN)}, module)
		return nil
	})
}

func setHeadChannels(m subnet.Masks, mu SetHeadChannels) (subnet.Masks, error) {
	dim := m.Geometry().HeadDim
	return each(m, []int{mu.Layer}, func(g subnet.LayerGeometry, l *subnet.Layer) error {
		if mu.Group < 0 || mu.Group >= g.KVHeads {
			return fmt.Errorf("%w: KV group %d, the layer has %d", fault.ErrInvalid, mu.Group, g.KVHeads)
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
		return m, fmt.Errorf("%w: layer %d, the model has layers 0 to %d", fault.ErrInvalid, mu.From, m.Layers()-1)
	}
	if err := checkModule(mu.Module); err != nil {
		return m, err
	}
	from, shape := m.Layer(mu.From), m.Geometry().Layers[mu.From]
	return each(m, mu.To, func(g subnet.LayerGeometry, l *subnet.Layer) error {
		if g != shape {
			return fmt.Errorf("%w: its shape differs from that of layer %d", fault.ErrInvalid, mu.From)
		}
		take(l, from, mu.Module)
		return nil
	})
}

// keepTop keeps the count most important units of a module: MLP channels or KV groups.
func keepTop(m subnet.Masks, importance []Importance, layers []int, module Module, count int) (subnet.Masks, error) {
	for _, i := range layers {
		if i < 0 || i >= m.Layers() {
			return m, fmt.Errorf("%w: layer %d, the model has layers 0 to %d", fault.ErrInvalid, i, m.Layers()-1)
		}
		if len(importance) != m.Layers() {
			return m, fault.ErrNoStatistics
		}
		g, l := m.Geometry().Layers[i], m.Layer(i)
		n := g.FFN
		if module == Attention {
			n = g.KVHeads
		}
		if count < 0 || count > n {
			return m, fmt.Errorf("%w: layer %d: %d units, it has %d", fault.ErrInvalid, i, count, n)
		}
		if module == MLP {
			l.Channels = subnet.Of(n, Rank(importance[i].Channels)[:count]...)
		} else {
			l.Heads = headsOf(g, Rank(groupScores(g, importance[i].Heads))[:count])
			l.QK, l.VO = nil, nil
		}
		m = m.With(i, l)
	}
	return m, nil
}

func equalise(m subnet.Masks, importance []Importance, mu Equalise) (subnet.Masks, error) {
	if mu.Module == Whole {
		for _, p := range []Module{Attention, MLP} {
			var err error
			if m, err = equalise(m, importance, Equalise{Layers: mu.Layers, Module: p}); err != nil {
				return m, err
			}
		}
		return m, nil
	}
	if err := checkModule(mu.Module); err != nil {
		return m, err
	}
	if len(mu.Layers) == 0 {
		return m, nil
	}
	sum, limit := 0, math.MaxInt
	for _, i := range mu.Layers {
		if i < 0 || i >= m.Layers() {
			return m, fmt.Errorf("%w: layer %d, the model has layers 0 to %d", fault.ErrInvalid, i, m.Layers()-1)
		}
		g := m.Geometry().Layers[i]
		if mu.Module == MLP {
			sum, limit = sum+m.Layer(i).Channels.Len(), min(limit, g.FFN)
		} else {
			sum, limit = sum+m.Layer(i).Groups(g).Len(), min(limit, g.KVHeads)
		}
	}
	mean := float64(sum) / float64(len(mu.Layers))
	count := int(math.Round(mean))
	if mu.Module == MLP && limit%granularity == 0 {
		count = granularity * int(math.Round(mean/granularity))
	}
	return keepTop(m, importance, mu.Layers, mu.Module, min(count, limit))
}

// Rank returns the units in order from the most to the least important; equal ones keep their order.
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

// headsOf returns the set of query heads of the given KV groups.
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

// Describe returns the change from a to b in one line.
func Describe(a, b subnet.Masks) string {
	edits := subnet.Diff(a, b)
	vocab := ""
	if x, y := a.VocabLen(), b.VocabLen(); !a.Vocab().Equal(b.Vocab()) {
		vocab = fmt.Sprintf("vocabulary %d → %d", x, y)
	}
	switch {
	case len(edits) == 0 && vocab == "":
		return "no change"
	case len(edits) == 0:
		return vocab
	case vocab != "":
		vocab = ", " + vocab
	}
	layers := make(map[int]bool)
	for _, e := range edits {
		layers[e.Layer] = true
	}
	if len(layers) > 1 {
		first, last := edits[0].Layer, edits[len(edits)-1].Layer
		return fmt.Sprintf("%s of %d to %d: ratio %.3f → %.3f", format.Counted(len(layers), "layer"), first, last, a.Size().Ratio, b.Size().Ratio) + vocab
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
	return text + vocab
}
