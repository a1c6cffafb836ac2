//go:build cgo && !nocgo

package gguf_test

import (
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// logProb is the log-probability of a token by logits.
func logProb(logits []float32, token int) float64 {
	top := math.Inf(-1)
	for _, v := range logits {
		top = max(top, float64(v))
	}
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	return float64(logits[token]) - top - math.Log(sum)
}

// singleLogProbs is runtimeLogProbs with one token decoded at a time, as in generation.
func singleLogProbs(t *testing.T, path string, tokens []int) []float64 {
	t.Helper()
	c := runtimeContext(t, path, len(tokens))
	var out []float64
	for i, token := range tokens[:len(tokens)-1] {
		decode(t, c, []int{token}, i)
		out = append(out, logProb(c.GetLogitsIth(0), tokens[i+1]))
	}
	return out
}

// exactLogProbs is runtimeLogProbs for the numbers of a file as F32, which products do not round.
func exactLogProbs(t *testing.T, path string, tokens []int) []float64 {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read from
	whole, _ := write(t, f, gguf.Subnet{Masks: subnet.Dense(geometryOf(t, f))}, gguf.WriteOptions{Type: "F32"})
	defer func() { _ = os.Remove(whole.Path()) }() // half a gigabyte each
	return runtimeLogProbs(t, whole.Path(), tokens)
}

// meanDistance is the square root of the mean squared difference.
func meanDistance(a, b []float64) float64 {
	var sum float64
	for i := range a {
		sum += (a[i] - b[i]) * (a[i] - b[i])
	}
	return math.Sqrt(sum / float64(len(a)))
}

// TestStockRuntimeRoundsAlike changes one thing of the default model's file at a time: the vocabulary, the type of all matrices, several types. Before a
// product with a quantised matrix llama.cpp rounds activations to eight bits, and the order of additions, which differs between builds and between a
// batch of one token and one of many, decides which way. So none of them computes what the numbers of the file give in F32, and each may be as far
// from that as the others: log-probabilities of stock llama.cpp at most twice as far as those here. Where nothing is rounded, as F16, perplexities are
// within 0.1 %.
func TestStockRuntimeRoundsAlike(t *testing.T) {
	path := defaultModel(t)
	stockPython(t)
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read from
	dense := subnet.Dense(geometryOf(t, f))
	try := func(name string, s gguf.Subnet, typ string) {
		out, _ := write(t, f, s, gguf.WriteOptions{Type: typ})
		defer func() { _ = os.Remove(out.Path()) }()
		job := stockJob{Model: out.Path(), Tokens: textTokens(t, out.Path(), 72), From: 8}
		r := runStock(t, []stockJob{job})[0]
		var own, single, exact, stock []float64
		a, b, c := runtimeLogProbs(t, job.Model, job.Tokens), singleLogProbs(t, job.Model, job.Tokens), exactLogProbs(t, job.Model, job.Tokens)
		for j, q := range r.LogProbs {
			if k := job.From - 1 + j; q != nil {
				own, single, exact, stock = append(own, a[k]), append(single, b[k]), append(exact, c[k]), append(stock, *q)
			}
		}
		percent := func(of []float64) float64 { return 100 * (perplexity(of)/perplexity(exact) - 1) }
		many, one, other := meanDistance(own, exact), meanDistance(single, exact), meanDistance(stock, exact)
		t.Logf("%s: perplexity of %d tokens %.3f in F32; many tokens at once %+.3f %%, one at a time %+.3f %%, stock %+.3f %%; distances from F32 %.4f, %.4f, %.4f nats; of many at once from one %.4f, from stock %.4f",
			name, len(exact), perplexity(exact), percent(own), percent(single), percent(stock), many, one, other, meanDistance(own, single), meanDistance(own, stock))
		if allowed := max(2*max(many, one), 0.01); !(other <= allowed) {
			t.Errorf("%s: log-probabilities of stock llama.cpp are %.4f nats from those in F32, allowed %.4f", name, other, allowed)
		}
		if rounds := typ != "F16"; !rounds && (math.Abs(percent(stock)) > 0.1 || math.Abs(percent(own)) > 0.1) {
			t.Errorf("%s: perplexity %+.3f %% here, %+.3f %% in stock llama.cpp from that in F32, allowed 0.1 %%", name, percent(own), percent(stock))
		}
	}
	try("as it is", gguf.Subnet{Masks: dense}, "")
	try("36,000 tokens", gguf.Subnet{Masks: withVocab(t, f, dense, 36000)}, "")
	try("36,000 tokens, all F16", gguf.Subnet{Masks: withVocab(t, f, dense, 36000)}, "F16")
	try("all Q8_0", gguf.Subnet{Masks: dense}, "Q8_0")
	try("mixed", gguf.Subnet{Masks: dense, Types: manyTypes(dense.Layers())}, "")
	try("mixed, fewer channels, 36,000 tokens", gguf.Subnet{Masks: withVocab(t, f, everySecondChannel(dense, 20, 1), 36000), Types: manyTypes(dense.Layers())}, "")
}

// manyTypes gives the matrices of the default model twelve types in turns.
func manyTypes(layers int) map[string]gguf.Type {
	types := map[string]gguf.Type{"token_embd.weight": gguf.Q5_1}
	inner := []gguf.Type{gguf.Q8_0, gguf.Q5_1, gguf.Q5_0, gguf.Q4_1, gguf.Q4_0, subnet.IQ4_NL}
	down := []gguf.Type{gguf.Q6_K, gguf.Q5_K, gguf.Q4_K, subnet.IQ4_XS, gguf.Q3_K, subnet.IQ3_S}
	for i := range layers {
		for j, rest := range []string{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up"} {
			types[fmt.Sprintf("blk.%d.%s.weight", i, rest)] = inner[(i+j)%len(inner)]
		}
		types[fmt.Sprintf("blk.%d.ffn_down.weight", i)] = down[i%len(down)]
	}
	return types
}
