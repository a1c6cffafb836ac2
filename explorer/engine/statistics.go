package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot"
)

// Gather implements [explorer.Statistician].
func (m *model) Gather(ctx context.Context, g explorer.GatherStatistics, dir string, mon explorer.Monitor) (explorer.Statistics, error) {
	return withRoom(ctx, m, room{calibration: g.Calibration}, mon, func(bool) (explorer.Statistics, error) { return m.gatherOnce(ctx, g, dir, mon) })
}

func (m *model) gatherOnce(ctx context.Context, g explorer.GatherStatistics, dir string, mon explorer.Monitor) (explorer.Statistics, error) {
	c := g.Calibration
	phase := &stages{mon: mon, names: []string{textPhase, statisticsPhase}}
	phase.begin(textPhase)
	mon.Progress(0, 0, "layers", "reading the text")
	src, err := m.sources(ctx, c, mon)
	if err != nil {
		return explorer.Statistics{}, err
	}
	defer src.close()
	want := statisticsOf{
		Model: m.Info().Fingerprint, Text: src.ref, Windows: orDefault(c.Windows, defaultWindows), Seq: orDefault(c.Seq, defaultSeq), Draw: src.drawName(),
	}
	if adds, err := m.addsStart(ctx); err != nil {
		return explorer.Statistics{}, err
	} else if adds {
		want.Starts = explorer.BOSEvery
	}
	kept := statisticsFolder{dir: dir, of: want, geometry: m.geometry()}
	if s, at, err := kept.read(); err == nil {
		return m.adopt(s, src.ref, at), nil
	} else if !errors.Is(err, os.ErrNotExist) {
		mon.Note(fmt.Sprintf("statistics are gathered again: %v", err))
	}
	mon.Progress(0, 0, "layers", "tokenising")
	p, err := src.windows(ctx, c.Windows, false)
	if err == nil {
		err = mon.Gate(ctx) // nobody waits for these preparations
	}
	if err != nil {
		return explorer.Statistics{}, err
	}
	phase.begin(statisticsPhase)
	mon.Progress(0, 0, "layers", "loading the model")
	dm, err := m.weights(ctx)
	if err == nil {
		err = mon.Gate(ctx)
	}
	if err != nil {
		return explorer.Statistics{}, err
	}
	// That they cannot be kept is no reason not to have them, but on a full disk the job waits for room.
	unkept := false
	keep := func(write func() error) error {
		err := mon.Persist(ctx, write)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if !unkept {
			unkept = true
			mon.Note(fmt.Sprintf("statistics could not be stored: %v", err))
		}
		return nil
	}
	var s *oneshot.Statistics
	gathering := oneshot.Gathering{
		Kept: kept.readLayer,
		Keep: func(layer int, s *oneshot.LayerStatistics) error {
			return keep(func() error { return kept.writeLayer(layer, s) })
		},
		Progress: func(e oneshot.Event) {
			mon.Progress(float64(e.Done), float64(e.Total), "layers", "statistics")
			_ = mon.Gate(ctx) // the gathering finds that ctx has ended
		},
		Gate: mon.Gate,
	}
	if g.Machines.On() {
		gathering.Others = func(ctx context.Context, layers []int, keep func(int, *oneshot.LayerStatistics) error) error {
			return m.gatherElsewhere(ctx, g.Machines, p.windows, layers, keep, mon)
		}
	}
	err = mon.Persist(ctx, func() (err error) { // its temporary files are as large as the text's states
		s, err = oneshot.NewStatistics(ctx, dm, p.windows, gathering)
		return err
	})
	if err != nil {
		return explorer.Statistics{}, translate(err)
	}
	now := time.Now().UTC()
	if err := keep(func() error { return kept.write(s, now) }); err != nil {
		return explorer.Statistics{}, err
	}
	return m.adopt(s, p.ref, now), nil
}

// adopt makes statistics those that Predict uses, and returns what the explorer shows of them.
func (m *model) adopt(s *oneshot.Statistics, ref explorer.TextRef, at time.Time) explorer.Statistics {
	m.statistics.Store(s)
	out := explorer.Statistics{Ready: true, Text: ref, Tokens: s.Tokens, Layers: len(s.Layers), Gathered: at, DenseNLL: s.DenseNLL}
	dense := subnet.Dense(m.geometry())
	for i := range s.Layers {
		l := &s.Layers[i]
		without := func(change func(*subnet.Layer)) float64 {
			cut := dense.Layer(i)
			change(&cut)
			return s.PredictLayer(dense.With(i, cut), i)
		}
		out.Importance = append(out.Importance, draft.Importance{Channels: ranked(l.Channels), Heads: ranked(l.Heads)})
		out.Sensitivity = append(out.Sensitivity, explorer.Sensitivity{
			Attention: without(func(c *subnet.Layer) { c.Heads = subnet.Empty(c.Heads.N()) }),
			MLP:       without(func(c *subnet.Layer) { c.Channels = subnet.Empty(c.Channels.N()) }),
		})
	}
	return out
}

// ranked returns the scores of units, changed as little as makes them rise along the order in which units are best dropped.
func ranked(u oneshot.UnitStatistics) []float64 {
	scores := make([]float64, len(u.Cost))
	last := math.Inf(-1)
	for _, unit := range u.Order {
		last = max(u.Cost[unit], math.Nextafter(last, math.Inf(1)))
		scores[unit] = last
	}
	return scores
}

// predictor predicts losses from the statistics gathered last, nil before.
func (m *model) predictor() func(subnet.Masks) float64 {
	if s := m.statistics.Load(); s != nil {
		return s.Predict
	}
	return nil
}

// Predict implements [explorer.Statistician].
func (m *model) Predict(s explorer.Statistics, masks subnet.Masks) (float64, bool) {
	statistics := m.statistics.Load()
	if !s.Ready || statistics == nil {
		return 0, false
	}
	return statistics.Predict(masks), true
}

// Bound implements [explorer.Statistician].
func (m *model) Bound(s explorer.Statistics, masks subnet.Masks) (low, high float64, ok bool) {
	statistics := m.statistics.Load()
	if !s.Ready || statistics == nil {
		return 0, 0, false
	}
	return statistics.Bound(masks)
}
