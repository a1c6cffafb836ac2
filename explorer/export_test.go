package explorer

import "github.com/lathe-llm/lathe/infer/durable"

// SetWeightsDisk replaces the disk that weights are written to. No job may be running.
func (e *Exploration) SetWeightsDisk(d durable.Disk) { e.weights.Disk = d }

// HoldAppends has append called before records are written to the disk.
func (e *Exploration) HoldAppends(append func()) {
	e.turn.take()
	defer e.turn.release()
	e.store = heldStore{e.store, append}
}

// FailAppends has appends fail with the error of fail, unless it is nil.
func (e *Exploration) FailAppends(fail func() error) {
	e.turn.take()
	defer e.turn.release()
	e.store = failingStore{e.store, fail}
}

type failingStore struct {
	store
	fail func() error
}

func (s failingStore) Append(r []record) error {
	if err := s.fail(); err != nil {
		return err
	}
	return s.store.Append(r)
}

type heldStore struct {
	store
	hold func()
}

func (s heldStore) Append(r []record) error {
	s.hold()
	return s.store.Append(r)
}
