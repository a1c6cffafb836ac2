package explorer

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/explorer/internal/workspace"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// What jobs make goes into the library, with its weights on the disk first.

// keepPrevious drops re-fitted weights that are worse on held-out text than those that the subnet had.
func (e *Exploration) keepPrevious(ctx context.Context, id SubnetID, made *Made, m *monitor) error {
	old, ok := e.Snapshot().Subnet(id)
	was := old.HeldOut.Perplexity
	if !ok || old.Refit == "" || was <= 0 || made.After <= WorseBy*max(was, made.Dense) || old.Method.Text.SHA256 != made.Method.Text.SHA256 {
		return nil
	}
	fitted, err := e.loadSubnet(ctx, id)
	if err != nil {
		return err
	}
	if made.Rejected == 0 {
		made.Rejected = made.After
	}
	m.Note(fmt.Sprintf("the re-fit is worse than the weights that %s has (perplexity %.2f instead of %.2f on held-out text): those are kept", old.Name, made.Rejected, was))
	made.Subnet, made.After, made.Method.Kept = fitted, was, KeptPrevious
	return nil
}

// keep adds what a job made to the library. Its weights are on the disk first. also is recorded with it, both or neither.
func (e *Exploration) keep(a Actor, m *monitor, made Made, n Subnet, also ...record) error {
	e.refresh()
	n.Author, n.Masks, n.Method = a.Name, made.Subnet.Masks, made.Method
	n.HeldOut = HeldOut{Unfitted: made.Before, Perplexity: made.After, Dense: made.Dense, Rejected: made.Rejected, General: made.General.After, GeneralDense: made.General.Dense}
	n.Types = made.Subnet.Types
	if hasRefit(made.Subnet) || n.Types != nil {
		file, bytes, err := e.weights.Save(made.Subnet)
		if err != nil {
			return err
		}
		n.Refit, n.RefitBytes = file, bytes
	}
	var id SubnetID
	err := e.record(context.Background(), a, func(*Snapshot) ([]record, error) {
		r, err := e.newSubnet(n)
		if err != nil {
			return nil, err
		}
		id = r.Subnet.ID
		return append([]record{r}, also...), nil
	})
	if err != nil {
		return err
	}
	m.show(func(j *Job) { j.Result = id })
	if path := e.Snapshot().Workspace.Path; path != "" {
		bytes := workspace.Bytes(path)
		e.update(SectionWorkspace, func(s *Snapshot) { s.Workspace.Bytes = bytes })
	}
	e.endReform(m, id, made)
	return nil
}

// endReform shows what the re-fit of a job has made, and keeps it.
func (e *Exploration) endReform(m *monitor, id SubnetID, made Made) {
	e.update(SectionReform, func(s *Snapshot) {
		if s.Reform.Job == m.id {
			s.Reform.Result, s.Reform.Method, s.Reform.General = id, made.Method, made.General
			s.Reform.Before, s.Reform.After, s.Reform.Dense, s.Reform.Rejected = made.Before, made.After, made.Dense, made.Rejected
		}
	})
	e.keepReform(m)
}

func hasRefit(s gguf.Subnet) bool {
	for _, r := range s.Refit {
		if !r.IsZero() {
			return true
		}
	}
	return false
}

// loadSubnet returns the subnet of an id with its re-fitted weights, if it has any.
func (e *Exploration) loadSubnet(ctx context.Context, id SubnetID) (gguf.Subnet, error) {
	s := e.Snapshot()
	masks, err := s.Masks(id)
	if err != nil {
		return gguf.Subnet{}, err
	}
	n, ok := s.Subnet(id)
	if id == DraftID {
		n, ok = s.Subnet(s.Draft.Base)
	}
	if !ok || n.Refit == "" {
		return gguf.Subnet{Masks: masks}, nil
	}
	fitted, err := e.weights.Load(ctx, n.Refit, s.Model.Geometry)
	if err != nil {
		return gguf.Subnet{}, fmt.Errorf("re-fitted weights of %s: %w", n.Name, err)
	}
	if fitted.Masks.Equal(masks) {
		fitted.Masks = masks
		return fitted, nil
	}
	return e.model.Carry(ctx, fitted, masks)
}
