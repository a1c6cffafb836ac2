package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/remote"
)

// errPiece is wrapped when a piece of work cannot be one for this search.
var errPiece = errors.New("piece of work")

// Do implements [remote.Scorer].
func (s *scorer) Do(ctx context.Context, p remote.Piece, files []string, dir string) (remote.Product, error) {
	kinds := map[string]func(context.Context, json.RawMessage, []string, string) (remote.Product, error){
		pieceLevels: s.levels, pieceSensitivity: s.sensitivity, pieceStatistics: s.statistics, piecePerplexity: s.perplexity, pieceZeroShot: s.zeroShot,
	}
	do := kinds[p.Kind]
	if do == nil {
		return remote.Product{}, fmt.Errorf("%w: its kind is %.40q", errPiece, p.Kind)
	}
	return do(ctx, p.Settings, files, dir)
}

// read reads the settings of a piece that has so many files.
func read(settings json.RawMessage, to any, files []string, want int) error {
	if len(files) != want {
		return fmt.Errorf("%w: %d files, not %d", errPiece, len(files), want)
	}
	if err := json.Unmarshal(settings, to); err != nil {
		return fmt.Errorf("%w: %w", errPiece, err)
	}
	return nil
}

// maxInput bounds what is read of a file of a piece at once.
const maxInput = 1 << 30

// readLimited reads a file of a piece.
func readLimited(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxInput {
		err = fmt.Errorf("%w: a file of %d bytes", errPiece, info.Size())
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// value is a product without files.
func value(v any) (remote.Product, error) {
	data, err := json.Marshal(v)
	return remote.Product{Value: data}, err
}

// levels makes a ladder.
func (s *scorer) levels(ctx context.Context, settings json.RawMessage, files []string, dir string) (remote.Product, error) {
	var f levels.Fit
	if err := read(settings, &f, files, 1); err != nil {
		return remote.Product{}, err
	}
	dm, err := s.decoder(ctx)
	if err != nil {
		return remote.Product{}, err
	}
	began, path := time.Now(), filepath.Join(dir, "ladder")
	if err := levels.Make(ctx, dm, f, files[0], path); err != nil {
		return remote.Product{}, err
	}
	p, err := value(madeLadder{time.Since(began).Seconds()})
	p.Files = []string{path}
	return p, err
}

// sensitivity measures a module.
func (s *scorer) sensitivity(ctx context.Context, settings json.RawMessage, files []string, _ string) (remote.Product, error) {
	var of probed
	if err := read(settings, &of, files, 0); err != nil {
		return remote.Product{}, err
	}
	if s.Evaluator == nil || s.store == nil {
		return remote.Product{}, fmt.Errorf("%w: there are no levels", errPiece)
	}
	fitness, err := s.ProbeModule(ctx, of.Slot, of.Texts)
	if err != nil {
		return remote.Product{}, err
	}
	return value(fitness)
}

// gathered names a layer whose statistics are gathered.
type gathered struct{ Layer int }

// statistics gathers the statistics of a layer.
func (s *scorer) statistics(ctx context.Context, settings json.RawMessage, files []string, dir string) (remote.Product, error) {
	var of gathered
	if err := read(settings, &of, files, 0); err != nil {
		return remote.Product{}, err
	}
	if s.layers == nil {
		if s.windows == nil {
			return remote.Product{}, fmt.Errorf("%w: there is no text", errPiece)
		}
		dm, err := s.decoder(ctx)
		if err != nil {
			return remote.Product{}, err
		}
		if s.layers, err = oneshot.NewLayerGatherer(dm, s.windows); err != nil {
			return remote.Product{}, err
		}
	}
	got, err := s.layers.Layer(ctx, of.Layer)
	if err != nil {
		return remote.Product{}, err
	}
	data, err := json.Marshal(got)
	if err != nil {
		return remote.Product{}, err
	}
	path := filepath.Join(dir, "layer")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return remote.Product{}, err
	}
	p, err := value(of)
	p.Files = []string{path}
	return p, err
}

// perplexity measures a subnet.
func (s *scorer) perplexity(ctx context.Context, settings json.RawMessage, files []string, _ string) (remote.Product, error) {
	var ask scoreSettings
	want := 2
	if err := json.Unmarshal(settings, &ask); err == nil && ask.Reference {
		want++
	}
	if err := read(settings, &ask, files, want); err != nil {
		return remote.Product{}, err
	}
	p, err := readPassage(files[0], s.file)
	if err != nil {
		return remote.Product{}, err
	}
	m, err := s.opened(ctx)
	if err != nil {
		return remote.Product{}, err
	}
	sub, err := loadSubnet(ctx, files[1], m.geometry())
	if err != nil {
		return remote.Product{}, err
	}
	r := explorer.ScoreRequest{Engine: ask.Engine, Type: ask.Type}
	if ask.Dense {
		r.Against = explorer.AgainstDense
	}
	if ask.Reference {
		r.Against = files[2]
	}
	began := time.Now()
	got, err := m.scorePassage(ctx, sub, r, p, s.monitor())
	if err != nil {
		return remote.Product{}, err
	}
	got.Seconds = time.Since(began).Seconds()
	return value(got)
}

// zeroShot evaluates a file on a task.
func (s *scorer) zeroShot(ctx context.Context, settings json.RawMessage, files []string, _ string) (remote.Product, error) {
	var o zeroShotSettings
	if err := read(settings, &o, files, 2); err != nil {
		return remote.Product{}, err
	}
	data, err := readLimited(files[0])
	if err != nil {
		return remote.Product{}, err
	}
	var t quality.Task
	if err := json.Unmarshal(data, &t); err != nil {
		return remote.Product{}, fmt.Errorf("%w: its questions: %w", errPiece, err)
	}
	if err := t.Check(); err != nil {
		return remote.Product{}, fmt.Errorf("%w: %w", errPiece, err)
	}
	r, err := s.engine.evaluateTask(ctx, files[1], t, quality.EvalOptions{Limit: o.Limit, BOS: o.BOS}, s.log)
	if err != nil {
		return remote.Product{}, err
	}
	return value(r)
}

// evaluateTask loads a file and evaluates it on a task.
func (e *Engine) evaluateTask(ctx context.Context, path string, t quality.Task, o quality.EvalOptions, note func(string)) (r quality.EvalResult, err error) {
	loaded, err := e.run(ctx, e.runner, infer.Defaults(path), nil)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, loaded.Close()) }()
	r, err = quality.Evaluate(ctx, loaded, t, o)
	if fallback := loaded.Info().Fallback; fallback != "" {
		note("without the GPU: " + fallback)
	}
	return r, err
}

// unseen is the monitor of work that nobody watches or pauses.
type unseen struct{ note func(string) }

func (unseen) Progress(_, _ float64, _, _ string)                  {}
func (unseen) Phase(explorer.Phase)                                {}
func (unseen) Layer(explorer.LayerProgress)                        {}
func (u unseen) Note(text string)                                  { u.note(text) }
func (unseen) Gate(ctx context.Context) error                      { return ctx.Err() }
func (unseen) Workers(explorer.Crew)                               {}
func (unseen) Persist(_ context.Context, write func() error) error { return write() }
