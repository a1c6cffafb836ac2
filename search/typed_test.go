package search_test

import (
	"context"
	"errors"
	"testing"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/space"
)

// typedProblem is a model of four layers whose modules may be dense in 8 bits or in 4, or empty, and whose vocabulary may be halved.
func typedProblem(t *testing.T, target search.Target) *search.Problem {
	t.Helper()
	g := &subnet.Geometry{Arch: "llama", Hidden: 64, HeadDim: 16, Vocab: 1000}
	l := &space.Levels{Geometry: g, Key: "typed"}
	for range 4 {
		g.Layers = append(g.Layers, subnet.LayerGeometry{Heads: 4, KVHeads: 2, FFN: 128})
	}
	dense := subnet.Dense(g)
	for i := range g.Layers {
		attention, mlp := dense.Layer(i).ModuleParams(g, i)
		ladder := func(params int64, tensor string, weight float64) space.Ladder {
			empty := dense.Layer(i)
			empty.Heads, empty.Channels = subnet.Empty(4), subnet.Empty(128)
			return space.Ladder{
				{Mask: dense.Layer(i), Params: params, Bytes: params},
				{Mask: dense.Layer(i), Params: params, Bytes: params / 2, Loss: 0.01 * weight, Types: []space.TensorType{{Tensor: tensor, Type: subnet.Q4_0}}},
				{Mask: empty, Loss: weight},
			}
		}
		l.Attention = append(l.Attention, ladder(attention, tensorName(i, "attn_output"), 1))
		l.MLP = append(l.MLP, ladder(mlp, tensorName(i, "ffn_down"), 0.2*float64(i+1)))
	}
	l.Heads = space.Ladder{{Bytes: 64000}, {Bytes: 32000, Loss: 0.05, Vocab: subnet.Range(1000, 0, 500)}}
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	return &search.Problem{Model: "m", Geometry: g, Levels: l, Target: target, Prices: typedPrices{}, Seed: 1}
}

func tensorName(layer int, rest string) string { return "blk." + string(rune('0'+layer)) + "." + rest }

// typedPrices are a byte for each parameter, half of one in Q4_0, and 64 bytes for each entry of the vocabulary.
type typedPrices struct{}

func (p typedPrices) Bytes(m subnet.Masks, _ string) (file, tensors int64, err error) {
	return p.BytesOf(m, nil)
}

func (typedPrices) BytesOf(m subnet.Masks, types map[string]subnet.Type) (file, tensors int64, err error) {
	n := int64(64 * m.VocabLen())
	for i := range m.Layers() {
		attention, mlp := m.Layer(i).ModuleParams(m.Geometry(), i)
		if types[tensorName(i, "attn_output")] == subnet.Q4_0 {
			attention /= 2
		}
		if types[tensorName(i, "ffn_down")] == subnet.Q4_0 {
			mlp /= 2
		}
		n += attention + mlp
	}
	return n + 100, n, nil
}

func (typedPrices) Seconds(subnet.Masks, string) (float64, bool) { return 0, false }

// typedScorer scores choices by the sum of their losses.
type typedScorer struct{ l *space.Levels }

func (s typedScorer) Evaluate(_ context.Context, batch []search.Candidate, t search.Tier, done func(int, search.Score)) error {
	for i, c := range batch {
		loss := s.l.Loss(c.Choice)
		done(i, search.Score{Fitness: loss, KL: loss, NLL: 3 + loss, Tokens: int64(t.Tokens)})
	}
	return nil
}

// TestSearchOverTypes searches levels that differ in types: the best fits the target by the bytes of its types and vocabulary, the front is ordered by
// bytes, and a checkpoint restores both.
func TestSearchOverTypes(t *testing.T) {
	p := typedProblem(t, search.Target{Measure: search.Bytes, Value: 120000})
	store := &memory{}
	run := func(evaluations int, resume bool) search.Result {
		t.Helper()
		ladder := search.DefaultLadder()
		ladder.LimitText(2048)
		job, err := search.NewJob(search.Options{Strategy: ladder, Problem: *p, Evaluator: typedScorer{p.Levels}, Budget: search.Budget{Evaluations: evaluations}, Store: store, Resume: resume})
		if err != nil {
			t.Fatal(err)
		}
		r, err := job.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := run(300, false)
	file, _, _ := typedPrices{}.BytesOf(r.Best.Masks, p.Levels.Types(r.Best.Choice))
	if r.Best.Bytes != file || file > 120000 || r.Best.Cost != float64(file) {
		t.Errorf("%d bytes, cost %v, its file has %d", r.Best.Bytes, r.Best.Cost, file)
	}
	types := p.Levels.Types(r.Best.Choice)
	if len(types) == 0 || r.Best.Masks.VocabLen() != 500 {
		t.Errorf("types %v and %d entries: halving the bits and the vocabulary costs least", types, r.Best.Masks.VocabLen())
	}
	for i := 1; i < len(r.State.Front); i++ {
		if a, b := r.State.Front[i-1], r.State.Front[i]; a.Bytes >= b.Bytes || a.Score.Fitness <= b.Score.Fitness {
			t.Errorf("front: %d bytes at %g before %d at %g", a.Bytes, a.Score.Fitness, b.Bytes, b.Score.Fitness)
		}
	}
	if len(r.State.Front) < 2 {
		t.Errorf("%d on the front", len(r.State.Front))
	}
	again := run(310, true)
	if again.Best.Score.Fitness > r.Best.Score.Fitness || again.Best.Bytes == 0 || again.State.Front[0].Bytes == 0 {
		t.Errorf("resumed: %g after %g, %d bytes", again.Best.Score.Fitness, r.Best.Score.Fitness, again.Best.Bytes)
	}
	for _, target := range []search.Target{search.Ratio(0.8), {Measure: search.Bytes, Value: 9e4, Type: "Q8_0"}, {Measure: search.Speed, Value: 0.5}} {
		if err := search.DefaultLadder().Check(p, target); !errors.Is(err, search.ErrConfig) {
			t.Errorf("%v: %v", target, err)
		}
	}
	if err := search.DefaultLadder().Check(p, search.Target{Measure: search.Bytes, Value: 1000}); !errors.Is(err, search.ErrTarget) {
		t.Errorf("1000 bytes: %v", err)
	}
}

// TestCacheTypes counts the KV cache of a memory in its type.
func TestCacheTypes(t *testing.T) {
	p := typedProblem(t, search.Ratio(1))
	masks := subnet.Dense(p.Geometry)
	numbers := int64(4 * 2 * 2 * 16 * 256) // layers, keys and values, groups, channels, tokens
	for text, want := range map[string]int64{"memory=1MB@256": 2 * numbers, "memory=1MB@256/q8_0": numbers * 34 / 32, "memory=1MB@256/Q4_0:Q8_0": numbers * 18 / 32} {
		target, err := search.ParseTarget(text, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := target.CacheBytes(masks); got != want {
			t.Errorf("%s: %d bytes, want %d", text, got, want)
		}
		if back, err := search.ParseTarget(target.Text(), ""); err != nil || back != target {
			t.Errorf("%s: read back as %+v (%v)", text, back, err)
		}
	}
	if _, err := search.ParseTarget("memory=1MB@256/IQ1_S", ""); !errors.Is(err, search.ErrConfig) {
		t.Errorf("a cache of IQ1_S: %v", err)
	}
}
