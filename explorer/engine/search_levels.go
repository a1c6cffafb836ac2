package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/score"
)

// levels makes the levels or takes those that are in the folder, and keeps them open for the model.
func (h *hunt) levels(ctx context.Context) (*levels.Store, error) {
	dir := filepath.Join(h.dir, "levels")
	if h.dir == "" {
		var err error
		if dir, err = os.MkdirTemp(h.m.engine.options.Scratch, "levels"); err != nil {
			return nil, err
		}
		h.scratch = dir
	}
	store, err := levels.Build(ctx, h.work.dm, h.fitting, dir, levels.Options{
		Middle: mlpRatio(h.work.dm.Geometry(), h.request.Target), Text: h.work.text.ref.SHA256, Gate: h.mon.Gate,
		Progress: func(e levels.Event) {
			h.mon.Progress(float64(e.Done), float64(e.Total), "modules", fmt.Sprintf("levels of layer %d %v", e.Layer, e.Module))
		},
	})
	if err != nil {
		return nil, err
	}
	h.m.mu.Lock()
	old := h.m.levels
	h.m.levels = store
	h.m.mu.Unlock()
	if old != nil {
		return store, old.Close()
	}
	return store, nil
}

// mlpRatio is the ratio that MLPs keep in a subnet of a given ratio whose attention is dense.
func mlpRatio(g *subnet.Geometry, ratio float64) float64 {
	var mlp int64
	for _, l := range g.Layers {
		mlp += g.MLPMatrices() * int64(g.Hidden) * int64(l.FFN)
	}
	cut := (1 - ratio) * float64(g.BlockParams())
	return max(0.1, 1-cut/float64(max(mlp, 1)))
}

// known is what is kept beside levels, so that a search that takes them from the folder goes on with what it began with.
type known struct {
	Losses []float64   // factors of the levels' predicted losses, see [levels.Store.SetLosses]
	Pace   levels.Pace // at which the levels were made
}

// predict gives the levels their predicted losses, from the statistics where they were gathered, otherwise measured here.
func (h *hunt) predict(ctx context.Context, store *levels.Store) error {
	h.pace = store.Pace()
	path := filepath.Join(h.dir, "levels", fmt.Sprintf("%s-%s.json", store.Levels().Key, score.KL))
	if k, ok := h.recall(path, store); ok {
		store.SetLosses(k.Losses)
		return nil
	}
	factor, err := h.worth(ctx, store)
	if err != nil || h.dir == "" {
		return err
	}
	data, err := json.Marshal(known{factor, h.pace})
	if err != nil {
		return err
	}
	return search.FileStore(path).Save(data)
}

// recall reads what was kept beside levels, and takes the pace from it where that is not known.
func (h *hunt) recall(path string, store *levels.Store) (known, bool) {
	var k known
	data, err := os.ReadFile(path)
	if h.dir == "" || err != nil || json.Unmarshal(data, &k) != nil || len(k.Losses) != store.Levels().Slots() {
		return known{}, false
	}
	if h.pace == (levels.Pace{}) {
		h.pace = k.Pace
	}
	return k, true
}

// worth sets the predicted losses and returns the factors that give them again. They are measured by the divergence from
// the dense model whatever the fitness: on as much text, what one module does to perplexity is lost in chance.
func (h *hunt) worth(ctx context.Context, store *levels.Store) ([]float64, error) {
	statistics := h.m.statistics.Load()
	if statistics != nil {
		return score.Predicted(store, statistics.Predict)
	}
	eval := h.eval
	if eval.Fitness() != score.KL {
		var err error
		if eval, err = score.New(h.work.dm, store, h.tuning, score.Options{Fitness: score.KL, Gate: h.mon.Gate}); err != nil {
			return nil, err
		}
		defer eval.Close()
	}
	return eval.Probe(ctx, probeTexts, func(done, total int) {
		h.mon.Progress(float64(done), float64(total), "modules", "measuring what each module is worth")
	})
}
