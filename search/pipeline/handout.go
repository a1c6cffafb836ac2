package pipeline

import "context"

// handOut has candidates scored elsewhere.
func (r *run) handOut(ctx context.Context, model string) error {
	r.progress(searching, 0, 0, "candidates", "starting workers")
	var err error
	r.handed, err = r.HandOut(ctx, Scoring{Model: model, Levels: r.store, Windows: r.tuning, Local: r.eval, Dense: r.denseCandidate()})
	return err
}

// takeBack ends the work for others.
func (r *run) takeBack() {
	if r.handed == nil {
		return
	}
	if err := r.handed.Close(); err != nil {
		r.Monitor.Note("search: ending the work of others: " + err.Error())
	}
	r.handed = nil
}

// handedRevision returns the revision of those who score, 0 if there are none.
func (r *run) handedRevision() uint64 {
	if r.handed == nil {
		return 0
	}
	return r.handed.Revision()
}
