package explorertest

import (
	"context"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// talker is a fake model that is the faster the smaller its inheriting ratio is.
type talker struct {
	infer.Model
	ratio float64
	bytes int64
}

func (t *talker) speed() float64 { return 31 / (0.25 + 0.75*t.ratio) }

func (t *talker) Info() infer.Info {
	info := t.Model.Info()
	info.FileBytes, info.LoadTime = t.bytes, 120*time.Millisecond
	return info
}

func (t *talker) Memory(ctx context.Context) (infer.Memory, error) {
	if memory, err := t.Model.Memory(ctx); err != nil { // a call that waits in line like any other
		return memory, err
	}
	return infer.Memory{Weights: t.bytes, KVCache: 24 << 20, Compute: 12 << 20, Resident: t.bytes + 60<<20}, nil
}

func (t *talker) Chat(ctx context.Context, messages []infer.Message, s infer.Sampling, emit func(infer.Token) error) (infer.GenStats, error) {
	stats, err := t.Model.Chat(ctx, messages, s, emit)
	stats.FirstToken = time.Duration(180 * t.ratio * float64(time.Millisecond))
	stats.TokensPerSecond = t.speed()
	stats.PromptPerSecond = 8 * t.speed()
	stats.Total = stats.FirstToken + time.Duration(float64(stats.Tokens)/t.speed()*float64(time.Second))
	return stats, err
}

func (t *talker) Bench(ctx context.Context, o infer.BenchOptions) (infer.BenchResult, error) {
	result, err := t.Model.Bench(ctx, o)
	for i := range result.Rows {
		row := &result.Rows[i]
		rate := t.speed() / (1 + float64(o.Depth)/4096)
		if len(o.Prompt) > 0 {
			rate = 8 * t.speed()
		}
		for j := range row.Samples {
			row.Samples[j] = rate * (1 + 0.01*float64(j%3-1))
		}
	}
	result.Load = 120 * time.Millisecond
	return result, err
}
