package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/durable"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/tune"
)

const (
	tuneSeq   = 512 // tokens of a window: the states of one are kept between all blocks
	tuneState = "tuning.state"
	maxState  = 1 << 32

	// Where no number of windows is asked for, there are fewTuneWindows, or as many as the steps see, at most mostTuneWindows. How many steps a
	// time allows is not known.
	fewTuneWindows, mostTuneWindows = 256, 1024
)

// tuneWindows returns how many windows there are at most where no number is asked for.
func tuneWindows(t explorer.Tuning) int {
	if t.Steps <= 0 {
		return mostTuneWindows
	}
	return min(max(fewTuneWindows, tune.DefaultBatch*t.Steps), mostTuneWindows)
}

// Tune implements [explorer.Tuner].
func (m *model) Tune(ctx context.Context, s gguf.Subnet, c explorer.Tune, dir string, mon explorer.Monitor) (explorer.Made, error) {
	return withRoom(ctx, m, room{calibration: c.Calibration}, mon, func(bool) (explorer.Made, error) { return m.tuneOnce(ctx, s, c, dir, mon) })
}

func (m *model) tuneOnce(ctx context.Context, s gguf.Subnet, c explorer.Tune, dir string, mon explorer.Monitor) (explorer.Made, error) {
	bias := explorer.HoldsBias(m.geometry().Arch)
	if ask := c.Tuning.Bias; ask != nil {
		if *ask && !bias {
			return explorer.Made{}, fmt.Errorf("%w: %s files hold no output biases to tune", explorer.ErrUnsupported, m.geometry().Arch)
		}
		bias = *ask
	}
	phase := &stages{mon: mon, names: []string{textPhase, explorer.TuningPhase, scoringPhase}}
	phase.begin(textPhase)
	mon.Progress(0, 0, "steps", "tokenising")
	calibration := c.Calibration
	calibration.Seq = orDefault(calibration.Seq, tuneSeq)
	text, err := m.calibration(ctx, calibration, orDefault(calibration.Windows, tuneWindows(c.Tuning)), true, mon)
	if err != nil {
		return explorer.Made{}, err
	}
	phase.begin(explorer.TuningPhase)
	mon.Progress(0, 0, "steps", "loading the model")
	dm, err := m.weights(ctx)
	if err != nil {
		return explorer.Made{}, err
	}
	config := tune.Config{
		Steps: c.Tuning.Steps, Time: time.Duration(c.Tuning.Seconds * float64(time.Second)), Rate: cmp.Or(c.Tuning.Rate, tune.DefaultRate), Seed: c.Tuning.Seed, Bias: bias, Rank: c.Tuning.Rank,
		Until: c.Tuning.Until, Marks: c.Tuning.Marks,
		Progress: func(e tune.Event) {
			mon.Progress(e.Share, 1, explorer.TuningUnit, explorer.TuningStep(e.Step, e.Loss, e.HeldOut))
			_ = mon.Gate(ctx) // the run finds that ctx has ended
		},
	}
	if dir != "" {
		path := filepath.Join(dir, tuneState)
		config.Load = func() ([]byte, error) { return loadState(path) }
		config.Save = func(state []byte) error {
			return mon.Persist(ctx, func() error {
				if err := durable.MkdirAll(dir, 0o755); err != nil {
					return err
				}
				return durable.WriteFile(path, state, 0o600)
			})
		}
	}
	var out gguf.Subnet
	var report tune.Report
	err = mon.Persist(ctx, func() (err error) { // its temporary files are as large as the text's states
		out, report, err = tune.Tune(ctx, dm, s, text.windows, config)
		return err
	})
	if errors.Is(err, tune.ErrText) {
		err = fmt.Errorf("%w: %w", explorer.ErrText, err)
	}
	if err != nil {
		return explorer.Made{}, err
	}
	tuned := &explorer.Tuned{
		Steps: report.Steps, Tokens: report.Tokens, Numbers: report.Numbers, Rate: config.Rate, Bias: bias, Rank: config.Rank, Seed: config.Seed, Seconds: report.Seconds,
		Before: report.Before, After: report.After, Best: report.Best, Stopped: report.Stopped, Marks: report.Marks,
	}
	for _, p := range report.Curve {
		tuned.Curve = append(tuned.Curve, explorer.TunedPoint(p))
	}
	made := explorer.Made{Subnet: out, Method: explorer.Method{Tune: tuned, Seq: calibration.Seq}}
	m.recordCompute(&made.Method)
	text.describe(&made.Method, len(text.windows))
	phase.begin(scoringPhase)
	made.Before, made.After, err = m.quick(ctx, text, out, mon)
	if err == nil && made.Before > 0 {
		made.Dense, _, err = m.quick(ctx, text, gguf.Subnet{Masks: subnet.Dense(m.geometry())}, mon)
	}
	if err == nil {
		err = m.general(ctx, text, &made, mon)
	}
	return made, err // the state stays until another run replaces it: the subnet is not stored yet
}

// loadState returns the state of an interrupted run, nil for none.
func loadState(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read from
	return io.ReadAll(io.LimitReader(f, maxState))
}
