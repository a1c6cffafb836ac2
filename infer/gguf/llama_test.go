//go:build cgo && !nocgo

package gguf_test

import (
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ollama/ollama/llama"
	"github.com/ollama/ollama/ml"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // llama.cpp writes to the terminal what slog would not drop
	llama.BackendInit()
	os.Exit(m.Run())
}

// runtimeLogProbs has llama.cpp load the file and returns the log-probability of each token but the first after those before it.
func runtimeLogProbs(t *testing.T, path string, tokens []int) []float64 {
	t.Helper()
	c := runtimeContext(t, path, len(tokens))
	decode(t, c, tokens, 0)
	out := make([]float64, len(tokens)-1)
	for i := range out {
		out[i] = logProb(c.GetLogitsIth(i), tokens[i+1])
	}
	return out
}

// runtimeGreedy has llama.cpp load the file and returns the n likeliest tokens, one after the other, that follow tokens.
func runtimeGreedy(t *testing.T, path string, tokens []int, n int) []int {
	t.Helper()
	c := runtimeContext(t, path, len(tokens)+n)
	var out []int
	for next, at := tokens, 0; len(out) < n; {
		decode(t, c, next, at)
		at += len(next)
		logits := c.GetLogitsIth(len(next) - 1)
		best := 0
		for i, v := range logits {
			if v > logits[best] {
				best = i
			}
		}
		out = append(out, best)
		next = []int{best}
	}
	return out
}

func runtimeContext(t *testing.T, path string, size int) *llama.Context {
	t.Helper()
	model, err := llama.LoadModelFromFile(path, llama.ModelParams{UseMmap: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { llama.FreeModel(model) })
	// One thread: ggml's spin while they wait, and other tests run beside these.
	c, err := llama.NewContextWithModel(model, llama.NewContextParams(size, size, 1, 1, ml.FlashAttentionDisabled, "f16"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// decode runs tokens at positions from at on, with the logits of all.
func decode(t *testing.T, c *llama.Context, tokens []int, at int) {
	t.Helper()
	batch, err := llama.NewBatch(len(tokens), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Free()
	for i, token := range tokens {
		batch.Add(token, nil, at+i, true, 0)
	}
	if err := c.Decode(batch); err != nil {
		t.Fatal(err)
	}
}

// randomTokens returns n tokens of a vocabulary, always the same ones.
func randomTokens(n, vocab int) []int {
	rng := rand.New(rand.NewPCG(7, 7))
	tokens := make([]int, n)
	for i := range tokens {
		tokens[i] = rng.IntN(vocab)
	}
	return tokens
}

// perplexity is the exponential of the mean negative log-probability.
func perplexity(logProbs []float64) float64 {
	var sum float64
	for _, p := range logProbs {
		sum -= p
	}
	return math.Exp(sum / float64(len(logProbs)))
}

// The random models must be complete for llama.cpp, vocabulary included.
func TestRuntimeLoadsRandomModels(t *testing.T) {
	for _, family := range gguftest.Runnable() {
		t.Run(family.Name, func(t *testing.T) {
			path := gguftest.Write(t, family.Model)
			p := perplexity(runtimeLogProbs(t, path, randomTokens(64, family.Model.Vocab)))
			if math.IsNaN(p) || p < 2 || p > 1e6 {
				t.Errorf("perplexity %v", p)
			}
			model, err := llama.LoadModelFromFile(path, llama.ModelParams{VocabOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			defer llama.FreeModel(model)
			const text = "the cat is on fire: é\n"
			tokens, err := model.Tokenize(text, false, true)
			if err != nil {
				t.Fatal(err)
			}
			var back string
			for _, token := range tokens {
				back += model.TokenToPiece(token)
			}
			if back != text && back != " "+text {
				t.Errorf("%q became %v and came back as %q", text, tokens, back)
			}
		})
	}
}

// A vocabulary on a network of its own must tokenise as it does in its model, for a family that llama.cpp runs, and at all for one that it does
// not.
func TestRuntimeLoadsVocabularies(t *testing.T) {
	tokenize := func(path string) []int {
		model, err := llama.LoadModelFromFile(path, llama.ModelParams{})
		if err != nil {
			t.Fatal(err)
		}
		defer llama.FreeModel(model)
		tokens, err := model.Tokenize("the cat was on fire", true, true)
		if err != nil {
			t.Fatal(err)
		}
		return tokens
	}
	written := func(arch string) string {
		path := filepath.Join(t.TempDir(), "vocabulary.gguf")
		if err := gguftest.Open(t, gguftest.Tiny(arch)).WriteVocabulary(path, nil); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, arch := range []string{"llama", "qwen2"} {
		if own, got := tokenize(gguftest.Write(t, gguftest.Tiny(arch))), tokenize(written(arch)); !slices.Equal(own, got) {
			t.Errorf("%s: %v in the model, %v without it", arch, own, got)
		}
	}
	if got := tokenize(written("opt")); len(got) < 2 || got[0] != 2 {
		t.Errorf("opt: %v, which does not begin with the start token", got)
	}
	bare := gguftest.Tiny("opt")
	bare.NoTokenizer = true
	if err := gguftest.Open(t, bare).WriteVocabulary(filepath.Join(t.TempDir(), "x"), nil); !errors.Is(err, gguf.ErrMissing) {
		t.Errorf("without a vocabulary: error %v", err)
	}
}
