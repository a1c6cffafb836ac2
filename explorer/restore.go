package explorer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/explorer/internal/workspace"

	"github.com/lathe-llm/lathe/infer/durable"
)

// restore opens the workspace and folds its journal into the state, before anything is published.
func (e *Exploration) restore(st *state) (notes []Message, err error) {
	path := e.options.Workspace
	now := st.now
	lock, holder, err := workspace.Open(path, workspace.Model{Path: now.Model.Path, Name: now.Model.Name, Fingerprint: now.Model.Fingerprint}, e.options.ReadOnly, e.now().UTC())
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && lock != nil {
			err = errors.Join(err, lock.Close())
		}
	}()
	now.Workspace = WorkspaceInfo{Path: path, ReadOnly: lock == nil, Holder: oneLine(holder), Bytes: workspace.Bytes(path)}
	if lock == nil {
		now.Workspace.Paused = oneLine(workspace.Paused(path))
	}
	e.weights = workspace.Weights{Path: filepath.Join(path, workspace.WeightsFolder)}

	file := filepath.Join(path, workspace.JournalFile)
	size, count, damaged, err := workspace.ReadJournal(file, func(r record) error { _, err := st.fold(r); return err })
	if err != nil {
		return nil, err
	}
	now.Chats = settled(now.Chats)
	for _, note := range []string{e.restoreSearch(now), e.restoreReform(now)} {
		if note != "" {
			notes = append(notes, Message{Level: Warning, Text: note})
		}
	}
	if lock == nil {
		if !e.options.ReadOnly { // the caller asked for it
			notes = append(notes, Message{Level: Warning, Text: "read-only: the workspace is " + now.Workspace.Holder})
		}
		return notes, nil
	}
	if len(damaged) > 0 {
		kept := file + ".damaged"
		if err := durable.Copy(file, kept, 0o600); err != nil {
			return nil, err
		}
		first := damaged[0]
		notes = append(notes, Message{Level: Failure, Text: fmt.Sprintf(
			"%s: %d of %d lines could not be read and were left out (line %d: %v); the file as it was is %s", file, len(damaged), count+len(damaged), first.Line, first.Err, kept)})
	}
	live, err := st.records()
	if err != nil {
		return nil, err
	}
	if len(damaged) > 0 || count > 2*len(live)+100 {
		if size, err = workspace.RewriteJournal(file, live); err != nil {
			return nil, err
		}
	}
	j, err := workspace.OpenJournal[record](file, size)
	if err != nil {
		return nil, err
	}
	e.store = lockedJournal{j, lock}
	return notes, e.sweepUnused(now)
}

// lockedJournal gives the workspace's lock back after its journal is closed.
type lockedJournal struct {
	*workspace.Journal[record]
	lock *os.File
}

// setPaused records in the lock file, for other processes, why a job of this one is paused.
func (e *Exploration) setPaused(reason string) {
	if j, ok := e.store.(lockedJournal); ok {
		_ = workspace.SetPaused(j.lock, reason) // it is only informative
	}
}

func (j lockedJournal) Close() error { return errors.Join(j.Journal.Close(), j.lock.Close()) }

// records are what folds into the present state: a journal without its history.
func (s *state) records() ([]record, error) {
	out := []record{{Serial: &serials{s.serial.Subnet, s.serial.Chat, s.serial.Bench}}}
	for _, list := range [][]Subnet{s.now.Trash, s.now.Subnets} {
		for _, n := range slices.Backward(list) {
			text, err := n.Masks.MarshalText()
			if err != nil {
				return nil, err
			}
			out = append(out, record{Subnet: &subnetRecord{
				ID: n.ID, Name: n.Name, Origin: n.Origin, Parent: n.Parent, Author: n.Author, Created: n.Created, Method: n.Method,
				Masks: string(text), Refit: n.Refit, RefitBytes: n.RefitBytes, Types: typeNames(n.Types), Note: n.Note, HeldOut: n.HeldOut, Measurements: n.Measurements, Deleted: n.Deleted,
			}})
		}
	}
	for _, m := range slices.Backward(s.now.Model.Measurements) {
		out = append(out, record{Measured: &measuredRecord{Subnet: DenseID, Measurement: m}})
	}
	for _, c := range s.comparisons {
		out = append(out, record{Compared: &c})
	}
	for _, c := range slices.Backward(s.now.Chats) {
		out = append(out, record{Chat: &c})
	}
	for _, b := range slices.Backward(s.now.Benches) {
		out = append(out, record{Bench: &b})
	}
	if s.now.Unfinished != nil || s.now.Ended != nil {
		out = append(out, record{Search: &searchRecord{s.now.Unfinished, s.now.Ended}})
	}
	draft, err := s.draftRecords()
	return append(out, draft...), err
}

// draftRecords lead from nothing to the draft with its steps, applied and undone.
func (s *state) draftRecords() ([]record, error) {
	d := s.now.Draft
	steps := slices.Clone(d.Steps)
	for _, u := range slices.Backward(d.Undone) {
		steps = append(steps, u)
	}
	base := d.Masks
	if len(steps) > 0 {
		base = steps[0].before
	}
	text, err := base.MarshalText()
	if err != nil {
		return nil, err
	}
	out := []record{{Draft: &draftRecord{Op: opCheckout, Base: d.Base, Masks: string(text)}}}
	for _, step := range steps {
		r, err := stepTo(step.before, step.after)
		if err != nil {
			return nil, err
		}
		r.At, r.By, r.Draft.Summary = step.At, step.Author, step.Summary
		out = append(out, r)
	}
	for range d.Undone {
		out = append(out, record{Draft: &draftRecord{Op: opUndo}})
	}
	return out, nil
}

// sweep removes weight files that no subnet uses any more.
func (e *Exploration) sweep() {
	e.turn.take()
	err := e.sweepUnused(e.Snapshot())
	e.turn.release()
	if err != nil {
		e.notify(Warning, "", "weights that are no longer used could not be removed: "+format.Error(err))
	}
}

func (e *Exploration) sweepUnused(s *Snapshot) error {
	used := make(map[string]bool)
	for _, list := range [][]Subnet{s.Subnets, s.Trash} {
		for _, n := range list {
			used[n.Refit] = true
		}
	}
	return e.weights.Sweep(used)
}

// settled marks replies that were streaming when the process ended as stopped.
func settled(chats []Chat) []Chat {
	chats = slices.Clone(chats)
	for i, c := range chats {
		chats[i].Busy = false
		chats[i].Columns = slices.Clone(c.Columns)
		for j, column := range c.Columns {
			column.Replies = slices.Clone(column.Replies)
			for k := range column.Replies {
				if r := &column.Replies[k]; r.Streaming {
					r.Streaming, r.Stopped = false, true
				}
			}
			column.Loading, column.Place = false, 0
			chats[i].Columns[j] = column
		}
	}
	return chats
}
