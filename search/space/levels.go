package space

import (
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Level is one prepared cut of one module of a layer.
type Level struct {
	// Mask holds the units kept: Heads, QK and VO of attention, Channels of an
	// MLP. The fields of the other module are ignored.
	Mask subnet.Layer
	// Params are the parameters of the module's matrices at this level.
	Params int64
	// Loss is the predicted rise of the fitness if this module alone is at this
	// level and all others are dense, in nats per token.
	Loss float64

	// The other fields are those of levels that differ in types of matrices too, see [Levels.Heads].

	// Width is the index of the level with the same units among the prepared ones, whose re-fitted matrix it has.
	Width int
	// Types are the types of the module's matrices that are not those of the source.
	Types []TensorType
	// Bytes is the size of the module's matrices, or of the vocabulary with its matrices.
	Bytes int64
	// Vocab holds the entries of the vocabulary that are kept, of the levels of [Levels.Heads]; the zero value is all.
	Vocab subnet.Set
}

// TensorType is the type of a tensor, by its name in the source.
type TensorType struct {
	Tensor string
	Type   subnet.Type
}

// Ladder holds the levels of one module, from dense (index 0) to the smallest, with
// strictly falling Params, or strictly falling Bytes where levels have types. The last level may keep nothing.
type Ladder []Level

// Levels holds the ladders of all modules of a model.
type Levels struct {
	Geometry *subnet.Geometry
	// Key identifies how the levels were made: model, calibration text and
	// options. Choices are comparable only under the same key.
	Key string
	// Attention and MLP hold one ladder per layer.
	Attention, MLP []Ladder
	// Heads are sizes of the vocabulary with the types of the embedding and the LM head, in one more slot after those of modules. Where it is
	// not nil all levels have types.
	Heads Ladder
}

// Typed reports whether levels have types.
func (l *Levels) Typed() bool { return l.Heads != nil }

// Choice selects a level for every module, index Modules·layer + module, and one for the vocabulary after them where levels have types.
type Choice []int16

// Exact selects, in place of a level, the module of a [Base] as it is.
const Exact int16 = -1

// Base is a subnet made by hand. Choices select modules of it by [Exact].
type Base struct {
	Masks subnet.Masks
	// Weights identifies its re-fitted matrices, "" for the original ones.
	Weights string
}

// Slots returns the number of modules, and one more where levels have types.
func (l *Levels) Slots() int {
	n := l.modules()
	if l.Typed() {
		n++
	}
	return n
}

// modules returns the number of modules, which is the slot of the vocabulary.
func (l *Levels) modules() int { return subnet.Modules * len(l.Geometry.Layers) }

// IsVocab reports whether a slot is that of the vocabulary.
func (l *Levels) IsVocab(slot int) bool { return slot == l.modules() }

// SlotName names a slot of a choice in few letters.
func (c Choice) SlotName(slot int) string {
	if slot == len(c)/subnet.Modules*subnet.Modules {
		return "vocabulary"
	}
	return fmt.Sprintf("L%d %v", slot/subnet.Modules, subnet.Module(slot%subnet.Modules))
}

// slotName names a slot in errors.
func (l *Levels) slotName(slot int) string {
	if l.IsVocab(slot) {
		return "vocabulary:"
	}
	return fmt.Sprintf("layer %d: %v", slot/subnet.Modules, subnet.Module(slot%subnet.Modules))
}

// Ladder returns the levels of slot Modules·layer + module.
func (l *Levels) Ladder(slot int) Ladder {
	if l.IsVocab(slot) {
		return l.Heads
	}
	if subnet.Module(slot%subnet.Modules) == subnet.Attention {
		return l.Attention[slot/subnet.Modules]
	}
	return l.MLP[slot/subnet.Modules]
}

// Level returns the level that c selects in a slot.
func (l *Levels) Level(c Choice, slot int) *Level { return &l.Ladder(slot)[c[slot]] }

// Dense returns the choice of the dense model.
func (l *Levels) Dense() Choice { return make(Choice, l.Slots()) }

// Smallest returns the choice of the last level of every module.
func (l *Levels) Smallest() Choice {
	c := l.Dense()
	for s := range c {
		c[s] = int16(len(l.Ladder(s)) - 1)
	}
	return c
}

// Params returns the parameters of the block matrices of a choice.
func (l *Levels) Params(c Choice) int64 {
	var n int64
	for s := range c {
		n += l.Level(c, s).Params
	}
	return n
}

// Loss returns the predicted rise of the fitness of a choice: the sum over its
// modules.
func (l *Levels) Loss(c Choice) float64 {
	var sum float64
	for s := range c {
		sum += l.Level(c, s).Loss
	}
	return sum
}

// Masks returns the masks of a choice, which has no exact modules. Errors wrap
// [subnet.ErrInvalid].
func (l *Levels) Masks(c Choice) (subnet.Masks, error) { return l.MasksOver(c, nil) }

// MasksOver returns the masks of a choice, the exact modules of which are those of a
// base. Errors wrap [subnet.ErrInvalid].
func (l *Levels) MasksOver(c Choice, base *Base) (subnet.Masks, error) {
	if err := l.check(c, base); err != nil {
		return subnet.Masks{}, err
	}
	layers := make([]subnet.Layer, len(l.Geometry.Layers))
	for i := range layers {
		mask := func(m subnet.Module) subnet.Layer {
			if slot := subnet.Modules*i + int(m); c[slot] != Exact {
				return l.Level(c, slot).Mask
			}
			return base.Masks.Layer(i)
		}
		layers[i] = mask(subnet.Attention)
		layers[i].Channels = mask(subnet.MLP).Channels
	}
	masks, err := subnet.New(l.Geometry, layers)
	if err != nil || !l.Typed() {
		return masks, err
	}
	if kept := l.Level(c, l.modules()).Vocab; kept.N() > 0 {
		return masks.WithVocab(kept)
	}
	return masks, nil
}

// Types returns the types of matrices of a choice by the names of tensors, those of the source left out, and nil where levels have no types.
// Modules of a base have those of the source.
func (l *Levels) Types(c Choice) map[string]subnet.Type {
	if !l.Typed() || len(c) != l.Slots() {
		return nil
	}
	types := make(map[string]subnet.Type)
	for s, v := range c {
		if v == Exact {
			continue
		}
		for _, t := range l.Level(c, s).Types {
			types[t.Tensor] = t.Type
		}
	}
	return types
}

func (l *Levels) check(c Choice, base *Base) error {
	if len(c) != l.Slots() {
		return fmt.Errorf("%w: choice of %d levels, the model has %d ladders", subnet.ErrInvalid, len(c), l.Slots())
	}
	if base != nil && !base.Masks.Geometry().Equal(l.Geometry) {
		return fmt.Errorf("%w: the exact modules are of another model", subnet.ErrInvalid)
	}
	for s, v := range c {
		if v == Exact && base != nil && !l.IsVocab(s) {
			continue
		}
		if n := len(l.Ladder(s)); v < 0 || int(v) >= n {
			return fmt.Errorf("%w: %s level %d of %d", subnet.ErrInvalid, l.slotName(s), v, n)
		}
	}
	return nil
}

// Nearest returns the choice nearest to masks: for each module the level with the
// nearest number of parameters, the larger of two equally near ones.
func (l *Levels) Nearest(m subnet.Masks) Choice {
	c := l.Dense()
	for s := range l.modules() {
		attention, mlp := m.Layer(s/subnet.Modules).ModuleParams(l.Geometry, s/subnet.Modules)
		want := mlp
		if subnet.Module(s%subnet.Modules) == subnet.Attention {
			want = attention
		}
		best := int64(math.MaxInt64)
		for i, level := range l.Ladder(s) {
			if d := max(want-level.Params, level.Params-want); d < best {
				best, c[s] = d, int16(i)
			}
		}
	}
	return c
}

// Validate returns an error for the first invalid level: a mask that does not fit,
// parameters that are not those of the mask or do not fall, a first level that is
// not dense, a loss that is NaN or infinite. Errors wrap [subnet.ErrInvalid].
func (l *Levels) Validate() error {
	if err := l.Geometry.Validate(); err != nil {
		return err
	}
	layers := len(l.Geometry.Layers)
	if len(l.Attention) != layers || len(l.MLP) != layers {
		return fmt.Errorf("%w: ladders of %d attention and %d MLP blocks, the model has %d layers", subnet.ErrInvalid, len(l.Attention), len(l.MLP), layers)
	}
	for s := range l.Slots() {
		if err := l.validateLadder(s); err != nil {
			return fmt.Errorf("%w: %s %w", subnet.ErrInvalid, l.slotName(s), err)
		}
	}
	return nil
}

// validateHeads checks the levels of the vocabulary.
func (l *Levels) validateHeads() error {
	for i, level := range l.Heads {
		switch n := level.Vocab.N(); {
		case n != 0 && n != l.Geometry.Vocab:
			return fmt.Errorf("level %d: entries of a vocabulary of %d, the model has %d", i, n, l.Geometry.Vocab)
		case n != 0 && level.Vocab.IsEmpty():
			return fmt.Errorf("level %d keeps no entry of the vocabulary", i)
		case i > 0 && level.Bytes >= l.Heads[i-1].Bytes:
			return fmt.Errorf("level %d is not smaller than level %d", i, i-1)
		case math.IsNaN(level.Loss) || math.IsInf(level.Loss, 0):
			return fmt.Errorf("level %d: predicted loss is %v", i, level.Loss)
		}
	}
	return nil
}

func (l *Levels) validateLadder(slot int) error {
	ladder, layer := l.Ladder(slot), slot/subnet.Modules
	if len(ladder) == 0 || len(ladder) > math.MaxInt16 {
		return fmt.Errorf("has %d levels", len(ladder))
	}
	if l.IsVocab(slot) {
		return l.validateHeads()
	}
	dense := subnet.DenseLayer(l.Geometry.Layers[layer])
	for i, level := range ladder {
		whole := dense
		if subnet.Module(slot%subnet.Modules) == subnet.Attention {
			whole.Heads, whole.QK, whole.VO = level.Mask.Heads, level.Mask.QK, level.Mask.VO
		} else {
			whole.Channels = level.Mask.Channels
		}
		if err := whole.Validate(l.Geometry.Layers[layer], l.Geometry.HeadDim); err != nil {
			return fmt.Errorf("level %d: %w", i, err)
		}
		attention, mlp := whole.ModuleParams(l.Geometry, layer)
		params := mlp
		if subnet.Module(slot%subnet.Modules) == subnet.Attention {
			params = attention
		}
		switch {
		case params != level.Params:
			return fmt.Errorf("level %d: %d parameters, its mask keeps %d", i, level.Params, params)
		case i == 0 && !whole.Equal(dense):
			return fmt.Errorf("level 0 is not dense")
		case i > 0 && !l.Typed() && params >= ladder[i-1].Params, i > 0 && l.Typed() && level.Bytes >= ladder[i-1].Bytes:
			return fmt.Errorf("level %d is not smaller than level %d", i, i-1)
		case math.IsNaN(level.Loss) || math.IsInf(level.Loss, 0):
			return fmt.Errorf("level %d: predicted loss is %v", i, level.Loss)
		}
	}
	return nil
}

// Equal reports whether two choices select the same levels.
func (c Choice) Equal(d Choice) bool { return slices.Equal(c, d) }
