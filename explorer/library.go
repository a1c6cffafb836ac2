package explorer

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// MaxSubnets bounds the subnets that people may add to a library, the trash included. Results of jobs are kept beyond it.
const MaxSubnets = 1000

// library makes the record of a command from the present state and carries it out.
func (e *Exploration) library(ctx context.Context, a Actor, make func(*Snapshot) (record, error)) (Receipt, error) {
	var id SubnetID
	err := e.record(ctx, a, func(s *Snapshot) ([]record, error) {
		r, err := make(s)
		if err != nil {
			return nil, err
		}
		if r.Subnet != nil {
			id = r.Subnet.ID
		} else if r.Change != nil {
			id = r.Change.Subnet
		}
		return []record{r}, nil
	})
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{Subnet: id}, nil
}

// add adds the subnet that make returns to the library, unless it is full.
func (e *Exploration) add(ctx context.Context, a Actor, make func(*Snapshot) (Subnet, error)) (Receipt, error) {
	return e.library(ctx, a, func(s *Snapshot) (record, error) {
		if n := len(s.Subnets) + len(s.Trash); n >= MaxSubnets {
			return record{}, fmt.Errorf("%w: there are %d subnets, the trash included: empty it", ErrBusy, n)
		}
		n, err := make(s)
		if err != nil {
			return record{}, err
		}
		return e.newSubnet(n)
	})
}

// change makes the record that changes a subnet of one of the lists.
func change(id SubnetID, r changeRecord, in ...[]Subnet) (record, error) {
	for _, list := range in {
		if slices.ContainsFunc(list, func(n Subnet) bool { return n.ID == id }) {
			r.Subnet = id
			return record{Change: &r}, nil
		}
	}
	return record{}, fmt.Errorf("subnet %s: %w", id, ErrNotFound)
}

func (c SaveDraft) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.add(ctx, a, func(s *Snapshot) (Subnet, error) {
		if c.Version != 0 && c.Version != s.Draft.Version {
			return Subnet{}, fmt.Errorf("%w: version %d, yours is %d", ErrStale, s.Draft.Version, c.Version)
		}
		n := Subnet{Name: c.Name, Origin: Edited, Parent: s.Draft.Base, Author: a.Name, Masks: s.Draft.Masks}
		if base, ok := s.Subnet(s.Draft.Base); ok {
			// Re-fitted weights of the base are kept by reference: layers edited since take theirs by column.
			n.Method, n.Refit, n.RefitBytes, n.Types = base.Method, base.Refit, base.RefitBytes, base.Types
		}
		if m := s.Draft.Measured; m != nil && s.Draft.MeasuredVersion == s.Draft.Version {
			n.Measurements = []Measurement{*m}
		}
		return n, nil
	})
}

// Saved returns the newest subnet of the library that the draft, which was edited, was saved as.
func (s *Snapshot) Saved() (n Subnet, ok bool) {
	d := s.Draft
	if len(d.Steps) == 0 {
		return n, false
	}
	for _, one := range s.Subnets {
		if one.Origin == Edited && one.Parent == d.Base && one.Masks.Layers() == d.Masks.Layers() && (!ok || one.Created.After(n.Created)) && one.Masks.Equal(d.Masks) {
			n, ok = one, true
		}
	}
	return n, ok
}

func (c DuplicateSubnet) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.add(ctx, a, func(s *Snapshot) (Subnet, error) {
		from, ok := s.Subnet(c.Subnet)
		if !ok {
			return Subnet{}, fmt.Errorf("subnet %s: %w", c.Subnet, ErrNotFound)
		}
		n := from
		n.ID, n.Parent, n.Author = "", from.ID, a.Name
		if n.Name = c.Name; CleanName(n.Name) == "" {
			n.Name = from.Name + " copy"
		}
		return n, nil
	})
}

func (c AddSubnet) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	return e.add(ctx, a, func(s *Snapshot) (Subnet, error) {
		masks, err := subnet.ParseMasks(s.Model.Geometry, []byte(c.Masks))
		if err != nil {
			return Subnet{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return Subnet{Name: c.Name, Origin: cmp.Or(c.Origin, Imported), Author: a.Name, Masks: masks, Note: cut(oneLine(c.Note), MaxNote)}, nil
	})
}

func (c RenameSubnet) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	name := CleanName(c.Name)
	if name == "" {
		return Receipt{}, fmt.Errorf("%w: an empty name", ErrInvalid)
	}
	return e.library(ctx, a, func(s *Snapshot) (record, error) {
		return change(c.Subnet, changeRecord{Name: &name}, s.Subnets, s.Trash)
	})
}

func (c AnnotateSubnet) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	note := cut(oneLine(c.Note), MaxNote)
	return e.library(ctx, a, func(s *Snapshot) (record, error) {
		return change(c.Subnet, changeRecord{Note: &note}, s.Subnets, s.Trash)
	})
}

func (c DeleteSubnet) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	deleted := true
	return e.library(ctx, a, func(s *Snapshot) (record, error) { return change(c.Subnet, changeRecord{Deleted: &deleted}, s.Subnets) })
}

func (c RestoreSubnet) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	deleted := false
	return e.library(ctx, a, func(s *Snapshot) (record, error) { return change(c.Subnet, changeRecord{Deleted: &deleted}, s.Trash) })
}

func (EmptyTrash) do(ctx context.Context, e *Exploration, a Actor) (Receipt, error) {
	r, err := e.library(ctx, a, func(s *Snapshot) (record, error) {
		r := record{Purge: []SubnetID{}}
		for _, n := range s.Trash {
			r.Purge = append(r.Purge, n.ID)
		}
		return r, nil
	})
	if err == nil {
		e.sweep()
	}
	return r, err
}

// newSubnet returns the record that adds n to the library under the next id. The caller holds the turn.
func (e *Exploration) newSubnet(n Subnet) (record, error) {
	text, err := n.Masks.MarshalText()
	if err != nil {
		return record{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	id := SubnetID("s" + strconv.Itoa(e.folded.serial.Subnet+1))
	if n.Name = CleanName(n.Name); n.Name == "" {
		n.Name = fmt.Sprintf("%s %.2f %s", n.Origin, n.Masks.Size().Ratio, id)
	}
	return record{Subnet: &subnetRecord{
		ID: id, Name: n.Name, Origin: n.Origin, Parent: n.Parent, Author: n.Author, Created: e.now().UTC(), Method: n.Method,
		Masks: string(text), Refit: n.Refit, RefitBytes: n.RefitBytes, Types: typeNames(n.Types), Note: n.Note, HeldOut: n.HeldOut, Measurements: n.Measurements,
	}}, nil
}
