package oneshot

import (
	"maps"
	"slices"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TypeOption is a type that a group of matrices may have.
type TypeOption struct {
	Type  subnet.Type
	Loss  float64 // in nats per token, where all units of the module are kept
	Bytes int64
}

// Options returns the types that a group may have where its module keeps so many KV groups or channels, or where the vocabulary has so many entries.
// refitted is whether its numbers are on no grid. types are those allowed besides that of the source, nil for all.
func (g *TypeGroup) Options(geo *subnet.Geometry, kept, vocab int, refitted bool, types []subnet.Type) []TypeOption {
	_, width := g.shape(geo, g.Tensors[0], kept, kept, vocab)
	all := g.allowed(width, refitted && g.Output, types)
	for i := range all {
		all[i].Bytes = g.bytes(geo, all[i].Type, kept, kept, vocab)
	}
	return all
}

// BareTypes returns the groups of a model without losses: they show which types there are before anything is measured.
func BareTypes(geo *subnet.Geometry, file *gguf.File) *TypeLosses {
	out := &TypeLosses{}
	add := func(layer int, module subnet.Module, output bool, tensors ...string) {
		g := TypeGroup{Layer: layer, Module: module, Output: output, Losses: make(map[string]float64)}
		var source subnet.Type
		for _, name := range tensors {
			stored, ok := file.Tensor(name)
			if !ok || len(stored.Dims) != 2 {
				continue
			}
			if len(g.Tensors) == 0 || bits(stored.Type) > bits(source) {
				source = stored.Type
			}
			g.Tensors, g.Width = append(g.Tensors, name), stored.Dims[1]
		}
		if len(g.Tensors) == 0 {
			return
		}
		g.Source = source.String()
		for _, t := range TypeCandidates() {
			if _, fits := t.RowSize(g.Width); fits || output { // rows of a cut may fit others
				g.Losses[t.String()] = 1 / bits(t)
			}
		}
		g.Losses[g.Source] = 0
		out.Groups = append(out.Groups, g)
	}
	for i := range geo.Layers {
		add(i, subnet.Attention, false, tensorName(i, "q"), tensorName(i, "k"), tensorName(i, "v"))
		add(i, subnet.Attention, true, tensorName(i, "o"))
		add(i, subnet.MLP, false, tensorName(i, "gate"), tensorName(i, "up"))
		add(i, subnet.MLP, true, tensorName(i, "down"))
	}
	add(-1, subnet.Attention, false, "token_embd.weight")
	add(-1, subnet.Attention, false, "output.weight")
	return out
}

// Group returns the group of a module's matrices, nil where there is none.
func (t *TypeLosses) Group(layer int, module subnet.Module, output bool) *TypeGroup {
	i := slices.IndexFunc(t.Groups, func(g TypeGroup) bool { return g.Layer == layer && g.Module == module && g.Output == output })
	if i < 0 {
		return nil
	}
	return &t.Groups[i]
}

// Heads returns the groups outside the layers.
func (t *TypeLosses) Heads() []*TypeGroup {
	var heads []*TypeGroup
	for i := range t.Groups {
		if t.Groups[i].Layer < 0 {
			heads = append(heads, &t.Groups[i])
		}
	}
	return heads
}

// allowed returns the types that a group may have with rows of a width, with their losses.
func (g *TypeGroup) allowed(width int, refitted bool, types []subnet.Type) []TypeOption {
	losses := g.Losses
	if refitted && len(g.Refitted) > 0 {
		losses = g.Refitted
	}
	var out []TypeOption
	for _, name := range slices.Sorted(maps.Keys(losses)) {
		t, err := subnet.ParseType(name)
		if err != nil || name != g.Source && types != nil && !slices.Contains(types, t) {
			continue
		}
		if _, fits := t.RowSize(width); fits {
			out = append(out, TypeOption{Type: t, Loss: losses[name]})
		}
	}
	return out
}

// shape returns how many rows a tensor of the group has, and how wide they are.
func (g *TypeGroup) shape(geo *subnet.Geometry, tensor string, groups, channels, vocab int) (rows, width int) {
	if g.Layer < 0 {
		return vocab, g.Width
	}
	lg := geo.Layers[g.Layer]
	if g.Module == subnet.MLP {
		if g.Output {
			return geo.Hidden, channels
		}
		return channels, geo.Hidden
	}
	heads := groups * lg.HeadsPerGroup()
	switch {
	case g.Output:
		return geo.Hidden, heads * geo.HeadDim
	case tensor == tensorName(g.Layer, "q"):
		return heads * geo.HeadDim, geo.Hidden
	}
	return groups * geo.HeadDim, geo.Hidden
}

// bytes returns the size of the group in a type.
func (g *TypeGroup) bytes(geo *subnet.Geometry, t subnet.Type, groups, channels, vocab int) int64 {
	var n int64
	for _, tensor := range g.Tensors {
		rows, width := g.shape(geo, tensor, groups, channels, vocab)
		row, _ := t.RowSize(width)
		n += int64(rows) * row
	}
	return n
}
