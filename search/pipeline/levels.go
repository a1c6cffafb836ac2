package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/scratch"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/score"
)

// LevelsFolder is the folder of the levels in that of a run.
const LevelsFolder = "levels"

// probeTexts is on how many texts the losses of modules are measured.
const probeTexts = 4

// makeLevels makes the levels, or opens those in the folder, and hands them over.
func (r *run) makeLevels(ctx context.Context) (*levels.Store, error) {
	dir := filepath.Join(r.Dir, LevelsFolder)
	expected := ""
	if r.Resume && r.Dir != "" {
		var err error
		if expected, err = search.CheckpointLevels(search.FileStore(r.checkpoint())); err != nil {
			return nil, err
		}
		expected = levels.BaseKey(expected)
	}
	if r.Dir == "" {
		temporary, err := scratch.New(r.Scratch, "levels")
		if err != nil {
			return nil, err
		}
		r.scratch, dir = temporary, temporary.Path()
	}
	options := levels.Options{
		Granularity: r.Granularity, Middle: mlpRatio(r.Geometry, r.share()), Text: r.text.ID, MaxBytes: r.LevelsSpace, Gate: r.gate, Persist: r.persist, Keep: r.Resume, Expect: expected,
		HandOut: r.HandOutLevels, Scratch: r.Scratch,
		Progress: func(e levels.Event) {
			r.progress(makingLevels, float64(e.Done), float64(e.Total), "modules", fmt.Sprintf("levels of layer %d %v", e.Layer, e.Module))
			if r.Prepared != nil {
				r.Prepared(Prepared{Slot: e.Layer*subnet.Modules + int(e.Module), Levels: e.Levels, Lost: e.Lost})
			}
		},
	}
	var store *levels.Store
	err := r.persist(ctx, func() (err error) { // temporary files of the text fill disks too
		store, err = levels.Build(ctx, r.model, r.fitting, dir, options)
		return err
	})
	if errors.Is(err, levels.ErrOther) {
		err = refused(err)
	}
	if err != nil {
		return nil, err
	}
	return store, r.Levels(store)
}

// share returns the ratio that levels are made for. It depends on no time that was measured, so that a search that is resumed
// finds its levels.
func (r *run) share() float64 {
	if r.Types != nil { // types take most of a size
		return typedShare
	}
	switch r.Target.Measure {
	case search.Latency:
		return defaultShare
	case search.Speed:
		return r.Target.Value
	default: // nothing for the others
	}
	return (&search.Problem{Geometry: r.Geometry, Prices: r.prices}).ShareOf(r.Target)
}

// typedShare is the ratio that levels are made for where types are searched too.
const typedShare = 0.9

// defaultShare is the ratio that levels are made for where the target has none.
const defaultShare = 0.8

// mlpRatio returns the ratio that MLPs keep in a subnet of the given ratio whose attention is dense.
func mlpRatio(g *subnet.Geometry, ratio float64) float64 {
	var mlp int64
	for _, l := range g.Layers {
		mlp += g.MLPMatrices() * int64(g.Hidden) * int64(l.FFN)
	}
	cut := (1 - ratio) * float64(g.BlockParams())
	return max(0.1, 1-cut/float64(max(mlp, 1)))
}

// known is kept beside the levels, so that a run that opens them continues with the same values.
type known struct {
	Losses []float64   // factors of the predicted losses, see [levels.Store.SetLosses]
	Pace   levels.Pace // at which the levels were made
}

// predictLosses sets the predicted losses of the levels: those kept beside them, or new ones.
func (r *run) predictLosses(ctx context.Context) error {
	r.pace = r.store.Pace()
	// Losses are measured by the divergence from the dense model whatever the fitness, hence the name.
	path := filepath.Join(r.Dir, LevelsFolder, fmt.Sprintf("%s-%s.json", r.store.Levels().Key, score.KL))
	if k, ok := r.recall(path); ok {
		r.store.SetLosses(k.Losses)
		r.prepared()
		if r.pace == (levels.Pace{}) {
			r.pace = k.Pace
		}
		return nil
	}
	factors, err := r.lossFactors(ctx)
	if err != nil {
		return err
	}
	r.prepared()
	if r.Dir == "" {
		return nil
	}
	return r.persist(ctx, func() error { return save(path, known{factors, r.pace}) })
}

// prepared reports what is known of all modules once the losses of the levels are set.
func (r *run) prepared() {
	if r.Prepared == nil {
		return
	}
	for slot := range r.store.Levels().Slots() {
		ladder := r.store.Levels().Ladder(slot)
		if at := len(ladder) / 2; len(ladder) > 1 {
			r.Prepared(Prepared{Slot: slot, Levels: len(ladder), Lost: r.store.Lost(slot, at), Rise: ladder[at].Loss, Measured: true})
		}
	}
}

// recall reads what is kept beside the levels.
func (r *run) recall(path string) (k known, ok bool) {
	data, err := os.ReadFile(path)
	ok = r.Dir != "" && err == nil && json.Unmarshal(data, &k) == nil && len(k.Losses) == r.store.Levels().Slots()
	return k, ok
}

// lossFactors sets the predicted losses and returns their factors. They come from statistics where there are any. Otherwise
// they are measured by the divergence from the dense model: on as much text, the effect of a single module on perplexity is
// below the noise.
func (r *run) lossFactors(ctx context.Context) ([]float64, error) {
	if r.Predict != nil {
		return score.Predicted(r.store, r.Predict)
	}
	eval := r.eval
	if eval.Fitness() != score.KL {
		var err error
		if eval, err = score.New(r.model, r.store, r.tuning, score.KL); err != nil {
			return nil, err
		}
		defer eval.Close()
	}
	var others score.Others
	if eval == r.eval && r.handed != nil {
		others = func(ctx context.Context, slots []int, measured func(int, float64) error) error {
			return r.handed.Probe(ctx, slots, probeTexts, measured)
		}
	}
	return eval.Probe(ctx, probeTexts, others, func(p score.Probed) error {
		step := fmt.Sprintf("sensitivity of layer %d %v", p.Slot/subnet.Modules, subnet.Module(p.Slot%subnet.Modules))
		r.progress(measuringSensitivity, float64(p.Done), float64(p.Total), "modules", step)
		if n := len(r.store.Levels().Ladder(p.Slot)); r.Prepared != nil {
			r.Prepared(Prepared{Slot: p.Slot, Levels: n, Lost: r.store.Lost(p.Slot, n/2), Rise: max(p.Rise, 0), Measured: true})
		}
		return r.gate(ctx)
	})
}
