package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/pipeline"
	"github.com/lathe-llm/lathe/search/score"
)

// Search implements [explorer.Searcher] by [pipeline.Run].
func (m *model) Search(ctx context.Context, r explorer.StartSearch, dir string, o explorer.Orders, mon explorer.Monitor) (explorer.Made, error) {
	in := room{calibration: r.Calibration}
	if dir == "" {
		in.once = "the search has no folder to continue from"
	}
	return withRoom(ctx, m, in, mon, func(again bool) (explorer.Made, error) {
		r.Resume = r.Resume || again && dir != ""
		return m.searchOnce(ctx, r, dir, o, mon)
	})
}

func (m *model) searchOnce(ctx context.Context, r explorer.StartSearch, dir string, o explorer.Orders, mon explorer.Monitor) (explorer.Made, error) {
	var text passage
	space := cmp.Or(r.LevelsSpace, defaultLevelsSpace(dir, m.engine.options.Scratch))
	v := viewer{m: m, sizes: make(map[int]size), levels: space}
	var handOut func(context.Context, pipeline.Scoring) (pipeline.Handed, error)
	var handOutLevels func(context.Context, levels.Deliveries) (levels.Fitter, error)
	if r.Machines.On() {
		v.handed = &searchHands{m: m, r: r.Machines, dir: dir, mon: mon}
		handOut, handOutLevels = v.handed.score, v.handed.fitLevels
		defer func() {
			if err := v.handed.Close(); err != nil { // after an error before the search; else it is closed already
				mon.Note("search: ending the work of others: " + err.Error())
			}
		}()
	}
	types, err := m.typedSearch(r, dir, mon, &text)
	if err != nil {
		return explorer.Made{}, err
	}
	var searched *pipeline.Types
	if types != nil {
		searched = types.types
	}
	found, err := pipeline.Run(ctx, pipeline.Config{
		Request: pipeline.Request{
			Strategy: r.Strategy, Target: r.Target, Fitness: score.Fitness(r.Fitness), Seed: r.Seed, Set: r.Set, UpSteps: r.Up, Resume: r.Resume, Retarget: r.Retarget,
			Windows: r.Calibration.Windows, Granularity: r.Granularity, LevelsSpace: space,
			Change: func(own reform.Recipe) (reform.Recipe, error) {
				o := r.Reform
				if r.Up != nil {
					o.Up = r.Up
				}
				return changed(own, o)
			},
			Budget: search.Budget{
				Time: time.Duration(r.Budget.Seconds * float64(time.Second)), Evaluations: r.Budget.Evaluations, Tokens: r.Budget.Tokens,
			},
		},
		Source: pipeline.Source{
			Prices:   func(ctx context.Context, t search.Target) (search.Prices, error) { return m.Prices(ctx, t, dir, mon) },
			Geometry: m.geometry(), Identity: m.SHA256, Model: m.weights, Levels: m.keepLevels, Predict: m.predictor(),
			HandOut: handOut, HandOutLevels: handOutLevels, Types: searched,
			Text: func(ctx context.Context, windows int, atMost bool) (pipeline.Text, error) {
				c := r.Calibration
				if c.Seed == 0 {
					c.Seed = r.Seed
				}
				var err error
				text, err = m.calibration(ctx, c, windows, atMost, mon)
				return pipeline.Text{Windows: text.windows, ID: text.id()}, err
			},
		},
		Monitor: mon, Dir: dir, Scratch: m.engine.options.Scratch,
		Show: func(s pipeline.View) { o.Publish(v.view(s)) },
		Command: func(ctx context.Context, j pipeline.Running, hold func(context.Context) (func(), error)) {
			m.obey(ctx, j, o, dir, hold, v.handed, mon)
		},
		Phase: func(p pipeline.Phase) {
			mon.Phase(explorer.Phase{Number: p.Number, Of: p.Of, Name: p.Name, Left: p.Left, After: p.After})
		},
		Prepared: func(p pipeline.Prepared) {
			o.Prepare(p.Slot, explorer.Prepared{Levels: p.Levels, Lost: p.Lost, Rise: p.Rise, Measured: p.Measured})
		},
		Refitting: func(e oneshot.Event) { report(mon, e) },
	})
	if refused := (*pipeline.RequestError)(nil); errors.As(err, &refused) {
		err = fmt.Errorf("%w: %w", explorer.ErrInvalid, err)
	}
	if found.Subnet.Masks.Layers() == 0 {
		return explorer.Made{}, translate(err)
	}
	return m.searched(ctx, r, found, text, types, translate(err), mon)
}

// searched describes and measures what a search has ended with, types nil where widths alone were searched. failed is why it has ended early.
func (m *model) searched(ctx context.Context, r explorer.StartSearch, found pipeline.Result, text passage, types *typedSearch, failed error, mon explorer.Monitor) (explorer.Made, error) {
	made := explorer.Made{Subnet: found.Subnet, Method: explorer.Method{
		Preset: found.Strategy, Seed: r.Seed, Seq: found.Seq,
	}.AimedAt(found.Target)}
	m.recordCompute(&made.Method)
	text.describe(&made.Method, found.Windows)
	if failed != nil || found.Report == nil {
		return made, failed
	}
	recordRefit(&made.Method, found.Subnet, *found.Recipe, m.geometry())
	made.Method.Granularity, made.Method.Seconds = r.Granularity, found.Report.Seconds
	if types == nil {
		return made, m.judge(ctx, text, &made, mon)
	}
	if err := types.describe(ctx, found, &made); err != nil {
		return made, err
	}
	if err := m.judge(ctx, text, &made, mon); err != nil {
		return made, err
	}
	return made, types.rival(ctx, found, &made)
}

// defaultLevelsSpace is half of the disk that is free or taken by the levels of an earlier search, 0 where that is unknown. Levels
// are in the folder of the search or, if that is "", in a temporary one.
func defaultLevelsSpace(dir, scratch string) int64 {
	disk, taken := cmp.Or(scratch, os.TempDir()), int64(0)
	if dir != "" {
		files, _ := filepath.Glob(filepath.Join(dir, pipeline.LevelsFolder, "*.levels"))
		for _, path := range files {
			if info, err := os.Stat(path); err == nil {
				taken += info.Size()
			}
		}
		for disk = dir; ; disk = filepath.Dir(disk) { // the folder may not be there yet
			if _, err := os.Stat(disk); err == nil || disk == filepath.Dir(disk) {
				break
			}
		}
	}
	free, ok := freeBytes(disk)
	if !ok {
		return 0
	}
	return max(1, (free+taken)/2)
}

// keepLevels keeps levels open for Assemble, and closes those of an earlier search.
func (m *model) keepLevels(s *levels.Store) error {
	m.mu.Lock()
	old := m.levels
	m.levels = s
	m.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

// obey carries out what the search was ordered. Where a new target needs times, the search is held while they are measured.
func (m *model) obey(ctx context.Context, job pipeline.Running, o explorer.Orders, dir string, hold func(context.Context) (func(), error), workers *searchHands, mon explorer.Monitor) {
	for order, ok := o.Next(); ok; order, ok = o.Next() {
		var err error
		switch order := order.(type) {
		case explorer.Retarget:
			err = m.timesFor(ctx, order.Target, dir, hold, mon)
			if err == nil {
				err = job.Retarget(order.Target)
			}
		case explorer.Injection:
			err = job.Inject(order.Subnet, order.Name)
		case explorer.DrainWorker:
			if workers != nil && workers.handed != nil {
				err = workers.Drain(order.Worker)
			}
		}
		if err != nil {
			mon.Note(format.Error(err))
		}
	}
}

// timesFor measures what a target needs while the search is held.
func (m *model) timesFor(ctx context.Context, t search.Target, dir string, hold func(context.Context) (func(), error), mon explorer.Monitor) error {
	if !t.Timed() || m.prices.timed(t.Type) != nil {
		return nil
	}
	release, err := hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	_, err = m.Prices(ctx, t, dir, ungated{mon})
	return err
}

// ungated is a monitor that does not wait at gates: the search waits there already.
type ungated struct{ explorer.Monitor }

// Gate returns ctx's error.
func (ungated) Gate(ctx context.Context) error { return ctx.Err() }

// Assemble implements [explorer.Searcher].
func (m *model) Assemble(_ context.Context, c explorer.Candidate, dir string) (gguf.Subnet, error) {
	m.mu.Lock()
	if m.levels == nil && dir != "" { // the search was in an earlier process
		if s, err := levels.Open(filepath.Join(dir, pipeline.LevelsFolder), m.geometry()); err == nil {
			m.levels = s
		} else if !errors.Is(err, fs.ErrNotExist) {
			m.mu.Unlock()
			return gguf.Subnet{}, err
		}
	}
	store := m.levels
	m.mu.Unlock()
	if store == nil {
		return gguf.Subnet{Masks: c.Masks}, nil
	}
	if c.Base != nil {
		if c.Choice != nil {
			return store.Subnet(c.Choice, c.Base)
		}
		refit, err := store.Refit(nil, c.Base)
		return gguf.Subnet{Masks: c.Masks, Refit: refit}, err
	}
	if l := store.Levels(); l.Typed() {
		if len(c.Choice) != l.Slots() {
			return gguf.Subnet{Masks: c.Masks}, nil // of another search
		}
		return store.Subnet(c.Choice, nil)
	}
	choice := store.Levels().Nearest(c.Masks)
	sub, err := store.Subnet(choice, nil)
	if err != nil || !sub.Masks.Equal(c.Masks) {
		return gguf.Subnet{Masks: c.Masks}, nil // masks alone, or of other levels
	}
	return sub, nil
}

// viewer shows the states of one search as the explorer has them.
type viewer struct {
	m      *model
	sizes  map[int]size // by candidate
	levels int64        // bytes of disk that levels may take, 0 for no bound
	handed *searchHands // nil where candidates are scored here
}

// size is what is computed once for a candidate, see [explorer.Candidate].
type size struct {
	bytes  int64
	zeroed float64
}

func (v *viewer) view(s pipeline.View) explorer.Search {
	out := explorer.Search{
		Strategy: s.Strategy, Target: s.Target, Seed: s.Seed, Fitness: string(s.Fitness), Generation: s.State.Generation,
		Evaluated: s.Spent.Evaluations, Dropped: s.Spent.Dropped, Tokens: s.Spent.Tokens, PerMinute: s.CandidatesPerMinute,
		DensePerplexity: s.DensePerplexity, Elapsed: s.Elapsed, Left: max(s.Left, 0), PrefixReuse: s.Reused,
		LevelsBytes: s.LevelsBytes, LevelsSpace: v.levels, Cloud: s.State.Points, History: s.State.History, Events: s.State.Events,
	}
	tiers := 1
	if l := s.State.Ladder; l != nil {
		tiers = len(l.Tiers)
		for _, a := range l.Agreement {
			out.TierHits += a / float64(len(l.Agreement))
		}
	}
	population := s.State.Population
	if len(s.Scoring) > 0 {
		population = s.Scoring
	}
	show := func(in search.Individual) explorer.Candidate {
		c := v.candidate(in, tiers)
		if s.BytesPerToken > 0 {
			c.BitsPerByte = in.Score.NLL / math.Ln2 / s.BytesPerToken
		}
		return c
	}
	for _, in := range population {
		out.Population = append(out.Population, show(in))
	}
	for _, in := range s.State.Front {
		out.Front = append(out.Front, show(in))
	}
	if best, ok := s.Best(); ok {
		c := show(best)
		out.Best = &c
	}
	for _, p := range s.Plain {
		plain := explorer.PlainType{Type: p.Type, Bytes: p.Bytes}
		if s.BytesPerToken > 0 {
			plain.BitsPerByte = p.NLL / math.Ln2 / s.BytesPerToken
		}
		out.Plain = append(out.Plain, plain)
	}
	v.handed.show(&out)
	return out
}

func (v *viewer) candidate(in search.Individual, tiers int) explorer.Candidate {
	info := v.m.Info()
	s, ok := v.sizes[in.ID]
	if !ok {
		costs := in.Masks.Size()
		s = size{cmp.Or(in.Bytes, info.FileSize(in.Masks, "").File), float64(costs.ZeroedParams) / float64(max(costs.DenseBlockParams, 1))}
		v.sizes[in.ID] = s
	}
	dropped := in.Masks.Geometry().BlockParams() - in.Masks.BlockParams()
	return explorer.Candidate{Individual: in, ShareAll: 1 - float64(dropped)/float64(max(info.Params, 1)), Bytes: s.bytes, Zeroed: s.zeroed, Tiers: tiers}
}
