package llamacpp

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/infer"
)

// defaultRepeats is llama-bench's.
const defaultRepeats = 5

// Bench implements [infer.Model].
func (m *Model) Bench(ctx context.Context, o infer.BenchOptions) (infer.BenchResult, error) {
	ctx, p, end, err := m.begin(ctx, "bench")
	if err != nil {
		return infer.BenchResult{}, err
	}
	defer end()
	if o.Repeats <= 0 {
		o.Repeats = defaultRepeats
	}
	var result infer.BenchResult
	var requests []benchRequest
	for _, n := range o.Prompt {
		requests = append(requests, benchRequest{Prompt: n, Depth: o.Depth})
	}
	for _, n := range o.Gen {
		requests = append(requests, benchRequest{Gen: n, Depth: o.Depth})
	}
	for i, r := range requests {
		row := infer.BenchRow{Test: benchName(r), Tokens: r.Prompt + r.Gen, Threads: m.Info().Threads}
		if row.Tokens <= 0 {
			return result, m.fail("bench", fmt.Errorf("%s: a size below 1", row.Test))
		}
		for run := range o.Repeats {
			if o.Progress != nil {
				o.Progress(row.Test, infer.Progress{Done: i*o.Repeats + run, Total: len(requests) * o.Repeats})
			}
			if run == 0 {
				if err := warmUp(ctx, p, r); err != nil {
					return result, m.fail("bench "+row.Test, err)
				}
			}
			reply, err := ask[benchReply](ctx, p, kindBench, r)
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

// warmUp runs what llama-bench does before it measures: the whole prompt, or one token.
func warmUp(ctx context.Context, p *process, r benchRequest) error {
	if r.Gen > 0 {
		r.Gen, r.Depth = 1, 0
	}
	_, err := ask[benchReply](ctx, p, kindBench, r)
	return err
}

func benchName(r benchRequest) string {
	name := fmt.Sprintf("pp%d", r.Prompt)
	if r.Gen > 0 {
		name = fmt.Sprintf("tg%d", r.Gen)
	}
	if r.Depth > 0 {
		name += fmt.Sprintf("@d%d", r.Depth)
	}
	return name
}
