package explorertest

import (
	"context"
	"math"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// Tune implements [explorer.Tuner] without computing: the divergence falls by a fifth.
func (m *model) Tune(ctx context.Context, s gguf.Subnet, c explorer.Tune, _ string, mon explorer.Monitor) (explorer.Made, error) {
	text, mix, err := m.texts(c.Calibration)
	if err != nil {
		return explorer.Made{}, err
	}
	loss := Loss(s.Masks)
	tuned := &explorer.Tuned{Rate: 0.003, Rank: c.Tuning.Rank, Seed: c.Tuning.Seed, Seconds: 41, Numbers: 1000, Before: loss, After: 0.8 * loss}
	steps := 12
	if c.Tuning.Until > 0 {
		steps = c.Tuning.Until
	} else if c.Tuning.Seconds > 0 {
		tuned.Marks = []int{0, 5}
	}
	for i := range steps {
		held, before := loss*(1-0.2*float64(i+1)/float64(steps)), loss*(1-0.2*float64(i)/float64(steps))
		if i == 0 {
			before = 0
		}
		if err := m.step(ctx, mon, i, steps, explorer.TuningUnit, explorer.TuningStep(i, before, held)); err != nil {
			return explorer.Made{}, err
		}
		tuned.Curve = append(tuned.Curve, explorer.TunedPoint{Step: i + 1, Loss: held, HeldOut: held})
	}
	if err := m.b.persist(ctx, mon, func() error { return nil }); err != nil {
		return explorer.Made{}, err
	}
	tuned.Steps, tuned.Best, tuned.Tokens = steps, steps, steps*1024
	if loss == 0 {
		tuned.Best, tuned.After = 0, 0
	}
	refit := make([]gguf.Refit, s.Masks.Layers())
	copy(refit, s.Refit)
	refit[0].GA = make([]float32, s.Masks.Geometry().Hidden)
	for i := range refit[0].GA {
		refit[0].GA[i] = 1
	}
	before := math.Exp(denseNLL + 1.6*loss)
	return explorer.Made{
		Subnet: gguf.Subnet{Masks: s.Masks, Refit: refit},
		Method: explorer.Method{Tune: tuned, Text: text, Mix: mix, Draw: explorer.DrawWhole, Windows: 256, Seq: 512, Backend: "fake"}, Before: before, After: math.Exp(denseNLL + 0.8*loss), Dense: math.Exp(denseNLL),
	}, nil
}
