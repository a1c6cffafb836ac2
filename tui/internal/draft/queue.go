// Package draft implements optimistic edits of the draft: a queue of commands, with a preview of the masks that they lead to.
package draft

import (
	"slices"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// A Queue releases commands on the draft one at a time, so that fast keys neither overtake each other nor name a stale
// version, and predicts the masks that its edits lead to. Waiting edits are merged into one step. When a command fails,
// the commands behind it are dropped, because they were meant for other masks.
//
// A Queue sends nothing: Add and Done return the command to send next, if there is one, and its outcome comes back through
// Done. The zero Queue is empty.
type Queue struct {
	waiting  []explorer.Command
	sent     bool         // one command is under way
	version  uint64       // of the draft that the next command applies to
	preview  subnet.Masks // the draft with all edits that wait or are under way; valid while ahead
	ahead    bool
	revision int
}

// Add appends an Edit, Undo, Redo or Checkout. d and s are the newest draft and statistics of the viewer. It returns the
// command to send now; nil while another one is under way. An edit that cannot be applied to the predicted masks is
// refused with the error of [draft.Apply], and the queue does not change.
func (q *Queue) Add(d explorer.Draft, s explorer.Statistics, c explorer.Command) (explorer.Command, error) {
	edit, isEdit := c.(explorer.Edit)
	if isEdit {
		next, err := draft.Apply(q.Masks(d), s.Importance, edit.Mutations...)
		if err != nil {
			return nil, err
		}
		q.preview, q.ahead = next, true
	}
	q.revision++
	if !q.sent && len(q.waiting) == 0 {
		q.version = d.Version
	}
	if k := len(q.waiting) - 1; k >= 0 && isEdit {
		if last, ok := q.waiting[k].(explorer.Edit); ok {
			last.Mutations = slices.Concat(last.Mutations, edit.Mutations)
			q.waiting[k] = last
			return nil, nil
		}
	}
	q.waiting = append(q.waiting, c)
	return q.next(), nil
}

// Done records the outcome of the command under way: the version of the draft that it led to, or its error. It returns the
// command to send next, or nil.
func (q *Queue) Done(version uint64, err error) explorer.Command {
	q.revision++
	q.sent = false
	q.version = version
	if err != nil {
		q.waiting = nil
	}
	if len(q.waiting) == 0 {
		q.ahead = false
	}
	return q.next()
}

// next removes the first waiting command and sets the version it applies to; nil while one is under way.
func (q *Queue) next() explorer.Command {
	if q.sent || len(q.waiting) == 0 {
		return nil
	}
	c := q.waiting[0]
	q.waiting = q.waiting[1:]
	q.sent = true
	switch c := c.(type) {
	case explorer.Edit:
		c.Version = q.version
		return c
	case explorer.Undo:
		c.Version = q.version
		return c
	case explorer.Redo:
		c.Version = q.version
		return c
	case explorer.Checkout:
		c.Version = q.version
		return c
	}
	return c
}

// Masks returns the masks as they will be once all edits have arrived; those of d where none is missing. The
// results of undo, redo and checkout show only after they are executed.
func (q *Queue) Masks(d explorer.Draft) subnet.Masks {
	if q.ahead {
		return q.preview
	}
	return d.Masks
}

// Ahead reports whether Masks differs from the draft of the exploration because edits have not arrived yet.
func (q *Queue) Ahead() bool { return q.ahead }

// Idle reports whether no command waits or is under way.
func (q *Queue) Idle() bool { return !q.sent && len(q.waiting) == 0 }

// Revision grows with every change of the queue, for caches.
func (q *Queue) Revision() int { return q.revision }
