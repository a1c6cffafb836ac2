package llamacpp

import (
	"context"

	"github.com/lathe-llm/lathe/infer"
)

// Bench implements [infer.Model].
func (m *Model) Bench(ctx context.Context, o infer.BenchOptions) (infer.BenchResult, error) {
	ctx, p, end, err := m.begin(ctx, "bench")
	if err != nil {
		return infer.BenchResult{}, err
	}
	defer end()
	if o.Repeats <= 0 {
		o.Repeats = infer.DefaultRepeats
	}
	var result infer.BenchResult
	tests, err := o.Tests(m.Info().Context)
	if err != nil {
		return result, m.fail("bench", err)
	}
	for i, test := range tests {
		row := infer.BenchRow{Test: test.String(), Tokens: test.Prompt + test.Gen, Threads: m.Info().Threads}
		for run := range o.Repeats {
			if o.Progress != nil {
				o.Progress(row.Test, infer.Progress{Done: i*o.Repeats + run, Total: len(tests) * o.Repeats})
			}
			if run == 0 {
				if err := warmUp(ctx, p, test); err != nil {
					return result, m.fail("bench "+row.Test, err)
				}
			}
			reply, err := ask[benchReply](ctx, p, kindBench, test)
			if err != nil {
				return result, m.fail("bench "+row.Test, err)
			}
			if reply.Seconds > 0 {
				row.Samples = append(row.Samples, float64(row.Tokens)/reply.Seconds)
			}
		}
		result.Rows = append(result.Rows, row)
	}
	result.Load = m.Info().LoadTime
	result.Memory, err = m.measure(ctx, p)
	return result, m.fail("bench", err)
}

// warmUp runs what llama-bench runs before it measures: the whole prompt, or one token.
func warmUp(ctx context.Context, p *process, t infer.BenchTest) error {
	if t.Gen > 0 {
		t.Gen, t.Depth = 1, 0
	}
	_, err := ask[benchReply](ctx, p, kindBench, t)
	return err
}
