package oneshot

import (
	"context"
	"math/rand/v2"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
)

// moduleOption is an option of one module, or of all that is outside the layers.
type moduleOption struct {
	layer  int
	module subnet.Module
	keep   int // KV groups or channels
	types  []typeOption
	vocab  *VocabLevel // outside the layers
}

// chooseBoth chooses widths and types together and returns what chooses the units.
func (k *sizing) chooseBoth(ctx context.Context) (reform.Chooser, error) {
	loss, err := k.sensitivity(ctx)
	if err != nil {
		return nil, err
	}
	g := k.m.Geometry()
	var items [][]option
	var meaning [][]moduleOption
	add := func(options []option, means []moduleOption) {
		if len(options) > 0 {
			items, meaning = append(items, options), append(meaning, means)
		}
	}
	for i := range g.Layers {
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			add(k.moduleOptions(loss, i, module))
		}
	}
	vocab := k.size.Vocab
	if len(vocab) == 0 {
		vocab = []VocabLevel{{Set: subnet.Full(g.Vocab)}}
	}
	heads, means, err := k.headOptions(vocab)
	if err != nil {
		return nil, err
	}
	add(heads, means)
	keep := denseCounts(g)
	rng := rand.New(rand.NewPCG(1, 1))
	mean := func(chosen []int) (subnet.Masks, map[string]subnet.Type) {
		types := make(map[string]subnet.Type)
		for i, j := range chosen {
			o := meaning[i][j]
			for _, t := range o.types {
				setTypes(types, t)
			}
			if o.layer >= 0 {
				keep.list(o.module)[o.layer] = o.keep
			} else {
				k.chooseVocab(o.vocab)
			}
		}
		masks := subnet.Dense(g)
		if k.trimmed != nil {
			masks, _ = masks.WithVocab(*k.trimmed) // it was checked when the options were listed
		}
		for i, lg := range g.Layers { // random units: their text is no shorter than that of others
			l := withUnits(g, i, masks.Layer(i), subnet.Attention, subnet.Full(lg.KVHeads).Sample(rng, keep.groups[i]))
			masks = masks.With(i, withUnits(g, i, l, subnet.MLP, subnet.Full(lg.FFN).Sample(rng, keep.channels[i])))
		}
		return masks, types
	}
	if err := k.fit(items, mean); err != nil {
		return nil, err
	}
	chooses := func(layer int, module subnet.Module) bool {
		return keep.of(layer, module) < denseCounts(g).of(layer, module)
	}
	return &ranker{k.m, k.recipe.Method, chooses, keep.of}, nil
}

// moduleOptions returns the widths and types of a module. The errors of types grow with the units that are kept.
func (k *sizing) moduleOptions(loss losses, layer int, module subnet.Module) ([]option, []moduleOption) {
	all := denseCounts(k.m.Geometry()).of(layer, module)
	if all == 0 {
		return nil, nil
	}
	widths := []int{all}
	if module == subnet.MLP {
		for n := (all - 1) / k.config.Granularity * k.config.Granularity; n >= k.config.Granularity; n -= k.config.Granularity {
			widths = append(widths, n)
		}
	} else if k.recipe.Attention && loss.probed[layer][module] > 0 {
		for n := all - 1; n >= 1; n-- {
			widths = append(widths, n)
		}
	}
	inner, output := k.groupOf(layer, module, false), k.groupOf(layer, module, true)
	var options []option
	var means []moduleOption
	for _, keep := range widths {
		groups, channels := keep, keep
		share := float64(keep) / float64(all)
		var extra int64
		if module == subnet.Attention {
			extra = int64(keep) * k.size.Group
		}
		for _, in := range k.choicesOf(inner, groups, channels) {
			for _, out := range k.choicesOf(output, groups, channels) {
				options = append(options, option{loss.at(layer, module, keep) + share*(in.loss+out.loss), in.bytes + out.bytes + extra})
				means = append(means, moduleOption{layer: layer, module: module, keep: keep, types: append(slices.Clone(in.types), out.types...)})
			}
		}
	}
	return options, means
}

// groupChoice is a type of a group.
type groupChoice struct {
	loss  float64
	bytes int64
	types []typeOption
}

// choicesOf returns the types of a group at a width, without losses the type of the source.
func (k *sizing) choicesOf(g *TypeGroup, groups, channels int) []groupChoice {
	_, width := k.shape(g, g.Tensors[0], groups, channels)
	var all []groupChoice
	for _, t := range k.allowed(g, width) {
		all = append(all, groupChoice{t.Loss, k.bytes(g, t.Type, groups, channels), []typeOption{{g, t.Type}}})
	}
	return all
}

// groupOf returns the group of a module's matrices.
func (k *sizing) groupOf(layer int, module subnet.Module, output bool) *TypeGroup {
	i := slices.IndexFunc(k.size.Losses.Groups, func(g TypeGroup) bool { return g.Layer == layer && g.Module == module && g.Output == output })
	return &k.size.Losses.Groups[i]
}

// chooseVocab makes a size of the vocabulary the chosen one.
func (k *sizing) chooseVocab(v *VocabLevel) {
	if k.vocab, k.trimmed = v.Set.Len(), nil; !v.Set.IsFull() {
		k.trimmed = &v.Set
	}
}

// headOptions returns the sizes of the vocabulary, each with the types of the embedding and the LM head. A smaller vocabulary also has shorter tables
// in the metadata of a file.
func (k *sizing) headOptions(vocab []VocabLevel) ([]option, []moduleOption, error) {
	var heads []*TypeGroup
	for i := range k.size.Losses.Groups {
		if g := &k.size.Losses.Groups[i]; g.Layer < 0 {
			heads = append(heads, g)
		}
	}
	dense := subnet.Dense(k.m.Geometry())
	var options []option
	var means []moduleOption
	for i := range vocab {
		v := &vocab[i]
		masks, err := dense.WithVocab(v.Set)
		if err != nil {
			return nil, nil, err
		}
		whole, err := k.size.Cost(masks, nil)
		if err != nil {
			return nil, nil, err
		}
		k.chooseVocab(v)
		for _, g := range heads {
			source, err := subnet.ParseType(g.Source)
			if err != nil {
				return nil, nil, err
			}
			whole -= k.bytes(g, source, 0, 0)
		}
		choices := []moduleOption{{layer: -1, vocab: v}}
		costs := []option{{v.Loss, whole}}
		for _, g := range heads {
			var next []moduleOption
			var cost []option
			for j, c := range choices {
				for _, t := range k.allowed(g, g.Width) {
					next = append(next, moduleOption{layer: -1, vocab: v, types: append(slices.Clone(c.types), typeOption{g, t.Type})})
					cost = append(cost, option{costs[j].loss + t.Loss, costs[j].bytes + k.bytes(g, t.Type, 0, 0)})
				}
			}
			choices, costs = next, cost
		}
		options, means = append(options, costs...), append(means, choices...)
	}
	least := options[0].bytes
	for _, o := range options {
		least = min(least, o.bytes)
	}
	for i := range options { // only differences count: what all have is learned from exact costs
		options[i].bytes -= least
	}
	return options, means, nil
}
