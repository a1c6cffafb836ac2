package pipeline

import "context"

// handOut has candidates scored elsewhere, and modules measured.
func (r *run) handOut(ctx context.Context) error {
	r.progress(measuringSensitivity, 0, 0, "modules", "starting workers")
	model, err := r.identify(ctx)
	if err != nil {
		return err
	}
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

// identify returns what identifies the model.
func (r *run) identify(ctx context.Context) (string, error) {
	if r.identity != "" {
		return r.identity, nil
	}
	var err error
	r.identity, err = r.Identity(ctx)
	return r.identity, err
}
