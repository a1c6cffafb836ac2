package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/remote"
	"github.com/lathe-llm/lathe/search/score"
)

// The kinds of pieces of work, see [remote.Piece].
const (
	pieceLevels      = "levels"
	pieceSensitivity = "sensitivity"
	pieceStatistics  = "statistics"
	piecePerplexity  = "perplexity"
	pieceZeroShot    = "zeroshot"
)

// levelsAhead is how many ladders may be under way for each worker of this machine, and levelsElsewhere for workers elsewhere, whose number
// changes.
const (
	levelsAhead     = 2
	levelsElsewhere = 16
)

// madeLadder is what a worker reports of a ladder.
type madeLadder struct{ Seconds float64 }

// fitter has the ladders of a search made by its workers.
type fitter struct {
	ctx    context.Context // of the making of levels; a fitter does not outlive it
	h      *handed
	pieces *remote.Pieces
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // set before ended is closed

	mu      sync.Mutex
	moments map[int]remote.File // by slot
}

// fitLevels begins to have levels made by workers.
func (s *searchHands) fitLevels(ctx context.Context, d levels.Deliveries) (levels.Fitter, error) {
	err := s.to(ctx, "levels", func(f *scratch.Folder) (errand, error) {
		work, err := s.m.checked(ctx, d.Text(), f)
		work.spec.Algebra = s.m.Info().Algebra
		return work, err
	})
	if err != nil {
		return nil, err
	}
	return newFitter(ctx, s.handed, d), nil
}

// newFitter begins to hand out the levels that it is given.
func newFitter(ctx context.Context, h *handed, d levels.Deliveries) *fitter {
	running, cancel := context.WithCancel(ctx)
	f := &fitter{ctx: ctx, h: h, cancel: cancel, ended: make(chan struct{}), moments: map[int]remote.File{}}
	f.pieces = h.NewPieces(func(_ context.Context, slot int, p remote.Product) error {
		var made madeLadder
		if err := json.Unmarshal(p.Value, &made); err != nil || len(p.Files) != 1 {
			return fmt.Errorf("%w of %s: %d files, %s", remote.ErrProduct, p.Worker, len(p.Files), p.Value)
		}
		err := d.Made(slot, p.Files[0], made.Seconds)
		if errors.Is(err, levels.ErrDamaged) {
			return fmt.Errorf("%w of %s: %w", remote.ErrProduct, p.Worker, err)
		}
		f.drop(slot)
		return err
	}, func(_ context.Context, slot int, _ string) error { // it is made here in the end
		f.drop(slot)
		return nil
	})
	go func() {
		defer close(f.ended)
		if f.err = f.pieces.Run(running); f.err != nil && running.Err() == nil {
			d.Failed(f.err)
		}
	}()
	return f
}

// checked describes work with the model that is done by workers who compute the dense model's loss on the beginning of a text as it is here.
func (m *model) checked(ctx context.Context, windows [][]int32, folder *scratch.Folder) (errand, error) {
	dm, err := m.weights(ctx)
	if err != nil {
		return errand{}, err
	}
	local, err := score.New(dm, nil, windows, score.Perplexity)
	if err != nil {
		return errand{}, err
	}
	defer local.Close()
	return m.work(ctx, windows, local, search.Candidate{Masks: subnet.Dense(m.geometry())}, folder.Join("text"))
}

// Ahead implements [levels.Fitter].
func (f *fitter) Ahead() int {
	if f.h.machine.NATS != "" {
		return levelsElsewhere
	}
	return levelsAhead * f.h.machine.Workers
}

// Fit implements [levels.Fitter].
func (f *fitter) Fit(fit levels.Fit, moments string, limit int64) error {
	file, err := remote.HashFile(f.ctx, moments)
	if err != nil {
		return err
	}
	if err := f.h.offer(errand{offers: map[string]remote.File{moments: file}}); err != nil {
		return err
	}
	f.mu.Lock()
	f.moments[fit.Slot] = file
	f.mu.Unlock()
	settings, err := json.Marshal(fit)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("levels of layer %d %v", fit.Slot/subnet.Modules, subnet.Module(fit.Slot%subnet.Modules))
	return f.pieces.Add(fit.Slot, name, remote.Piece{Kind: pieceLevels, Settings: settings, Files: []remote.File{file}, Spent: 1, Limit: limit})
}

// Withdraw implements [levels.Fitter].
func (f *fitter) Withdraw(slot int) {
	f.pieces.Withdraw(slot)
	f.drop(slot)
}

// drop takes the moments of a slot back.
func (f *fitter) drop(slot int) {
	f.mu.Lock()
	file, there := f.moments[slot]
	delete(f.moments, slot)
	f.mu.Unlock()
	if there {
		_ = f.h.Retract(f.ctx, file) // the rest goes with the folder
	}
}

// Close implements [levels.Fitter].
func (f *fitter) Close() error {
	f.pieces.End()
	f.cancel()
	<-f.ended
	f.mu.Lock()
	var left []int
	for slot := range f.moments {
		left = append(left, slot)
	}
	f.mu.Unlock()
	for _, slot := range left {
		f.drop(slot)
	}
	if errors.Is(f.err, context.Canceled) {
		return nil
	}
	return f.err
}

// probed is what is measured of a module.
type probed struct{ Slot, Texts int }

// Probe implements [pipeline.Handed].
func (s *searchHands) Probe(ctx context.Context, slots []int, texts int, measured func(slot int, fitness float64) error) error {
	pieces := s.NewPieces(func(_ context.Context, slot int, p remote.Product) error {
		var fitness float64
		if err := json.Unmarshal(p.Value, &fitness); err != nil {
			return fmt.Errorf("%w of %s: %w", remote.ErrProduct, p.Worker, err)
		}
		return measured(slot, fitness)
	}, func(context.Context, int, string) error { return nil }) // it is measured here in the end
	for _, slot := range slots {
		settings, err := json.Marshal(probed{slot, texts})
		if err != nil {
			return err
		}
		name := fmt.Sprintf("sensitivity of layer %d %v", slot/subnet.Modules, subnet.Module(slot%subnet.Modules))
		if err := pieces.Add(slot, name, remote.Piece{Kind: pieceSensitivity, Settings: settings}); err != nil {
			return err
		}
	}
	pieces.End()
	return pieces.Run(ctx)
}
