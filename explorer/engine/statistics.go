package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/draft"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/oneshot"
)

// statisticsFile is the file, in the folder given to Gather, that statistics are kept in.
const statisticsFile = "statistics.json"

// maxStatistics bounds such a file, in bytes: about 100 for each unit of a model of the largest kind in use.
const maxStatistics = 1 << 30

// keptStatistics are statistics with what they were gathered from.
type keptStatistics struct {
	Model    string           `json:"model"` // fingerprint
	Text     explorer.TextRef `json:"text"`
	Windows  int              `json:"windows"`
	Seq      int              `json:"seq"`
	Starts   string           `json:"starts,omitempty"` // explorer.BOSEvery where each window begins with a start token
	Draw     string           `json:"draw,omitempty"`   // how the windows were drawn, "" for those from the start of the text
	Gathered time.Time        `json:"gathered"`
	// Statistics are as package oneshot writes them.
	Statistics json.RawMessage `json:"statistics"`
}

// Gather implements [explorer.Statistician].
func (m *model) Gather(ctx context.Context, c explorer.Calibration, dir string, mon explorer.Monitor) (explorer.Statistics, error) {
	src, err := m.sources(ctx, c, mon)
	if err != nil {
		return explorer.Statistics{}, err
	}
	defer src.close()
	want := keptStatistics{
		Model: m.Info().Fingerprint, Text: src.ref, Windows: orDefault(c.Windows, defaultWindows), Seq: orDefault(c.Seq, defaultSeq), Draw: src.drawName(),
	}
	if adds, err := m.addsStart(ctx); err != nil {
		return explorer.Statistics{}, err
	} else if adds {
		want.Starts = explorer.BOSEvery
	}
	if s, at, err := m.recall(dir, want); err == nil {
		return m.adopt(s, src.ref, at), nil
	} else if !errors.Is(err, os.ErrNotExist) {
		mon.Note(fmt.Sprintf("statistics are gathered again: %v", err))
	}
	mon.Progress(0, 0, "layers", "tokenising")
	p, err := src.windows(ctx, c.Windows, false)
	if err != nil {
		return explorer.Statistics{}, err
	}
	mon.Progress(0, 0, "layers", "loading the model")
	dm, err := m.weights(ctx)
	if err != nil {
		return explorer.Statistics{}, err
	}
	s, err := oneshot.NewStatistics(ctx, dm, p.windows, func(e oneshot.Event) { reportAndGate(ctx, mon, e) })
	if err != nil {
		return explorer.Statistics{}, translate(err)
	}
	want.Gathered = time.Now().UTC()
	if err := keep(dir, want, s); err != nil {
		mon.Note(fmt.Sprintf("statistics could not be stored: %v", err))
	}
	return m.adopt(s, p.ref, want.Gathered), nil
}

// errOther is returned for stored statistics of another text.
var errOther = fmt.Errorf("the stored statistics are of another text: %w", os.ErrNotExist)

// recall reads stored statistics. Its error wraps os.ErrNotExist when there are none of this text.
func (m *model) recall(dir string, want keptStatistics) (*oneshot.Statistics, time.Time, error) {
	if dir == "" {
		return nil, time.Time{}, os.ErrNotExist
	}
	f, err := os.Open(filepath.Join(dir, statisticsFile))
	if err != nil {
		return nil, time.Time{}, err
	}
	defer func() { _ = f.Close() }() // only read from
	var kept keptStatistics
	if err := json.NewDecoder(io.LimitReader(f, maxStatistics)).Decode(&kept); err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w: %w", f.Name(), explorer.ErrDamaged, err)
	}
	if kept.Model != want.Model || kept.Text.SHA256 != want.Text.SHA256 || kept.Windows != want.Windows || kept.Seq != want.Seq || kept.Starts != want.Starts || kept.Draw != want.Draw {
		return nil, time.Time{}, errOther
	}
	s, err := oneshot.LoadStatistics(bytes.NewReader(kept.Statistics), m.geometry())
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return s, kept.Gathered, nil
}

// keep stores statistics.
func keep(dir string, k keptStatistics, s *oneshot.Statistics) error {
	if dir == "" {
		return nil
	}
	var b bytes.Buffer
	if err := s.Save(&b); err != nil {
		return err
	}
	k.Statistics = b.Bytes()
	if err := durable.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return durable.Write(filepath.Join(dir, statisticsFile), 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(k) })
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
