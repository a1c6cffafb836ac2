package fake

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/sample"
)

// Score implements [infer.Model].
func (m *Model) Score(ctx context.Context, windows [][]int32, progress func(infer.Progress)) ([][]float32, error) {
	positions, err := m.Distributions(ctx, windows, infer.DistributionOptions{Progress: progress})
	if err != nil {
		return nil, err
	}
	nll := make([][]float32, len(windows))
	for w, window := range positions {
		nll[w] = make([]float32, len(window))
		for i, p := range window {
			nll[w][i] = p.NLL
		}
	}
	return nll, nil
}

// Distributions implements [infer.Model].
func (m *Model) Distributions(ctx context.Context, windows [][]int32, o infer.DistributionOptions) ([][]infer.Position, error) {
	if err := o.Validate(windows); err != nil {
		return nil, fmt.Errorf("fake: %w", err)
	}
	total := 0
	for w, window := range windows {
		total += max(0, len(window)-o.FromOf(w))
	}
	out := make([][]infer.Position, len(windows))
	done := 0
	for w, window := range windows {
		if err := m.scoreWindow(ctx, w, window, o, &out[w]); err != nil {
			return nil, err
		}
		if done += len(out[w]); o.Progress != nil {
			o.Progress(infer.Progress{Done: done, Total: total})
		}
	}
	return out, nil
}

func (m *Model) scoreWindow(ctx context.Context, w int, window []int32, o infer.DistributionOptions, out *[]infer.Position) error {
	ctx, end, err := m.begin(ctx, "score", "score")
	if err != nil {
		return err
	}
	defer end()
	if err := check(window); err != nil {
		return err
	}
	if len(window) > m.info.Context {
		return fmt.Errorf("fake: window %d of %d tokens: %w", w, len(window), infer.ErrContextFull)
	}
	if o.At != nil {
		for _, ids := range o.At[w] {
			if err := check(ids); err != nil {
				return err
			}
		}
	}
	if err := m.step(ctx, "score"); err != nil {
		return err
	}
	m.past = m.past[:0]
	logits := make([]float32, vocab)
	from := o.FromOf(w)
	for i := from; i < len(window); i++ {
		m.logits(window[:i], logits)
		if err := sample.Check(logits); err != nil {
			return fmt.Errorf("fake: %w", err)
		}
		p := infer.Position{NLL: -logits[window[i]], Greedy: sample.Argmax(logits) == window[i]}
		if o.Top > 0 {
			p.Top, p.TopProbs = sample.Top(logits, min(o.Top, infer.MaxTop), 0)
		}
		if o.At != nil {
			for _, id := range o.At[w][i-from] {
				p.At = append(p.At, logits[id])
			}
		}
		*out = append(*out, p)
	}
	return nil
}

// Bench implements [infer.Model]. The speeds are functions of the test alone, so that output built on them is stable.
func (m *Model) Bench(ctx context.Context, o infer.BenchOptions) (infer.BenchResult, error) {
	ctx, end, err := m.begin(ctx, "bench", "bench")
	if err != nil {
		return infer.BenchResult{}, err
	}
	defer end()
	tests, err := o.Tests(m.info.Context)
	if err != nil {
		return infer.BenchResult{}, fmt.Errorf("fake: %w", err)
	}
	if o.Repeats <= 0 {
		o.Repeats = infer.DefaultRepeats
	}
	m.past = m.past[:0]
	result := infer.BenchResult{Load: m.info.LoadTime, Memory: m.memory()}
	for i, test := range tests {
		speed := 1000.0
		if test.Gen > 0 {
			speed = 100
		}
		row := infer.BenchRow{Test: test.String(), Tokens: test.Prompt + test.Gen, Threads: m.Info().Threads}
		for run := range o.Repeats {
			if o.Progress != nil {
				o.Progress(row.Test, infer.Progress{Done: i*o.Repeats + run, Total: len(tests) * o.Repeats})
			}
			if err := m.step(ctx, "bench"); err != nil {
				return result, err
			}
			row.Samples = append(row.Samples, speed+float64(run))
		}
		result.Rows = append(result.Rows, row)
	}
	return result, nil
}

// Memory implements [infer.Model].
func (m *Model) Memory(ctx context.Context) (infer.Memory, error) {
	_, end, err := m.begin(ctx, "memory", "memory")
	if err != nil {
		return infer.Memory{}, err
	}
	defer end()
	return m.memory(), nil
}

func (m *Model) memory() infer.Memory {
	used := m.info.Needed
	used.Resident, used.Peak = 1<<20, 1<<20
	return used
}
