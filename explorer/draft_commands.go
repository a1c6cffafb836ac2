package explorer

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// MaxSteps is how many steps of a draft can be undone; older ones are forgotten.
const MaxSteps = 1000

func (s *state) foldDraft(r record) error {
	d := s.now.Draft
	switch op := r.Draft; op.Op {
	case opCheckout:
		masks, err := subnet.ParseMasks(s.geometry(), []byte(op.Masks))
		if err != nil {
			return fmt.Errorf("draft: %w", err)
		}
		d = Draft{Version: d.Version, Base: op.Base, Masks: masks, Estimate: d.Estimate}
	case opStep:
		after := d.Masks
		for _, line := range op.Layers {
			var i int
			if _, err := fmt.Sscanf(line, "layer %d ", &i); err != nil || i < 0 || i >= after.Layers() {
				return fmt.Errorf("%w: draft: layer line %.40q", ErrDamaged, line)
			}
			l, err := subnet.ParseLayer(s.geometry(), i, line)
			if err != nil {
				return fmt.Errorf("draft: %w", err)
			}
			after = after.With(i, l)
		}
		if op.Vocab != nil {
			kept, err := subnet.ParseVocab(s.geometry().Vocab, *op.Vocab)
			if err == nil {
				after, err = after.WithVocab(kept)
			}
			if err != nil {
				return fmt.Errorf("draft: %w", err)
			}
		}
		if err := after.Validate(); err != nil {
			return fmt.Errorf("%w: draft: %w", ErrDamaged, err)
		}
		step := Step{Author: r.By, At: r.At, Summary: op.Summary, Edits: subnet.Diff(d.Masks, after), before: d.Masks, after: after}
		if len(step.Edits) == 0 && d.Masks.Vocab().Equal(after.Vocab()) {
			return fmt.Errorf("%w: draft: a step that changes nothing", ErrDamaged)
		}
		d.Steps = pushed(d.Steps, step)
		d.Undone, d.Masks = nil, after
	case opUndo:
		if len(d.Steps) == 0 {
			return fmt.Errorf("%w: nothing to undo", ErrInvalid)
		}
		last := d.Steps[len(d.Steps)-1]
		d.Steps = d.Steps[:len(d.Steps)-1]
		d.Undone = pushed(d.Undone, last)
		d.Masks = last.before
	case opRedo:
		if len(d.Undone) == 0 {
			return fmt.Errorf("%w: nothing to redo", ErrInvalid)
		}
		next := d.Undone[len(d.Undone)-1]
		d.Undone = d.Undone[:len(d.Undone)-1]
		d.Steps = pushed(d.Steps, next)
		d.Masks = next.after
	default:
		return fmt.Errorf("%w: draft operation %q", ErrDamaged, op.Op)
	}
	d.Version++
	s.now.Draft = d
	return nil
}

// pushed is a stack of at most MaxSteps with one more step on it. It shares nothing with the old one, of which a snapshot
// may hold the part that was popped.
func pushed(steps []Step, step Step) []Step {
	if len(steps) == MaxSteps {
		steps = steps[1:]
	}
	return append(append(make([]Step, 0, len(steps)+1), steps...), step)
}

// derive fills in what follows from the draft's masks. It is called once after all folds of a change.
func (s *state) derive() {
	d := &s.now.Draft
	d.Size, d.Bytes = d.Masks.Size(), s.now.ExportBytes(DraftID, "")
}

// draft carries out a command that changes the draft: make gives the record for it from the present state.
func (e *Exploration) draft(ctx context.Context, a Actor, version uint64, make func(s *Snapshot) (record, error)) (Receipt, error) {
	var got uint64
	err := e.record(ctx, a, func(s *Snapshot) ([]record, error) {
		if version != 0 && version != s.Draft.Version {
			by := "somebody"
			if n := len(s.Draft.Steps); n > 0 && s.Draft.Steps[n-1].Author != "" {
				by = s.Draft.Steps[n-1].Author
			}
			return nil, fmt.Errorf("%w: by %s (version %d, yours is %d)", ErrStale, by, s.Draft.Version, version)
		}
		r, err := make(s)
		if err != nil {
			return nil, err
		}
		got = s.Draft.Version + 1 // as the record will make it
		return []record{r}, nil
	})
	if err != nil {
		return Receipt{}, err
	}
	e.estimate()
	e.follower.changed()
	return Receipt{Version: got}, nil
}

func (c Edit) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.draft(ctx, a, c.Version, func(s *Snapshot) (record, error) {
		masks, err := draft.Apply(s.Draft.Masks, s.Statistics.Importance, c.Mutations...)
		if err != nil {
			return record{}, err
		}
		return stepTo(s.Draft.Masks, masks)
	})
}

// stepTo is the record of a step from masks a to b. Its error wraps ErrInvalid when they are the same.
func stepTo(a, b subnet.Masks) (record, error) {
	edits := subnet.Diff(a, b)
	d := draftRecord{Op: opStep, Summary: draft.Describe(a, b)}
	if !a.Vocab().Equal(b.Vocab()) {
		line := b.VocabText()
		d.Vocab = &line
	}
	if len(edits) == 0 && d.Vocab == nil {
		return record{}, fmt.Errorf("%w: that changes nothing", ErrInvalid)
	}
	last := -1
	for _, edit := range edits {
		if edit.Layer != last {
			d.Layers = append(d.Layers, b.LayerText(edit.Layer))
			last = edit.Layer
		}
	}
	return record{Draft: &d}, nil
}

func (c Undo) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.draft(ctx, a, c.Version, func(*Snapshot) (record, error) { return record{Draft: &draftRecord{Op: opUndo}}, nil })
}

func (c Redo) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.draft(ctx, a, c.Version, func(*Snapshot) (record, error) { return record{Draft: &draftRecord{Op: opRedo}}, nil })
}

func (c Checkout) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.draft(ctx, a, c.Version, func(s *Snapshot) (record, error) {
		masks, err := s.Masks(c.Subnet)
		if err != nil {
			return record{}, err
		}
		if c.Keep {
			return stepTo(s.Draft.Masks, masks)
		}
		text, err := masks.MarshalText()
		if err != nil {
			return record{}, err
		}
		return record{Draft: &draftRecord{Op: opCheckout, Base: c.Subnet, Masks: string(text)}}, nil
	})
}
