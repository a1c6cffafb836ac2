package llamaserver

import (
	"context"

	"github.com/lathe-llm/lathe/infer"
)

// Bench implements [infer.Model]. Speeds are those of the server's own timings, without the time for requests.
func (m *Model) Bench(ctx context.Context, o infer.BenchOptions) (infer.BenchResult, error) {
	ctx, s, end, err := m.begin(ctx, "bench")
	if err != nil {
		return infer.BenchResult{}, err
	}
	defer end()
	if o.Repeats <= 0 {
		o.Repeats = infer.DefaultRepeats
	}
	var result infer.BenchResult
	info := m.Info()
	tests, err := o.Tests(info.Context)
	if err != nil {
		return result, fail("bench", err)
	}
	for i, test := range tests {
		row := infer.BenchRow{Test: test.String(), Tokens: test.Prompt + test.Gen, Threads: info.Threads}
		for run := range o.Repeats {
			if o.Progress != nil {
				o.Progress(row.Test, infer.Progress{Done: i*o.Repeats + run, Total: len(tests) * o.Repeats})
			}
			if run == 0 {
				warm := test
				if warm.Gen > 0 {
					warm.Gen, warm.Depth = 1, 0
				}
				if _, err := m.measureSpeed(ctx, s, warm); err != nil {
					return result, ended(ctx, s, "bench "+row.Test, err)
				}
			}
			speed, err := m.measureSpeed(ctx, s, test)
			if err != nil {
				return result, ended(ctx, s, "bench "+row.Test, err)
			}
			row.Samples = append(row.Samples, speed)
		}
		result.Rows = append(result.Rows, row)
	}
	result.Load, result.Memory = info.LoadTime, m.measure(s)
	return result, nil
}

// measureSpeed runs a test and returns tokens per second. Tokens in the context are read by a request of their own, so that the server finds them
// in its cache; a test without them does not use the cache.
func (m *Model) measureSpeed(ctx context.Context, s *server, t infer.BenchTest) (float64, error) {
	prompt := m.benchPrompt(t.Depth + max(t.Prompt, 1))
	if t.Depth > 0 {
		if _, err := m.timed(ctx, s, prompt[:t.Depth], 1, false); err != nil {
			return 0, err
		}
	}
	if t.Prompt > 0 {
		got, err := m.timed(ctx, s, prompt, 1, t.Depth > 0)
		switch {
		case err != nil:
			return 0, err
		case got.PromptN < 1 || got.PromptN > len(prompt) || !(got.PromptMS > 0):
			return 0, replyError(completion, "timings", "%d prompt tokens in %g ms", got.PromptN, got.PromptMS)
		}
		return float64(got.PromptN) / got.PromptMS * 1000, nil
	}
	// The time of a generation begins with its first token.
	got, err := m.timed(ctx, s, prompt, t.Gen+1, t.Depth > 0)
	switch {
	case err != nil:
		return 0, err
	case got.PredictedN != t.Gen+1 || !(got.PredictedMS > 0):
		return 0, replyError(completion, "timings", "%d tokens in %g ms, %d were asked for", got.PredictedN, got.PredictedMS, t.Gen+1)
	}
	return float64(t.Gen) / got.PredictedMS * 1000, nil
}

// benchPrompt returns n tokens.
func (m *Model) benchPrompt(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32((i*i*7 + i*31 + 3) % len(m.vocab.texts))
	}
	return out
}

// timed generates n tokens, whatever they are, and returns the server's timings.
func (m *Model) timed(ctx context.Context, s *server, prompt []int32, n int, cache bool) (timings, error) {
	r := request(prompt, n, 0, infer.Sampling{})
	r.Stream, r.Tokens, r.Cache, r.IgnoreEnd = false, false, cache, true
	var e completionEvent
	err := s.post(ctx, completion, r, &e)
	return e.Timings, err
}
