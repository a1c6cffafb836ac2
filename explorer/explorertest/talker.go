package explorertest

import (
	"context"
	"math"
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

// Distributions are flatter the less the subnet keeps, and at some tokens the two most likely ones change places.
func (t *talker) Distributions(ctx context.Context, windows [][]int32, o infer.DistributionOptions) ([][]infer.Position, error) {
	if t.ratio >= 1 {
		return t.Model.Distributions(ctx, windows, o)
	}
	all := o
	all.Top, all.At = infer.MaxTop, nil // more than the vocabulary has
	got, err := t.Model.Distributions(ctx, windows, all)
	for w := range got {
		for i := range got[w] {
			p := &got[w][i]
			if i%7 == 3 {
				p.Top[0], p.Top[1] = p.Top[1], p.Top[0]
			}
			sum := 0.0
			for k := range p.TopProbs {
				p.TopProbs[k] *= float32(t.ratio)
				sum += math.Exp(float64(p.TopProbs[k]))
			}
			of := make(map[int32]float32, len(p.Top))
			for k, id := range p.Top {
				p.TopProbs[k] -= float32(math.Log(sum))
				of[id] = p.TopProbs[k]
			}
			token := windows[w][o.FromOf(w)+i]
			p.NLL, p.Greedy = -of[token], p.Top[0] == token
			if o.At != nil {
				for _, id := range o.At[w][i] {
					p.At = append(p.At, of[id])
				}
			}
			p.Top, p.TopProbs = p.Top[:min(o.Top, len(p.Top))], p.TopProbs[:min(o.Top, len(p.TopProbs))]
		}
	}
	return got, err
}
