package draft

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// An exploration is the other side of a queue: the draft, changed by commands that name its version.
type exploration struct {
	draft  explorer.Draft
	before []subnet.Masks // what undo leads back to
	undone []subnet.Masks
	broken bool // the next command fails
}

var errBroken = errors.New("the disk is full")

func newExploration() *exploration {
	layer := subnet.LayerGeometry{Heads: 4, KVHeads: 2, FFN: 8}
	g := &subnet.Geometry{HeadDim: 4, Hidden: 16, Layers: []subnet.LayerGeometry{layer, layer}}
	return &exploration{draft: explorer.Draft{Version: 1, Masks: subnet.Dense(g)}}
}

// do carries a command out the way explorer.Exploration does.
func (x *exploration) do(c explorer.Command) (version uint64, err error) {
	if x.broken {
		x.broken = false
		return 0, errBroken
	}
	var named uint64
	next := x.draft.Masks
	switch c := c.(type) {
	case explorer.Edit:
		named = c.Version
		if next, err = draft.Apply(x.draft.Masks, nil, c.Mutations...); err != nil {
			return 0, err
		}
	case explorer.Undo:
		named = c.Version
		if len(x.before) == 0 {
			return 0, explorer.ErrInvalid
		}
		next = x.before[len(x.before)-1]
	case explorer.Redo:
		named = c.Version
		next = x.undone[len(x.undone)-1]
	case explorer.Checkout:
		named = c.Version
		next = subnet.Dense(x.draft.Masks.Geometry())
	}
	if named != 0 && named != x.draft.Version {
		return 0, explorer.ErrStale
	}
	switch c.(type) {
	case explorer.Undo:
		x.before = x.before[:len(x.before)-1]
		x.undone = append(x.undone, x.draft.Masks)
	case explorer.Redo:
		x.undone = x.undone[:len(x.undone)-1]
		x.before = append(x.before, x.draft.Masks)
	default:
		x.before = append(x.before, x.draft.Masks)
	}
	x.draft.Version++
	x.draft.Masks = next
	return x.draft.Version, nil
}

// keep is an edit that keeps the first n MLP channels of a layer.
func keep(layer, n int) explorer.Edit {
	return explorer.Edit{Mutations: []draft.Mutation{draft.SetChannels{Layer: layer, Set: subnet.Range(8, 0, n)}}}
}

// kept describes masks: the numbers of MLP channels of both layers.
func kept(m subnet.Masks) string {
	return fmt.Sprint(m.Layer(0).Channels.Len(), m.Layer(1).Channels.Len())
}

func TestQueue(t *testing.T) {
	type events = []any
	type (
		arrive struct{} // the command under way is carried out, and the viewer learns of it
		remote struct{} // another editor keeps 1 channel of layer 1
		follow struct{} // the viewer sees the newest draft
		breaks struct{} // the next command that arrives fails
	)
	undo, redo, checkout := explorer.Undo{}, explorer.Redo{}, explorer.Checkout{}
	for _, c := range []struct {
		name   string
		events events
		shown  string  // masks on the screen at the end
		want   string  // masks of the exploration at the end
		sent   int     // commands that went out
		errs   []error // in the order they came in
		idle   bool
	}{
		{"an edit shows at once", events{keep(0, 5)}, "5 8", "8 8", 1, nil, false},
		{"an edit arrives", events{keep(0, 5), arrive{}}, "5 8", "5 8", 1, nil, true},
		{"only one is under way", events{keep(0, 5), keep(0, 4), undo}, "4 8", "8 8", 1, nil, false},
		{"order is kept", events{keep(0, 5), undo, keep(0, 3), arrive{}, arrive{}, arrive{}}, "3 8", "3 8", 3, nil, true},
		{"edits that wait become one step", events{keep(0, 5), keep(0, 4), keep(1, 3), arrive{}, arrive{}, undo, arrive{}}, "5 8", "5 8", 3, nil, true},
		{"an undo between edits keeps them apart", events{keep(0, 5), keep(0, 4), undo, keep(1, 3), arrive{}, arrive{}, arrive{}, arrive{}}, "5 3", "5 3", 4, nil, true},
		{"undo and redo", events{keep(0, 5), arrive{}, undo, redo, arrive{}, arrive{}}, "5 8", "5 8", 3, nil, true},
		{"undo shows when it arrives", events{keep(0, 5), arrive{}, undo}, "5 8", "5 8", 2, nil, false},
		{"checkout", events{keep(0, 5), checkout, keep(1, 2), arrive{}, arrive{}, arrive{}}, "8 2", "8 2", 3, nil, true},
		{"a failure drops what waits", events{keep(0, 5), keep(1, 3), undo, breaks{}, arrive{}}, "8 8", "8 8", 1, []error{errBroken}, true},
		{"a failure in the middle", events{keep(0, 5), undo, keep(1, 3), arrive{}, breaks{}, arrive{}}, "5 8", "5 8", 2, []error{errBroken}, true},
		{"edits after a failure", events{keep(0, 5), breaks{}, arrive{}, keep(1, 3), arrive{}}, "8 3", "8 3", 2, []error{errBroken}, true},
		{"an edit that was not seen", events{remote{}, keep(0, 5), arrive{}}, "8 1", "8 1", 1, []error{explorer.ErrStale}, true},
		{"an edit that was seen", events{remote{}, follow{}, keep(0, 5), arrive{}}, "5 1", "5 1", 1, nil, true},
		{"another editor between two of ours", events{keep(0, 5), keep(0, 4), arrive{}, remote{}, arrive{}}, "5 1", "5 1", 2, []error{explorer.ErrStale}, true},
		{"our edit stays visible meanwhile", events{keep(0, 5), remote{}, follow{}}, "5 8", "8 1", 1, nil, false},
		{"an edit that cannot be applied", events{keep(0, 5), keep(7, 5), arrive{}}, "5 8", "5 8", 1, []error{explorer.ErrInvalid}, true},
		{"nothing to undo", events{undo, keep(0, 5), arrive{}}, "8 8", "8 8", 1, []error{explorer.ErrInvalid}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newExploration()
			var q Queue
			seen := x.draft
			var underWay explorer.Command
			var errs []error
			sent := 0
			send := func(next explorer.Command) {
				if next == nil {
					return
				}
				if underWay != nil {
					t.Fatalf("%T goes out while %T is under way", next, underWay)
				}
				underWay = next
				sent++
			}
			for _, e := range c.events {
				switch e := e.(type) {
				case arrive:
					version, err := x.do(underWay)
					underWay, seen = nil, x.draft
					if err != nil {
						errs = append(errs, err)
					}
					send(q.Done(version, err))
				case remote:
					if _, err := x.do(keep(1, 1)); err != nil {
						t.Fatal(err)
					}
				case follow:
					seen = x.draft
				case breaks:
					x.broken = true
				case explorer.Command:
					revision := q.Revision()
					next, err := q.Add(seen, explorer.Statistics{}, e)
					if err != nil {
						errs = append(errs, err)
					} else if q.Revision() == revision {
						t.Errorf("%T does not change the revision", e)
					}
					send(next)
				}
			}
			if got := kept(q.Masks(seen)); got != c.shown {
				t.Errorf("the screen shows %s, want %s", got, c.shown)
			}
			if got := kept(x.draft.Masks); got != c.want {
				t.Errorf("the exploration has %s, want %s", got, c.want)
			}
			if sent != c.sent || q.Idle() != c.idle {
				t.Errorf("sent %d, idle %v, want %d, %v", sent, q.Idle(), c.sent, c.idle)
			}
			if c.idle && q.Ahead() {
				t.Error("ahead of the exploration with nothing under way")
			}
			if !slices.EqualFunc(errs, c.errs, errors.Is) {
				t.Errorf("errors %v, want %v", errs, c.errs)
			}
		})
	}
}
