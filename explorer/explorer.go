package explorer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lathe-llm/lathe/explorer/internal/jobs"

	"github.com/lathe-llm/lathe/explorer/internal/workspace"

	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Options are the settings of Open.
type Options struct {
	Model string // path of the model file
	// Workspace is the folder that everything is kept in, created if it does not exist. "" keeps everything in memory:
	// nothing outlives the Exploration.
	Workspace string
	Backend   Backend
	ReadOnly  bool             // change nothing on the disk even if nobody else holds the workspace
	Now       func() time.Time // nil is time.Now
	// MeasureDraft, if set, measures the draft automatically, with these settings, a moment after each change.
	MeasureDraft *Measure
	Scratch      string // folder for files that need not last; "" is one in the workspace, or in the system's temporary folder
}

// An Exploration is one model under exploration. Its methods may be called from any goroutine.
type Exploration struct {
	options Options
	model   Model
	store   store
	now     func() time.Time
	jobs    *jobs.Scheduler
	weights workspace.Weights
	scratch string // folder for files that need not last
	// temporary is the scratch folder if it is not the workspace's, otherwise nil.
	temporary *scratch.Folder
	// unreadView: the search that the workspace keeps could not be read; it is renamed before another one is written.
	unreadView atomic.Bool
	talks      *talks
	follower   *follower
	crew       crew

	current atomic.Pointer[Snapshot]

	// turn orders changes of the kept sections: whoever holds it reads them, writes records and publishes what they led to,
	// so that the journal has the order of the published states. It is held while records are forced to the disk.
	// Whoever needs mu as well takes turn first.
	turn   turn
	folded folded // what kept sections need besides the snapshot; guarded by turn
	closed bool   // the store is closed; guarded by turn

	// mu guards what follows and the order of publications. It is never held over I/O or a call of the backend.
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every publication
	closing bool          // Close was called: no new commands
	message uint64        // last message id given out
}

// A turn is a lock whose wait can end with a context.
type turn chan struct{}

func (t turn) take()    { t <- struct{}{} }
func (t turn) release() { <-t }

func (t turn) takeUnless(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// store keeps records. Append returns only after they are on the disk.
type store interface {
	Append([]record) error
	Close() error
}

// memory is the store of an exploration that is not kept.
type memory struct{}

func (memory) Append([]record) error { return nil }
func (memory) Close() error          { return nil }

// Open opens the model and its workspace as it was left. A workspace that another process holds opens read-only, as
// the snapshot's Workspace and a message report. No job is started.
func Open(ctx context.Context, o Options) (*Exploration, error) {
	if o.Backend == nil {
		return nil, fmt.Errorf("explorer: %w: no backend", ErrUnsupported)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	model, err := o.Backend.Open(ctx, o.Model)
	if err != nil {
		return nil, err
	}
	e := &Exploration{options: o, model: model, store: memory{}, now: o.Now, turn: make(turn, 1), changed: make(chan struct{})}
	info := model.Info()
	first := &Snapshot{Revision: 1, Model: info}
	for i := range first.Sections {
		first.Sections[i] = 1
	}
	first.Draft = Draft{Version: 1, Base: DenseID, Masks: subnet.Dense(info.Geometry)}
	st := &state{now: first}
	if err := e.settle(st); err != nil {
		return nil, errors.Join(err, e.store.Close(), model.Close())
	}
	st.derive()
	e.folded = st.folded
	e.current.Store(first)
	e.jobs = jobs.New()
	e.talks = newTalks(e)
	e.follower = &follower{e: e}
	return e, nil
}

// settle opens the workspace, reads it into st, and creates the scratch folder.
func (e *Exploration) settle(st *state) error {
	if e.options.Workspace != "" {
		notes, err := e.restore(st)
		if err != nil {
			return err
		}
		for _, n := range notes {
			e.message++
			n.ID, n.At = e.message, e.now()
			st.now.Messages = append(st.now.Messages, n)
		}
	}
	if err := e.makeScratch(st.now.Workspace); err != nil {
		return fmt.Errorf("scratch folder: %w", err)
	}
	if e.options.Workspace == "" {
		e.weights = workspace.Weights{Path: filepath.Join(e.scratch, workspace.WeightsFolder)}
	}
	return nil
}

// makeScratch creates the folder for files that need not last. In a workspace that this process holds it replaces the one
// that a killed process may have left.
func (e *Exploration) makeScratch(w WorkspaceInfo) (err error) {
	if e.options.Scratch == "" && w.Path != "" && !w.ReadOnly {
		e.scratch = filepath.Join(w.Path, workspace.ScratchFolder)
		return errors.Join(os.RemoveAll(e.scratch), os.Mkdir(e.scratch, 0o755))
	}
	if e.temporary, err = scratch.New(e.options.Scratch, "session"); err == nil {
		e.scratch = e.temporary.Path()
	}
	return err
}

// Close stops every job, waits for them, and closes workspace and model. Closing twice is not an error.
func (e *Exploration) Close() error {
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return nil
	}
	e.closing = true
	e.mu.Unlock()
	e.follower.close()
	e.jobs.Close()
	err := e.talks.close()
	e.turn.take()
	e.closed = true
	e.turn.release()
	err = errors.Join(err, e.store.Close(), e.model.Close())
	if e.temporary != nil {
		return errors.Join(err, e.temporary.Remove())
	}
	return errors.Join(err, os.RemoveAll(e.scratch))
}

// folder returns a folder of the workspace for the backend's files; "" when nothing is kept.
func (e *Exploration) folder(name string) string {
	w := e.Snapshot().Workspace
	if w.Path == "" || w.ReadOnly {
		return ""
	}
	return filepath.Join(w.Path, name)
}

// Scratch returns a folder for files that need not last. Close removes it; what a killed process left in that of a workspace
// is removed when the workspace is opened again.
func (e *Exploration) Scratch() string { return e.scratch }

// Snapshot returns the newest state. It takes no lock.
func (e *Exploration) Snapshot() *Snapshot { return e.current.Load() }

// Changed returns a channel that is closed once there is a snapshot newer than revision. Viewers that draw at their own
// pace poll Snapshot instead.
func (e *Exploration) Changed(revision uint64) <-chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Snapshot().Revision > revision {
		now := make(chan struct{})
		close(now)
		return now
	}
	return e.changed
}

// Wait returns once there is a snapshot newer than revision, or with ctx's error.
func (e *Exploration) Wait(ctx context.Context, revision uint64) error {
	select {
	case <-e.Changed(revision):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Until returns the first snapshot, from now on, for which done holds.
func (e *Exploration) Until(ctx context.Context, done func(*Snapshot) bool) (*Snapshot, error) {
	for {
		s := e.Snapshot()
		if done(s) {
			return s, nil
		}
		if err := e.Wait(ctx, s.Revision); err != nil {
			return s, err
		}
	}
}

// update publishes a snapshot with one section changed by change, which replaces what it changes and writes to nothing
// shared.
func (e *Exploration) update(section Section, change func(*Snapshot)) {
	if section.kept() {
		e.turn.take()
		defer e.turn.release()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	next := *e.Snapshot()
	change(&next)
	e.publish(&next, section)
}

// publish hands a private copy of the newest snapshot to the viewers. The caller holds mu.
func (e *Exploration) publish(next *Snapshot, sections ...Section) {
	next.Revision++
	for _, s := range sections {
		next.Sections[s] = next.Revision
	}
	e.current.Store(next)
	close(e.changed)
	e.changed = make(chan struct{})
}

// record makes records from the present state, puts them on the disk, folds them in and publishes. Nobody else changes a
// kept section meanwhile. ctx ends only the wait for others. In a read-only workspace, where few commands record anything,
// records last as long as the process.
func (e *Exploration) record(ctx context.Context, a Actor, make func(*Snapshot) ([]record, error)) error {
	if err := e.turn.takeUnless(ctx); err != nil {
		return err
	}
	defer e.turn.release()
	if e.closed {
		return ErrClosed
	}
	now := e.Snapshot()
	records, err := make(now)
	if err != nil || len(records) == 0 {
		return err
	}
	next := *now
	st := state{now: &next, folded: e.folded}
	var sections []Section
	for i := range records {
		if records[i].At.IsZero() {
			records[i].At = e.now().UTC()
		}
		if records[i].By == "" {
			records[i].By = a.Name
		}
		section, err := st.fold(records[i])
		if err != nil {
			return err
		}
		sections = append(sections, section)
	}
	if slices.Contains(sections, SectionDraft) {
		st.derive()
	}
	if err := e.store.Append(records); err != nil {
		return fmt.Errorf("workspace: %w", err)
	}
	e.folded = st.folded
	e.mu.Lock()
	defer e.mu.Unlock()
	next.takeLive(e.Snapshot())
	e.publish(&next, sections...)
	return nil
}

// notify adds a message.
func (e *Exploration) notify(level MessageLevel, author, text string) {
	const kept = 100
	e.update(SectionMessages, func(s *Snapshot) {
		e.message++
		m := Message{ID: e.message, At: e.now(), Level: level, Author: author, Text: oneLine(text)}
		s.Messages = append(slices.Clone(s.Messages), m)
		if len(s.Messages) > kept {
			s.Messages = s.Messages[len(s.Messages)-kept:]
		}
	})
}

// Masks returns those of a subnet of the library or the trash, of the dense model or of the draft.
func (s *Snapshot) Masks(id SubnetID) (subnet.Masks, error) {
	switch id {
	case DenseID:
		return subnet.Dense(s.Model.Geometry), nil
	case DraftID:
		return s.Draft.Masks, nil
	}
	n, ok := s.Subnet(id)
	if !ok {
		return subnet.Masks{}, fmt.Errorf("subnet %s: %w", id, ErrNotFound)
	}
	return n.Masks, nil
}

// Subnet finds a subnet of the library or the trash.
func (s *Snapshot) Subnet(id SubnetID) (Subnet, bool) {
	for _, list := range [][]Subnet{s.Subnets, s.Trash} {
		if i := slices.IndexFunc(list, func(n Subnet) bool { return n.ID == id }); i >= 0 {
			return list[i], true
		}
	}
	return Subnet{}, false
}

// Job finds a job.
func (s *Snapshot) Job(id JobID) (Job, bool) {
	if i := slices.IndexFunc(s.Jobs, func(j Job) bool { return j.ID == id }); i >= 0 {
		return s.Jobs[i], true
	}
	return Job{}, false
}

// Chat finds a chat.
func (s *Snapshot) Chat(id ChatID) (Chat, bool) {
	if i := slices.IndexFunc(s.Chats, func(c Chat) bool { return c.ID == id }); i >= 0 {
		return s.Chats[i], true
	}
	return Chat{}, false
}

// Bench finds a benchmark.
func (s *Snapshot) Bench(id BenchID) (Bench, bool) {
	if i := slices.IndexFunc(s.Benches, func(b Bench) bool { return b.ID == id }); i >= 0 {
		return s.Benches[i], true
	}
	return Bench{}, false
}
