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

type heldStore struct {
	store
	hold func()
}

func (s heldStore) Append(r []record) error {
	s.hold()
	return s.store.Append(r)
}
