package fake

import (
	"context"
	"fmt"
	"time"

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
	total := 0
	for w, window := range windows {
		if err := check(window); err != nil {
			return nil, err
		}
		if len(window) > m.info.Context {
			return nil, fmt.Errorf("fake: window %d of %d tokens: %w", w, len(window), infer.ErrContextFull)
		}
		total += len(window)
	}
	out := make([][]infer.Position, len(windows))
	done := 0
	for w, window := range windows {
		if err := m.scoreWindow(ctx, w, window, o, &out[w]); err != nil {
			return nil, err
		}
		if done += len(window); o.Progress != nil {
			o.Progress(infer.Progress{Done: done, Total: total})
		}
	}
	return out, nil
}

func (m *Model) scoreWindow(ctx context.Context, w int, window []int32, o infer.DistributionOptions, out *[]infer.Position) error {
	ctx, end, err := m.begin(ctx, "score")
	if err != nil {
		return err
	}
	defer end()
	if err := m.step(ctx, "score"); err != nil {
		return err
	}
	m.past = m.past[:0]
	logits := make([]float32, vocab)
	from := o.FromOf(w)
	for i := from; i < len(window); i++ {
		m.grams.logits(window[:i], logits)
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

// Bench implements [infer.Model]. The speeds are made of the sizes alone, so that output built on them is stable.
func (m *Model) Bench(ctx context.Context, o infer.BenchOptions) (infer.BenchResult, error) {
	ctx, end, err := m.begin(ctx, "bench")
	if err != nil {
		return infer.BenchResult{}, err
	}
	defer end()
	if o.Repeats <= 0 {
		o.Repeats = 5
	}
	result := infer.BenchResult{Load: time.Millisecond, Memory: m.memory()}
	all := (len(o.Prompt) + len(o.Gen)) * o.Repeats
	done := 0
	run := func(kind string, sizes []int, speed float64) error {
		for _, n := range sizes {
			row := infer.BenchRow{Test: fmt.Sprintf("%s%d", kind, n), Tokens: n, Threads: m.Info().Threads}
			for i := range o.Repeats {
				if o.Progress != nil {
					o.Progress(row.Test, infer.Progress{Done: done, Total: all})
				}
				if err := m.step(ctx, "bench"); err != nil {
					return err
				}
				row.Samples = append(row.Samples, speed+float64(i))
				done++
			}
			result.Rows = append(result.Rows, row)
		}
		return nil
	}
	if err := run("pp", o.Prompt, 1000); err != nil {
		return result, err
	}
	return result, run("tg", o.Gen, 100)
}

// Memory implements [infer.Model].
func (m *Model) Memory(context.Context) (infer.Memory, error) {
	if err := m.engine.fail("memory"); err != nil {
		return infer.Memory{}, err
	}
	return m.memory(), m.open()
}

func (m *Model) memory() infer.Memory {
	return infer.Memory{Weights: m.info.FileBytes, KVCache: int64(m.info.Context) * 4, Resident: 1 << 20, Peak: 1 << 20}
}
