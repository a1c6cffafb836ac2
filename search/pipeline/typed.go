package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/space"
)

// Types has types of matrices, and the size of the vocabulary, searched together with widths.
type Types struct {
	// Bare are losses without values, which show the types that there are before losses are measured.
	Bare *oneshot.TypeLosses
	// Losses measures what types cost.
	Losses func(context.Context) (*oneshot.TypeLosses, error)
	// Vocab returns the sizes of the vocabulary to choose from, the largest first, with what they cost; nil is the whole vocabulary.
	Vocab func(context.Context) ([]oneshot.VocabLevel, error)
	// Least is a vocabulary that is no larger than the smallest one, before its sizes are known; the zero value is the whole vocabulary.
	Least subnet.Set
	// Cost returns the bytes that a target counts.
	Cost func(search.Target) func(subnet.Masks, map[string]subnet.Type) (int64, error)
	// Bytes returns how many bytes of text the tokens of a window after its first are.
	Bytes func(window []int32) int64
	// Plain measures the dense model in every plain type on a window.
	Plain func(ctx context.Context, window []int32) ([]search.Plain, error)
	Load  oneshot.Loader
	// Allowed are the types besides those of the source, nil for all.
	Allowed []subnet.Type
	// Compensate and Inner are as in [oneshot.Size].
	Compensate, Inner bool
}

// mostLevels is how many levels of a module, and of the vocabulary, are kept, and levelStep by how much their sizes differ at least.
const (
	mostLevels = 40
	levelStep  = 0.01
)

// typedLevels returns the levels that no other of a module beats in both size and predicted loss, from widths and types together: losses add up, and
// those of types count by the share of units that is kept.
func typedLevels(l *space.Levels, t *Types, target search.Target, losses *oneshot.TypeLosses, vocab []oneshot.VocabLevel) (*levels.Typed, error) {
	out := &levels.Typed{Base: l.Key, Source: make(map[string]string), Importance: losses.Importance}
	for _, g := range losses.Groups {
		for _, tensor := range g.Tensors {
			out.Source[tensor] = g.Source
		}
	}
	for slot := range subnet.Modules * len(l.Geometry.Layers) {
		out.Modules = append(out.Modules, moduleLevels(l, slot, t, losses))
	}
	heads, err := headLevels(l.Geometry, t, t.Cost(target), losses, vocab)
	out.Heads = heads
	return out, err
}

// moduleLevels returns the levels of one module.
func moduleLevels(l *space.Levels, slot int, t *Types, losses *oneshot.TypeLosses) []levels.TypedLevel {
	layer, module := slot/subnet.Modules, subnet.Module(slot%subnet.Modules)
	inner, output := losses.Group(layer, module, false), losses.Group(layer, module, true)
	ladder := l.Ladder(slot)
	unitsOf := func(level space.Level) int {
		if module == subnet.MLP {
			return level.Mask.Channels.Len()
		}
		return level.Mask.Groups(l.Geometry.Layers[layer]).Len()
	}
	all := unitsOf(ladder[0])
	if all == 0 || inner == nil || output == nil { // the module has no matrices
		return []levels.TypedLevel{{}}
	}
	var found []levels.TypedLevel
	for width, level := range ladder {
		kept := unitsOf(level)
		if kept == 0 {
			found = append(found, levels.TypedLevel{Width: width, Loss: level.Loss})
			continue
		}
		share := float64(kept) / float64(all)
		for _, in := range inner.Options(l.Geometry, kept, 0, false, t.Allowed) {
			for _, out := range output.Options(l.Geometry, kept, 0, width > 0, t.Allowed) {
				made := levels.TypedLevel{Width: width, Bytes: in.Bytes + out.Bytes, Loss: level.Loss + share*(in.Loss+out.Loss), Types: make(map[string]string)}
				addTypes(made.Types, inner, in.Type)
				addTypes(made.Types, output, out.Type)
				found = append(found, made)
			}
		}
	}
	whole := slices.IndexFunc(found, func(v levels.TypedLevel) bool { return v.Width == 0 && len(v.Types) == 0 })
	return paretoLevels(found[whole], found)
}

// addTypes sets the type of a group's tensors, unless it is that of the source.
func addTypes(to map[string]string, g *oneshot.TypeGroup, t subnet.Type) {
	if t.String() == g.Source {
		return
	}
	for _, tensor := range g.Tensors {
		to[tensor] = t.String()
	}
}

// headLevels returns sizes of the vocabulary with types of the matrices that have its entries as rows.
func headLevels(g *subnet.Geometry, t *Types, cost func(subnet.Masks, map[string]subnet.Type) (int64, error), losses *oneshot.TypeLosses, vocab []oneshot.VocabLevel) ([]levels.TypedLevel, error) {
	if len(vocab) == 0 {
		vocab = []oneshot.VocabLevel{{Set: subnet.Full(g.Vocab)}}
	}
	dense := subnet.Dense(g)
	var found []levels.TypedLevel
	first := -1
	for i, v := range vocab {
		masks, err := dense.WithVocab(v.Set)
		if err != nil {
			return nil, err
		}
		file, err := cost(masks, nil)
		if err != nil {
			return nil, err
		}
		text := ""
		if !v.Set.IsFull() {
			raw, err := v.Set.MarshalText()
			if err != nil {
				return nil, err
			}
			text = string(raw)
		}
		made := []levels.TypedLevel{{Bytes: file, Loss: v.Loss, Vocab: text}}
		for _, group := range losses.Heads() {
			options := group.Options(g, 0, v.Set.Len(), false, t.Allowed)
			var source int64
			for _, o := range options {
				if o.Type.String() == group.Source {
					source = o.Bytes
				}
			}
			var next []levels.TypedLevel
			for _, m := range made {
				for _, o := range options {
					n := m
					n.Bytes, n.Loss, n.Types = m.Bytes+o.Bytes-source, m.Loss+o.Loss, make(map[string]string)
					for tensor, typ := range m.Types {
						n.Types[tensor] = typ
					}
					addTypes(n.Types, group, o.Type)
					next = append(next, n)
				}
			}
			made = next
		}
		if i == 0 {
			first = slices.IndexFunc(made, func(v levels.TypedLevel) bool { return len(v.Types) == 0 })
		}
		found = append(found, made...)
	}
	if first < 0 {
		return nil, errors.New("search: no level has the types of the source outside the layers")
	}
	return paretoLevels(found[first], found), nil
}

// paretoLevels returns the first level and those below it that no smaller one beats, thinned.
func paretoLevels(first levels.TypedLevel, all []levels.TypedLevel) []levels.TypedLevel {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b levels.TypedLevel) int {
		return cmp.Or(cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.Loss, b.Loss))
	})
	var kept []levels.TypedLevel // the smallest first
	for _, v := range all {
		if v.Bytes >= first.Bytes {
			break
		}
		if n := len(kept); n == 0 || v.Loss < kept[n-1].Loss && v.Bytes > kept[n-1].Bytes {
			kept = append(kept, v)
		}
	}
	slices.Reverse(kept)
	out := []levels.TypedLevel{first}
	step := levelStep
	for {
		out = out[:1]
		for i, v := range kept {
			if i == len(kept)-1 || float64(v.Bytes) <= (1-step)*float64(out[len(out)-1].Bytes) {
				out = append(out, v)
			}
		}
		if len(out) <= mostLevels {
			return out
		}
		step *= 1.5
	}
}

// typeLevels has the levels differ in types too: those that an earlier part of the search kept, or new ones from measured losses.
func (r *run) typeLevels(ctx context.Context) error {
	if r.Dir != "" && r.Resume {
		t, err := r.store.ReadTypes()
		if err == nil {
			return r.store.SetTypes(t)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	losses, err := r.Types.Losses(ctx)
	if err != nil {
		return err
	}
	var vocab []oneshot.VocabLevel
	if r.Types.Vocab != nil {
		if vocab, err = r.Types.Vocab(ctx); err != nil {
			return err
		}
	}
	t, err := typedLevels(r.store.Levels(), r.Types, r.Target, losses, vocab)
	if err != nil {
		return err
	}
	if err := r.store.SetTypes(t); err != nil {
		return err
	}
	return r.persist(ctx, func() error { return r.store.WriteTypes(t) })
}

// bareTypes returns levels of the sizes that typed ones will have.
func (r *run) bareTypes(l *space.Levels) (*space.Levels, error) {
	vocab := []oneshot.VocabLevel{{Set: subnet.Full(r.Geometry.Vocab)}}
	if least := r.Types.Least; least.N() > 0 && !least.IsFull() {
		vocab = append(vocab, oneshot.VocabLevel{Set: least, Loss: 1})
	}
	t, err := typedLevels(l, r.Types, r.Target, r.Types.Bare, vocab)
	if err != nil {
		return nil, err
	}
	return levels.WithTypes(l, t)
}

// plainFile is the file, in the folder of a search, with the plain types that were measured.
const plainFile = "plain.json"

// plainTypes are plain types with the levels that they were measured beside.
type plainTypes struct {
	Levels string
	Plain  []search.Plain
}

// measurePlain measures the dense model in every plain type. What a type adds is taken of one window, and counted from the dense model on all of the
// text, as the likelihoods of candidates are.
func (r *run) measurePlain(ctx context.Context, tokens int) error {
	n := max(1, tokens/len(r.tuning[0]))
	var bytes, scored int64
	for _, w := range r.tuning[:min(n, len(r.tuning))] {
		bytes, scored = bytes+r.Types.Bytes(w), scored+int64(len(w)-1)
	}
	r.bytesPerToken = float64(bytes) / float64(max(scored, 1))
	path := filepath.Join(r.Dir, plainFile)
	key := r.store.Levels().Key
	if data, err := os.ReadFile(path); err == nil && r.Dir != "" && r.Resume {
		var kept plainTypes
		if json.Unmarshal(data, &kept) == nil && kept.Levels == key {
			r.plain = kept.Plain
			return nil
		}
	}
	plain, err := r.Types.Plain(ctx, r.tuning[0])
	if err != nil {
		return err
	}
	own := 0.0 // of the source on that window
	for _, p := range plain {
		if p.Type == "" {
			own = p.NLL
		}
	}
	for i := range plain {
		plain[i].NLL += math.Log(r.dense) - own
	}
	r.plain = plain
	if r.Dir == "" {
		return nil
	}
	return r.persist(ctx, func() error { return save(path, plainTypes{key, plain}) })
}

// refitTyped re-fits a result whose matrices have types.
func (r *run) refitTyped(ctx context.Context, result Result, config oneshot.Config) (Result, error) {
	losses, err := r.Types.Losses(ctx)
	if err != nil {
		return result, err
	}
	size := oneshot.Size{
		Budget: int64(result.Target.Value), Cost: r.Types.Cost(result.Target), Types: r.Types.Allowed, Losses: losses, Load: r.Types.Load, Compensate: r.Types.Compensate, Inner: r.Types.Inner,
	}
	text := r.text.Windows[:r.plan.Refit]
	err = r.persist(ctx, func() error {
		s, report, err := oneshot.RefitTyped(ctx, r.model, text, result.Subnet, r.predicted, size, config)
		if err != nil {
			return err
		}
		result.Subnet, result.Recipe, result.Report, result.Size = s, &config.Recipe.Refit, &report.Report, report.Size
		return nil
	})
	if err != nil {
		return result, fmt.Errorf("search: %w", err)
	}
	return result, nil
}
