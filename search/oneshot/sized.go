package oneshot

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
)

// ErrSize means that a size is below the smallest that widths and types allow.
var ErrSize = errors.New("size out of reach")

// Size is what a subnet is made to fit.
type Size struct {
	Budget int64 // bytes
	// Cost returns the bytes that count, of masks with types.
	Cost func(masks subnet.Masks, types map[string]subnet.Type) (int64, error)
	// Group is how many of them a KV group takes besides its weights.
	Group int64
	// From, unless nil, is a subnet whose masks are kept, and without a re-fit its weights; otherwise widths are chosen too.
	From *gguf.Subnet
	// Types may be chosen besides the type of the source; nil is all candidates.
	Types []subnet.Type
	// Losses are those of the model's types.
	Losses *TypeLosses
	Load   Loader
	// Compensate has rounding errors of output matrices compensated by the columns that are not rounded yet, and Inner those of all others in
	// the layers.
	Compensate, Inner bool
	// Vocab are the sizes of the vocabulary to choose from; none is that of From, or the whole one.
	Vocab []VocabLevel
}

// VocabLevel is a size of the vocabulary.
type VocabLevel struct {
	Set  subnet.Set // of the entries that are kept
	Loss float64    // what it costs, in nats for each token that the whole vocabulary makes of a text
}

// SizeReport reports the choice of Sized.
type SizeReport struct {
	Budget    int64          `json:"budget_bytes"`
	Predicted float64        `json:"predicted"`       // rise of the loss, in nats per token, by which widths and types were chosen
	Types     map[string]int `json:"types"`           // how many matrices have each type
	Vocab     int            `json:"vocab,omitempty"` // entries of the vocabulary, where their number was chosen too
}

// Sized makes a subnet of at most a number of bytes, calibrated on windows of text: it chooses widths and types together by their losses,
// which are taken to add up, has units chosen and output matrices re-fitted as its recipe does, on the inputs that the rounded matrices
// before them give.
func Sized(ctx context.Context, m *decoder.Model, windows [][]int32, size Size, c Config) (gguf.Subnet, Report, error) {
	s, r, err := sized(ctx, m, windows, size, c)
	if err != nil {
		return gguf.Subnet{}, Report{}, fmt.Errorf("size: %w", err)
	}
	return s, r, nil
}

func sized(ctx context.Context, m *decoder.Model, windows [][]int32, size Size, c Config) (gguf.Subnet, Report, error) {
	started := time.Now()
	recipe, err := c.resolve()
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	if _, err := reform.CheckText(windows); err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	if c.Granularity == 0 {
		c.Granularity = subnet.DefaultGranularity
	}
	recipe.Refit.UpSteps, recipe.Refit.RefitAll = 0, true
	p := &plan{g: m.Geometry(), m: m, windows: windows, ratio: 1, recipe: recipe, config: c}
	k := &sizing{plan: p, size: size, vocab: m.Geometry().Vocab, refits: recipe.Refit.Solve.Method != reform.None}
	var chooser reform.Chooser
	masks := subnet.Dense(m.Geometry())
	switch {
	case size.From != nil:
		masks = size.From.Masks
		k.vocab = masks.VocabLen()
		err = k.chooseTypes(masks, size.Vocab)
	case !m.Geometry().Limits().PerLayer:
		err = fmt.Errorf("%w: files of %s models have the same widths in all layers", ErrTypes, m.Geometry().Arch)
	default:
		k.decideGroups()
		chooser, err = k.chooseBoth(ctx)
		if errors.Is(err, ErrSize) && c.Attention == nil && !k.recipe.Attention && !m.Geometry().Limits().AllQuery {
			k.recipe.Attention = true // MLP channels and types alone do not reach the size
			chooser, err = k.chooseBoth(ctx)
		}
	}
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	s, report, err := k.refit(ctx, masks, chooser)
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	if size.From != nil && !k.refits {
		s.Refit = size.From.Refit
	}
	if err := k.shrink(&s); err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	report.Seconds = time.Since(started).Seconds()
	out := Report{Preset: c.Preset, Report: report, Predicted: k.predicted, Size: &SizeReport{Budget: size.Budget, Predicted: k.predicted, Types: k.countTypes(s)}}
	if size.From == nil {
		out.Attention, out.Granularity = k.recipe.Attention, c.Granularity
	}
	if len(size.Vocab) > 0 {
		out.Size.Vocab = k.vocab
	}
	return s, out, nil
}

// RefitTyped re-fits a subnet of given masks and types, as [Sized] does once it has chosen them. predicted is the loss by which they were chosen. It
// ignores what the size is chosen from.
func RefitTyped(ctx context.Context, m *decoder.Model, windows [][]int32, s gguf.Subnet, predicted float64, size Size, c Config) (gguf.Subnet, Report, error) {
	started := time.Now()
	recipe, err := c.resolve()
	if err == nil {
		_, err = reform.CheckText(windows)
	}
	if err == nil {
		err = s.Masks.Validate()
	}
	if err != nil {
		return gguf.Subnet{}, Report{}, fmt.Errorf("reform: %w", err)
	}
	recipe.Refit.UpSteps, recipe.Refit.RefitAll = 0, true
	p := &plan{g: m.Geometry(), m: m, windows: windows, ratio: 1, recipe: recipe, config: c}
	k := &sizing{plan: p, size: size, vocab: s.Masks.VocabLen(), refits: recipe.Refit.Solve.Method != reform.None, types: s.Types, predicted: predicted}
	if s.Masks.TrimsVocab() {
		vocab := s.Masks.Vocab()
		k.trimmed = &vocab
	}
	masks := s.Masks.WithAllVocab()
	var chooser reform.Chooser
	if c.Rechoose && recipe.Method != "" {
		chooser = rechooser(m, masks, recipe.Method)
	}
	made, report, err := k.refit(ctx, masks, chooser)
	if err == nil {
		err = k.shrink(&made)
	}
	if err != nil {
		return gguf.Subnet{}, Report{}, fmt.Errorf("reform: %w", err)
	}
	report.Seconds = time.Since(started).Seconds()
	return made, Report{Preset: c.Preset, Report: report, Predicted: predicted, Size: &SizeReport{Budget: size.Budget, Predicted: predicted, Types: k.countTypes(made)}}, nil
}

// Smallest returns the bytes of the smallest subnet that Sized can make of a model, about: of the widths that a granularity allows, with its
// smallest types.
func Smallest(g *subnet.Geometry, file *gguf.File, size Size, granularity int, attention bool) (int64, error) {
	types := make(map[string]subnet.Type)
	for _, t := range file.Tensors() {
		if len(t.Dims) != 2 || t.Name == "position_embd.weight" {
			continue
		}
		least := t.Type
		for _, typ := range TypeCandidates() {
			if _, fits := typ.RowSize(t.Dims[1]); fits && bits(typ) < bits(least) && (size.Types == nil || slices.Contains(size.Types, typ)) {
				least = typ
			}
		}
		if least != t.Type {
			types[t.Name] = least
		}
	}
	masks := subnet.Dense(g)
	if size.From != nil {
		masks = size.From.Masks
	}
	for _, v := range size.Vocab { // the smallest is the last one
		var err error
		if masks, err = masks.WithVocab(v.Set); err != nil {
			return 0, err
		}
	}
	if size.From != nil {
		return size.Cost(masks, types)
	}
	if granularity == 0 {
		granularity = subnet.DefaultGranularity
	}
	for i, lg := range g.Layers {
		l := masks.Layer(i)
		if attention && lg.KVHeads > 0 {
			l = withUnits(g, i, l, subnet.Attention, subnet.Range(lg.KVHeads, 0, 1))
		}
		masks = masks.With(i, withUnits(g, i, l, subnet.MLP, subnet.Range(lg.FFN, 0, min(lg.FFN, granularity))))
	}
	return size.Cost(masks, types)
}

// TooSmall returns the error for a budget below the smallest size.
func TooSmall(budget, least int64) error {
	return fmt.Errorf("%w: %.2f MB, the smallest is %.2f MB", ErrSize, float64(budget)/1e6, float64(least)/1e6)
}

// sizing chooses widths and types for a size.
type sizing struct {
	*plan
	size      Size
	refits    bool
	vocab     int         // entries kept
	trimmed   *subnet.Set // of those entries, where they were chosen too and are not all
	types     map[string]subnet.Type
	predicted float64
}

// allowed returns the types that a group may have with rows of a width, with their losses.
func (k *sizing) allowed(g *TypeGroup, width int) []TypeOption {
	return g.allowed(width, g.Output && k.refits, k.size.Types)
}

// shape returns how many rows a tensor of a group has, and how wide they are, where a module keeps units: KV groups or channels.
func (k *sizing) shape(g *TypeGroup, tensor string, groups, channels int) (rows, width int) {
	return g.shape(k.m.Geometry(), tensor, groups, channels, k.vocab)
}

// bytes returns the size of a group in a type where its module keeps so many units.
func (k *sizing) bytes(g *TypeGroup, t subnet.Type, groups, channels int) int64 {
	return g.bytes(k.m.Geometry(), t, groups, channels, k.vocab)
}

// typeOption is an option of one group.
type typeOption struct {
	group *TypeGroup
	typ   subnet.Type
}

// chooseTypes chooses types for given masks, and one of the sizes of the vocabulary unless there are none.
func (k *sizing) chooseTypes(masks subnet.Masks, vocab []VocabLevel) error {
	g := k.m.Geometry()
	var items [][]option
	var meaning [][]moduleOption
	if len(vocab) > 0 {
		options, means, err := k.headOptions(vocab)
		if err != nil {
			return err
		}
		items, meaning = append(items, options), append(meaning, means)
	}
	for i := range k.size.Losses.Groups {
		group := &k.size.Losses.Groups[i]
		if group.Layer < 0 && len(vocab) > 0 {
			continue // its types are chosen with the vocabulary
		}
		groups, channels := 0, 0
		if group.Layer >= 0 {
			l := masks.Layer(group.Layer)
			groups, channels = l.Groups(g.Layers[group.Layer]).Len(), l.Channels.Len()
			if group.Module == subnet.Attention && groups == 0 || group.Module == subnet.MLP && channels == 0 {
				continue
			}
		}
		_, width := k.shape(group, group.Tensors[0], groups, channels)
		var options []option
		var means []moduleOption
		for _, t := range k.allowed(group, width) {
			options = append(options, option{t.Loss, k.bytes(group, t.Type, groups, channels)})
			means = append(means, moduleOption{types: []typeOption{{group, t.Type}}})
		}
		if len(options) == 0 {
			continue
		}
		items, meaning = append(items, options), append(meaning, means)
	}
	return k.fit(items, func(chosen []int) (subnet.Masks, map[string]subnet.Type) {
		types := make(map[string]subnet.Type)
		for i, j := range chosen {
			for _, t := range meaning[i][j].types {
				setTypes(types, t)
			}
			if v := meaning[i][j].vocab; v != nil {
				k.chooseVocab(v)
			}
		}
		if k.trimmed == nil {
			return masks, types
		}
		trimmed, _ := masks.WithVocab(*k.trimmed) // it was checked when the options were listed
		return trimmed, types
	})
}

// setTypes sets the type of a group's tensors, unless it is that of the source.
func setTypes(types map[string]subnet.Type, o typeOption) {
	for _, tensor := range o.group.Tensors {
		if o.typ.String() != o.group.Source {
			types[tensor] = o.typ
		}
	}
}

// decideGroups decides whether KV groups are dropped too.
func (k *sizing) decideGroups() {
	if k.m.Geometry().Limits().AllQuery { // the queries of a dropped group would stay in the file as zeros
		k.recipe.Attention = false
	}
	if k.config.Attention != nil {
		k.recipe.Attention = *k.config.Attention
	}
}

// fit chooses options whose exact cost is within the budget. What options do not show, metadata and alignment, is learned from the exact cost
// of a choice.
func (k *sizing) fit(items [][]option, mean func(chosen []int) (subnet.Masks, map[string]subnet.Type)) error {
	exact := func(chosen []int) (int64, error) {
		masks, types := mean(chosen)
		return k.size.Cost(masks, types)
	}
	smallest := cheapest(items, math.Inf(1))
	least, err := exact(smallest)
	if err != nil {
		return err
	}
	if least > k.size.Budget {
		return k.tooSmall(least)
	}
	overhead := least - sizeOf(items, smallest)
	for range 8 {
		chosen, err := allocate(items, k.size.Budget-overhead)
		if err != nil {
			break // nothing but the smallest choice is within what is left
		}
		got, err := exact(chosen)
		if err != nil {
			return err
		}
		if got <= k.size.Budget {
			_, k.types = mean(chosen)
			k.predicted = lossOf(items, chosen)
			return nil
		}
		overhead += got - k.size.Budget
	}
	_, k.types = mean(smallest)
	k.predicted = lossOf(items, smallest)
	return nil
}

func (k *sizing) tooSmall(least int64) error {
	return TooSmall(k.size.Budget, least)
}

// refit chooses units and re-fits output matrices, with all matrices rounded to their types.
func (k *sizing) refit(ctx context.Context, masks subnet.Masks, chooser reform.Chooser) (gguf.Subnet, reform.Report, error) {
	c := k.config.refit(k.recipe, chooser)
	var inner map[string][]float32
	if len(k.types) > 0 && (k.refits || chooser != nil) {
		if k.size.Inner && k.refits {
			var err error
			if inner, err = k.compensateInner(ctx); err != nil {
				return gguf.Subnet{}, reform.Report{}, err
			}
		}
		rounded, err := k.size.Load(ctx, func(tensor string, width int, data []float32) error {
			t, ok := k.types[tensor]
			if _, fits := t.RowSize(width); !ok || !fits {
				return nil
			}
			from := data
			if w := inner[tensor]; w != nil {
				from = w
			}
			back, err := gguf.Round(t, from, width, k.size.Losses.Importance[tensor])
			copy(data, back)
			return err
		})
		if err != nil {
			return gguf.Subnet{}, reform.Report{}, err
		}
		c.Rounded, c.Rounder = rounded, k.round
	}
	s, r, err := reform.Refit(ctx, k.m, k.windows, masks, c)
	if c.Rounded != nil {
		c.Rounded.Close() // which reads the inner matrices
	}
	if err != nil {
		return gguf.Subnet{}, reform.Report{}, err
	}
	keepInner(&s, inner)
	if k.trimmed != nil {
		if s.Masks, err = s.Masks.WithVocab(*k.trimmed); err != nil {
			return gguf.Subnet{}, reform.Report{}, err
		}
	}
	k.withTypes(&s)
	return s, r, nil
}

// withTypes gives a subnet the types, and the importance of their columns.
func (k *sizing) withTypes(s *gguf.Subnet) {
	if len(k.types) == 0 {
		s.Types, s.Importance = nil, nil
		return
	}
	s.Types, s.Importance = k.types, make(map[string][]float32)
	for tensor := range k.types {
		if of := k.size.Losses.Importance[tensor]; of != nil {
			s.Importance[tensor] = of
		}
	}
}

// shrink takes smaller types where the units that were chosen take more room in the metadata than was expected.
func (k *sizing) shrink(s *gguf.Subnet) error {
	cost, err := k.size.Cost(s.Masks, s.Types)
	if err != nil || cost <= k.size.Budget {
		return err
	}
	if err := k.chooseTypes(s.Masks, nil); err != nil {
		return err
	}
	k.withTypes(s)
	return nil
}

// countTypes counts the matrices of a subnet by their types.
func (k *sizing) countTypes(s gguf.Subnet) map[string]int {
	n := make(map[string]int)
	for _, g := range k.size.Losses.Groups {
		for _, tensor := range g.Tensors {
			name := g.Source
			if t, ok := s.Types[tensor]; ok {
				name = t.String()
			}
			n[name]++
		}
	}
	return n
}
