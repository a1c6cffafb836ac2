package llamaserver

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/infer"
)

// scorer returns the model of the fallback, which the first call loads. It is called in a turn of the queue.
func (m *Model) scorer(ctx context.Context) (infer.Model, error) {
	select {
	case <-m.loading:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { m.loading <- struct{}{} }()
	if m.fallback != nil {
		return m.fallback, nil
	}
	e := m.engine.options
	m.reportOnce.Do(func() {
		if e.Report != nil {
			e.Report(fmt.Sprintf("llama-server computes no log-probabilities of given tokens: %s computes them", e.Fallback.Name()))
		}
	})
	o := m.options
	o.Context = m.Info().Context
	loaded, err := e.Fallback.Load(ctx, o, nil)
	if err != nil {
		return nil, fmt.Errorf("log-probabilities of given tokens, without llama-server: %w", err)
	}
	m.fallback = loaded
	return loaded, nil
}

// distributions scores one window on the fallback.
func (m *Model) distributions(ctx context.Context, window []int32, o infer.DistributionOptions) ([]infer.Position, error) {
	model, err := m.scorer(ctx)
	if err != nil {
		return nil, err
	}
	got, err := model.Distributions(ctx, [][]int32{window}, o)
	if err != nil {
		return nil, err
	}
	return got[0], nil
}

// Score implements [infer.Model], on the fallback.
func (m *Model) Score(ctx context.Context, windows [][]int32, progress func(infer.Progress)) ([][]float32, error) {
	got, err := m.Distributions(ctx, windows, infer.DistributionOptions{Progress: progress})
	if err != nil {
		return nil, err
	}
	nll := make([][]float32, len(windows))
	for w, positions := range got {
		for _, p := range positions {
			nll[w] = append(nll[w], p.NLL)
		}
	}
	return nll, nil
}

// Distributions implements [infer.Model], on the fallback.
func (m *Model) Distributions(ctx context.Context, windows [][]int32, o infer.DistributionOptions) ([][]infer.Position, error) {
	if err := o.Validate(windows); err != nil {
		return nil, fail("score", err)
	}
	total, done := 0, 0
	for w, window := range windows {
		total += max(0, len(window)-o.FromOf(w))
	}
	out := make([][]infer.Position, len(windows))
	for w, window := range windows {
		one := infer.DistributionOptions{Top: o.Top, From: []int{o.FromOf(w)}}
		if o.At != nil {
			one.At = o.At[w : w+1]
		}
		before := done
		one.Progress = func(p infer.Progress) {
			if done = before + p.Done; o.Progress != nil {
				o.Progress(infer.Progress{Done: done, Total: total})
			}
		}
		ctx, end, err := m.enter(ctx, "score")
		if err != nil {
			return nil, err
		}
		out[w], err = m.distributions(ctx, window, one)
		end()
		if err != nil {
			if m.ctx.Err() != nil {
				err = infer.ErrClosed
			}
			return nil, fail(fmt.Sprintf("score window %d", w), err)
		}
	}
	return out, nil
}
