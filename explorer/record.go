package explorer

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// A record is one line of the journal: something that happened to the exploration and outlives the process. Exactly one
// of its pointers is set. Folding all records of a journal, in order, over an empty snapshot gives the state they led to;
// live changes take the same way.
type record struct {
	At time.Time `json:"at"`
	By string    `json:"by,omitempty"`

	Draft    *draftRecord    `json:"draft,omitempty"`
	Subnet   *subnetRecord   `json:"subnet,omitempty"`
	Change   *changeRecord   `json:"change,omitempty"`
	Purge    []SubnetID      `json:"purge,omitempty"`
	Measured *measuredRecord `json:"measured,omitempty"`
	Compared *comparedRecord `json:"compared,omitempty"`
	Chat     *Chat           `json:"chat,omitempty"`
	DropChat ChatID          `json:"drop_chat,omitempty"`
	Bench    *Bench          `json:"bench,omitempty"`
	Search   *searchRecord   `json:"search,omitempty"`
	Serial   *serials        `json:"serial,omitempty"`
}

// The operations of a draftRecord.
const (
	opCheckout = "checkout"
	opStep     = "step"
	opUndo     = "undo"
	opRedo     = "redo"
)

// draftRecord is a change of the draft.
type draftRecord struct {
	Op      string   `json:"op"`
	Base    SubnetID `json:"base,omitempty"`    // checkout
	Masks   string   `json:"masks,omitempty"`   // checkout: text form
	Summary string   `json:"summary,omitempty"` // step
	Layers  []string `json:"layers,omitempty"`  // step: the changed layers as they are afterwards, in text form
	Vocab   *string  `json:"vocab,omitempty"`   // step: the vocabulary afterwards, in text form, "" for all; nil where it did not change
}

// subnetRecord is a subnet that was added to the library.
type subnetRecord struct {
	ID         SubnetID  `json:"id"`
	Name       string    `json:"name"`
	Origin     Origin    `json:"origin"`
	Parent     SubnetID  `json:"parent,omitempty"`
	Author     string    `json:"author,omitempty"`
	Created    time.Time `json:"created"`
	Method     Method    `json:"method"`
	Masks      string    `json:"masks"`
	Refit      string    `json:"refit,omitempty"`
	RefitBytes int64     `json:"refit_bytes,omitempty"`
	// Types are the names of types by those of tensors.
	Types   map[string]string `json:"types,omitempty"`
	Note    string            `json:"note,omitempty"`
	HeldOut HeldOut           `json:"held_out,omitzero"`

	Measurements []Measurement `json:"measurements,omitempty"`
	Deleted      time.Time     `json:"deleted,omitzero"`
}

// changeRecord changes an entry of the library; nil fields stay.
type changeRecord struct {
	Subnet  SubnetID `json:"subnet"`
	Name    *string  `json:"name,omitempty"`
	Note    *string  `json:"note,omitempty"`
	Deleted *bool    `json:"deleted,omitempty"`
}

// measuredRecord adds a measurement to a subnet. That of a draft is not kept over a restart.
type measuredRecord struct {
	Subnet      SubnetID    `json:"subnet"`
	Measurement Measurement `json:"measurement"`
}

// comparedRecord is a measured loss with the estimate for the same masks, both as a rise over dense in nats per token.
type comparedRecord struct {
	Of        string  `json:"of,omitempty"`       // hash of masks and kind
	Refitted  bool    `json:"refitted,omitempty"` // whether the measured weights were re-fitted
	Estimated float64 `json:"estimated"`
	Measured  float64 `json:"measured"`
}

// serials are the last numbers of ids, so that none is used twice.
type serials struct {
	Subnet int `json:"subnet"`
	Chat   int `json:"chat"`
	Bench  int `json:"bench"`
}

// folded is what records lead to besides the snapshot.
type folded struct {
	serial      serials
	comparisons comparisons
}

// state is what records fold into: a private snapshot and what belongs to it.
type state struct {
	now *Snapshot
	folded
}

// geometry is the shape of the dense model.
func (s *state) geometry() *subnet.Geometry { return s.now.Model.Geometry }

// fold applies one record to the state and returns the section that it changed. The state's snapshot must be a private copy;
// the slices in it are shared with published ones and are replaced, never written to.
func (s *state) fold(r record) (Section, error) {
	switch {
	case r.Draft != nil:
		return SectionDraft, s.foldDraft(r)
	case r.Subnet != nil:
		return SectionSubnets, s.foldSubnet(r.Subnet)
	case r.Change != nil:
		return SectionSubnets, s.foldChange(r)
	case r.Purge != nil:
		s.now.Trash = slices.DeleteFunc(slices.Clone(s.now.Trash), func(n Subnet) bool { return slices.Contains(r.Purge, n.ID) })
		return SectionSubnets, nil
	case r.Measured != nil:
		return s.foldMeasured(r.Measured)
	case r.Compared != nil:
		s.comparisons = s.comparisons.with(*r.Compared)
		s.estimateFrom(s.now.Draft.Estimate)
		return SectionDraft, nil
	case r.Chat != nil:
		for _, c := range r.Chat.Columns {
			if len(c.Replies) != len(r.Chat.Prompts) {
				return 0, fmt.Errorf("%w: chat %s: %d replies to %d prompts", ErrDamaged, r.Chat.ID, len(c.Replies), len(r.Chat.Prompts))
			}
		}
		s.serial.Chat = max(s.serial.Chat, number(string(r.Chat.ID)))
		s.now.Chats = put(s.now.Chats, *r.Chat, func(c Chat) ChatID { return c.ID })
		return SectionChats, nil
	case r.DropChat != "":
		s.now.Chats = slices.DeleteFunc(slices.Clone(s.now.Chats), func(c Chat) bool { return c.ID == r.DropChat })
		return SectionChats, nil
	case r.Bench != nil:
		s.serial.Bench = max(s.serial.Bench, number(string(r.Bench.ID)))
		s.now.Benches = put(s.now.Benches, *r.Bench, func(b Bench) BenchID { return b.ID })
		return SectionBenches, nil
	case r.Search != nil:
		s.now.Unfinished, s.now.Ended = r.Search.UnderWay, r.Search.Ended
		return SectionSearch, nil
	case r.Serial != nil:
		s.serial = serials{max(s.serial.Subnet, r.Serial.Subnet), max(s.serial.Chat, r.Serial.Chat), max(s.serial.Bench, r.Serial.Bench)}
		return SectionSubnets, nil
	}
	return 0, fmt.Errorf("%w: an empty record", ErrDamaged)
}

func (s *state) foldSubnet(r *subnetRecord) error {
	masks, err := subnet.ParseMasks(s.geometry(), []byte(r.Masks))
	if err != nil {
		return fmt.Errorf("subnet %s: %w", r.ID, err)
	}
	types, err := parseTypes(r.Types)
	if err != nil {
		return fmt.Errorf("subnet %s: %w", r.ID, err)
	}
	n := Subnet{
		Types: types, ID: r.ID, Name: r.Name, Origin: r.Origin, Parent: r.Parent, Author: r.Author, Created: r.Created, Method: r.Method,
		Masks: masks, Size: masks.Size(), Refit: r.Refit, RefitBytes: r.RefitBytes, Note: r.Note, HeldOut: r.HeldOut,
		Measurements: r.Measurements, Deleted: r.Deleted,
	}
	n.Bytes = s.now.Model.sizeOf(&n, masks, "").WithProvenance(n.provenance())
	s.serial.Subnet = max(s.serial.Subnet, number(string(r.ID)))
	id := func(n Subnet) SubnetID { return n.ID }
	if n.Deleted.IsZero() {
		s.now.Subnets = put(s.now.Subnets, n, id)
	} else {
		s.now.Trash = put(s.now.Trash, n, id)
	}
	return nil
}

func (s *state) foldChange(r record) error {
	c := r.Change
	change := func(n *Subnet) {
		if c.Name != nil {
			n.Name = *c.Name
		}
		if c.Note != nil {
			n.Note = *c.Note
		}
	}
	if c.Deleted == nil {
		if !edit(&s.now.Subnets, c.Subnet, change) && !edit(&s.now.Trash, c.Subnet, change) {
			return fmt.Errorf("subnet %s: %w", c.Subnet, ErrNotFound)
		}
		return nil
	}
	from, to, when := &s.now.Subnets, &s.now.Trash, r.At
	if !*c.Deleted {
		from, to, when = to, from, time.Time{}
	}
	i := slices.IndexFunc(*from, func(n Subnet) bool { return n.ID == c.Subnet })
	if i < 0 {
		return fmt.Errorf("subnet %s: %w", c.Subnet, ErrNotFound)
	}
	n := (*from)[i]
	n.Deleted = when
	change(&n)
	*from = slices.Delete(slices.Clone(*from), i, i+1)
	*to = slices.Insert(slices.Clone(*to), 0, n)
	if when.IsZero() {
		slices.SortStableFunc(*to, func(a, b Subnet) int { return b.Created.Compare(a.Created) })
	}
	return nil
}

func (s *state) foldMeasured(r *measuredRecord) (Section, error) {
	add := func(n *Subnet) { n.Measurements = slices.Insert(slices.Clone(n.Measurements), 0, r.Measurement) }
	if r.Subnet == DenseID {
		m := s.now.Model
		m.Measurements = slices.Insert(slices.Clone(m.Measurements), 0, r.Measurement)
		s.now.Model = m
		return SectionModel, nil
	}
	if edit(&s.now.Subnets, r.Subnet, add) || edit(&s.now.Trash, r.Subnet, add) {
		return SectionSubnets, nil
	}
	return 0, fmt.Errorf("subnet %s: %w", r.Subnet, ErrNotFound)
}

// edit replaces the subnet of that id by a changed copy and reports whether it is there.
func edit(list *[]Subnet, id SubnetID, change func(*Subnet)) bool {
	i := slices.IndexFunc(*list, func(n Subnet) bool { return n.ID == id })
	if i < 0 {
		return false
	}
	*list = slices.Clone(*list)
	change(&(*list)[i])
	return true
}

// put replaces the element of the same id by a new one, or adds it in front.
func put[T any, K comparable](list []T, v T, id func(T) K) []T {
	if i := slices.IndexFunc(list, func(t T) bool { return id(t) == id(v) }); i >= 0 {
		list = slices.Clone(list)
		list[i] = v
		return list
	}
	return slices.Insert(slices.Clone(list), 0, v)
}

// number is the number in an id such as "s12", 0 where there is none.
func number(id string) int {
	if id == "" {
		return 0
	}
	n, err := strconv.Atoi(id[1:])
	if err != nil {
		return 0
	}
	return n
}
