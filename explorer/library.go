package explorer

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// MaxSubnets bounds those that people may put into a library, its trash included. What jobs find is kept beyond that.
const MaxSubnets = 1000

// library carries out a command on subnets.
func (e *Exploration) library(ctx context.Context, a Actor, c Command) (Receipt, error) {
	var id SubnetID
	err := e.record(ctx, a, func(s *Snapshot) ([]record, error) {
		r, err := e.libraryRecord(s, a, c)
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
	if _, ok := c.(EmptyTrash); ok {
		e.sweep()
	}
	return Receipt{Subnet: id}, nil
}

func (e *Exploration) libraryRecord(s *Snapshot, a Actor, c Command) (record, error) {
	change := func(id SubnetID, r changeRecord, in []Subnet) (record, error) {
		if !slices.ContainsFunc(in, func(n Subnet) bool { return n.ID == id }) {
			return record{}, fmt.Errorf("subnet %s: %w", id, ErrNotFound)
		}
		r.Subnet = id
		return record{Change: &r}, nil
	}
	all := append(slices.Clone(s.Subnets), s.Trash...)
	switch c.(type) {
	case SaveDraft, DuplicateSubnet, AddSubnet:
		if len(all) >= MaxSubnets {
			return record{}, fmt.Errorf("%w: there are %d subnets, the trash included: empty it", ErrBusy, len(all))
		}
	}
	yes, no := true, false
	switch c := c.(type) {
	case SaveDraft:
		if c.Version != 0 && c.Version != s.Draft.Version {
			return record{}, fmt.Errorf("%w: version %d, yours is %d", ErrStale, s.Draft.Version, c.Version)
		}
		r := Subnet{Name: c.Name, Origin: Edited, Parent: s.Draft.Base, Author: a.Name, Masks: s.Draft.Masks}
		if base, ok := s.Subnet(s.Draft.Base); ok {
			// Re-fitted weights of the base are kept by reference: layers that were edited since take theirs by column.
			r.Method, r.Refit, r.RefitBytes = base.Method, base.Refit, base.RefitBytes
		}
		if m := s.Draft.Measured; m != nil && s.Draft.MeasuredVersion == s.Draft.Version {
			r.Measurements = []Measurement{*m}
		}
		return e.newSubnet(r)
	case RenameSubnet:
		name := CleanName(c.Name)
		if name == "" {
			return record{}, fmt.Errorf("%w: an empty name", ErrInvalid)
		}
		return change(c.Subnet, changeRecord{Name: &name}, all)
	case AnnotateSubnet:
		note := cut(oneLine(c.Note), MaxNote)
		return change(c.Subnet, changeRecord{Note: &note}, all)
	case DeleteSubnet:
		return change(c.Subnet, changeRecord{Deleted: &yes}, s.Subnets)
	case RestoreSubnet:
		return change(c.Subnet, changeRecord{Deleted: &no}, s.Trash)
	case DuplicateSubnet:
		from, ok := s.Subnet(c.Subnet)
		if !ok {
			return record{}, fmt.Errorf("subnet %s: %w", c.Subnet, ErrNotFound)
		}
		n := from
		n.ID, n.Parent, n.Author, n.Deleted = "", from.ID, a.Name, from.Deleted
		if n.Name = c.Name; CleanName(n.Name) == "" {
			n.Name = from.Name + " copy"
		}
		return e.newSubnet(n)
	case EmptyTrash:
		r := record{Purge: []SubnetID{}}
		for _, n := range s.Trash {
			r.Purge = append(r.Purge, n.ID)
		}
		return r, nil
	case AddSubnet:
		masks, err := subnet.ParseMasks(s.Model.Geometry, []byte(c.Masks))
		if err != nil {
			return record{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		origin := c.Origin
		if origin == "" {
			origin = Imported
		}
		return e.newSubnet(Subnet{Name: c.Name, Origin: origin, Author: a.Name, Masks: masks, Note: cut(oneLine(c.Note), MaxNote)})
	}
	return record{}, fmt.Errorf("%w: unknown command %T", ErrInvalid, c)
}

// newSubnet is the record that puts n into the library under the next id. The caller holds the turn.
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
		Masks: string(text), Refit: n.Refit, RefitBytes: n.RefitBytes, Note: n.Note, HeldOut: n.HeldOut, Measurements: n.Measurements,
	}}, nil
}
