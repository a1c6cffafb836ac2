//go:build cgo && !nocgo

package llamaserver

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/llamacpp"
)

// TestReal compares an installed llama-server with the built-in engine on the default model: the same prompts in tokens, the same pieces, and
// greedy replies that are equal up to a token where the two engines' choices are about equally likely. Versions of llama.cpp
// round differently, most with weights of four bits: apart is how far the log-probabilities of such choices may be, in nats.
func TestReal(t *testing.T) {
	const apart = 0.5
	program, cache := os.Getenv("LATHE_LLAMA_SERVER"), os.Getenv("LATHE_CACHE")
	path := filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	if program == "" {
		t.Skip("LATHE_LLAMA_SERVER does not name a llama-server")
	}
	if given := os.Getenv("LATHE_TEST_MODEL"); given != "" {
		path = given
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no model: %v", err)
	}
	native, err := llamacpp.New(llamacpp.Options{LogDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer native.Close()
	installed := New(Options{Path: program, Fallback: native, LogDir: t.TempDir()})
	defer installed.Close()
	o := infer.Defaults(path)
	o.Context, o.Threads = 512, 1
	load := func(e infer.Engine) infer.Model {
		m, err := e.Load(t.Context(), o, nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	a, b := load(native), load(installed)
	if a, b := a.Info(), b.Info(); a.Vocab != b.Vocab || a.AddBOS != b.AddBOS || a.BOS != b.BOS || a.EOS != b.EOS || a.LongestToken != b.LongestToken || a.Params != b.Params {
		t.Errorf("%+v, built in %+v", b, a)
	}
	all := make([]int32, a.Info().Vocab)
	for i := range all {
		all[i] = int32(i)
	}
	for _, compare := range []func(infer.Model) []string{
		func(m infer.Model) []string { return must(m.Pieces(t.Context(), all))(t) },
	} {
		if x, y := compare(a), compare(b); !slices.Equal(x, y) {
			t.Error("pieces differ")
		}
	}
	equal := 0
	prompts := []string{"What is a lathe?", "Name the capital of France.", "Write <|im_end|> one sentence about the sea.", "Zähle 世界 😀 to 10.", "What colour is the sky?"}
	for _, text := range prompts {
		messages := []infer.Message{{Role: infer.User, Content: text}}
		p, q := must(a.Prompt(t.Context(), messages))(t), must(b.Prompt(t.Context(), messages))(t)
		if !slices.Equal(p.Tokens, q.Tokens) {
			t.Errorf("%q: tokens %v, built in %v", text, q.Tokens, p.Tokens)
			continue
		}
		x, y := greedy(t, a, p.Tokens), greedy(t, b, p.Tokens)
		at := 0
		for at < min(len(x), len(y)) && x[at].ID == y[at].ID {
			at++
		}
		if at == len(x) && at == len(y) {
			equal++
			continue
		}
		if at == min(len(x), len(y)) {
			t.Errorf("%q: %d tokens, built in %d", text, len(y), len(x))
			continue
		}
		other := slices.IndexFunc(x[at].Top, func(p infer.TokenProb) bool { return p.ID == y[at].ID })
		if other < 0 || x[at].LogProb-x[at].Top[other].LogProb > apart {
			t.Errorf("%q: token %d is %q, built in %q, of which the most likely are %v", text, at, y[at].Piece, x[at].Piece, x[at].Top)
		}
		t.Logf("%q: %q and built in %q at token %d, which are %.3f nats apart", text, y[at].Piece, x[at].Piece, at, x[at].LogProb-x[at].Top[max(0, other)].LogProb)
	}
	t.Logf("%d of %d replies are equal", equal, len(prompts))
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func greedy(t *testing.T, m infer.Model, prompt []int32) (out []infer.Token) {
	t.Helper()
	_, err := m.Generate(context.Background(), prompt, infer.Sampling{MaxTokens: 16, TopLogProbs: 5}, func(token infer.Token) error {
		out = append(out, token)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
