//go:build cgo && !nocgo

package llamaserver

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/infertest"
	"github.com/lathe-llm/lathe/infer/llamacpp"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// realServer returns an installed llama-server, or a program that makes one of the package xllamacpp.
func realServer(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("LATHE_LLAMA_SERVER"); program != "" {
		return program
	}
	python := os.Getenv("LATHE_STOCK_PYTHON")
	if python == "" {
		t.Skip("neither LATHE_LLAMA_SERVER nor LATHE_STOCK_PYTHON is set: run make test-server")
	}
	script, err := filepath.Abs("testdata/server.py")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "llama-server")
	if err := os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\nexec '%s' '%s' \"$@\"\n", python, script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// builtIn returns an engine on the processor.
func builtIn(t testing.TB) infer.Engine {
	t.Helper()
	e, err := llamacpp.New(llamacpp.Options{LogDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// TestRealContract runs the contract of engines over a real server.
func TestRealContract(t *testing.T) {
	program := realServer(t)
	for _, family := range []string{"llama", "qwen2"} {
		t.Run(family, func(t *testing.T) {
			infertest.Run(t, infertest.Subject{
				Engine: func(t testing.TB) infer.Engine {
					return New(Options{Path: program, Fallback: builtIn(t), LogDir: t.TempDir()})
				},
				Model: gguftest.Write(t, gguftest.Tiny(family)),
				Except: map[string]string{
					"threads":                   "a llama-server keeps its number of threads",
					"context beyond the memory": "only the server knows its devices",
				},
			})
		})
	}
}

// Prompts whose greedy replies are compared.
var realPrompts = []string{"What is a lathe?", "Name the capital of France.", "Write <|im_end|> one sentence about the sea.", "Zähle 世界 😀 to 10.", "What colour is the sky?"}

// TestReal compares an installed llama-server with the built-in engine on the default model: the same pieces, the same prompts in
// tokens, and greedy replies.
//
// In 32 bits the replies are equal. In the file's own type both engines round activations to eight bits before each product, and
// an activation at the border between two numbers becomes one or the other by the order in which sums were added, which is
// another in each version of llama.cpp. That moves log-probabilities by hundredths of nats, as far from the exact ones in both. The
// replies are then equal up to a token where the two choices are no further apart than that.
func TestReal(t *testing.T) {
	program := realServer(t)
	path := os.Getenv("LATHE_TEST_MODEL")
	if path == "" {
		path = filepath.Join(os.Getenv("LATHE_CACHE"), "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no model: %v", err)
	}
	e := &realEngines{native: builtIn(t)}
	e.installed = New(Options{Path: program, Fallback: e.native, LogDir: t.TempDir()})
	t.Cleanup(func() { e.installed.Close() })
	whole := widened(t, path)
	exact := e.replies(t, whole, true)
	for i, r := range exact {
		if !slices.Equal(r.ids(r.native), r.ids(r.installed)) {
			t.Errorf("in 32 bits, %q: %s; built in %s", realPrompts[i], r.text(r.installed), r.text(r.native))
		}
	}
	if t.Failed() {
		return
	}
	rounded := e.replies(t, path, false)
	reference := e.load(t, e.native, whole)
	var own, other, between squares
	equal := 0
	for _, r := range rounded {
		r.compare(t, reference, &own, &other, &between)
	}
	t.Logf("log-probabilities of the most likely tokens, root mean square in nats: built in %.4f from the exact ones, installed %.4f, between the two %.4f", own.root(), other.root(), between.root())
	// Were the server sent something else than the built-in engine, it would be further from what is exact.
	if !(other.root() <= 1.5*own.root()) {
		t.Errorf("the server's log-probabilities are %.4f nats from the exact ones, the built-in engine's %.4f", other.root(), own.root())
	}
	for i, r := range rounded {
		at := r.same()
		if at == len(r.native) && at == len(r.installed) {
			equal++
			continue
		}
		if at == min(len(r.native), len(r.installed)) {
			t.Errorf("%q: %d tokens, built in %d", realPrompts[i], len(r.installed), len(r.native))
			continue
		}
		gap := r.native[at].LogProb - logProb(r.native[at].Top, r.installed[at].ID)
		t.Logf("%q: %q and built in %q at token %d, which are %.3f nats apart", realPrompts[i], r.installed[at].Piece, r.native[at].Piece, at, gap)
		if limit := 4 * between.root(); !(gap <= limit) {
			t.Errorf("%q: token %d is %q, built in %q, which is %.3f nats more likely: more than %.3f", realPrompts[i], at, r.installed[at].Piece, r.native[at].Piece, gap, limit)
		}
	}
	t.Logf("%d of %d replies are equal, and all in 32 bits", equal, len(rounded))
}

// widened returns a copy of a file with matrices of 32 bits.
func widened(t *testing.T, path string) string {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := f.Config()
	if err != nil {
		t.Fatal(err)
	}
	g := c.Geometry()
	out := filepath.Join(t.TempDir(), "whole.gguf")
	if _, err := gguf.WriteSubnet(t.Context(), f, out, gguf.Subnet{Masks: subnet.Dense(&g)}, gguf.WriteOptions{Type: "F32"}); err != nil {
		t.Fatal(err)
	}
	return out
}

type realEngines struct{ native, installed infer.Engine }

// load loads a file without flash attention, of which versions of llama.cpp add sums in other precisions.
func (e *realEngines) load(t *testing.T, engine infer.Engine, path string) infer.Model {
	t.Helper()
	o := infer.LoadOptions{Path: path, Context: 512, Threads: 1}
	m, err := engine.Load(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// reply is one prompt, in tokens, and both engines' greedy replies.
type reply struct {
	prompt            []int32
	native, installed []infer.Token
}

// replies generates with both engines. pieces compares what their tokens spell, too.
func (e *realEngines) replies(t *testing.T, path string, pieces bool) []reply {
	t.Helper()
	a, b := e.load(t, e.native, path), e.load(t, e.installed, path)
	defer func() {
		a.Close()
		b.Close()
	}()
	if a, b := a.Info(), b.Info(); a.Vocab != b.Vocab || a.AddBOS != b.AddBOS || a.BOS != b.BOS || a.EOS != b.EOS || a.LongestToken != b.LongestToken || a.Params != b.Params {
		t.Errorf("%+v, built in %+v", b, a)
	}
	if pieces {
		all := make([]int32, a.Info().Vocab)
		for i := range all {
			all[i] = int32(i)
		}
		if !slices.Equal(must(a.Pieces(t.Context(), all))(t), must(b.Pieces(t.Context(), all))(t)) {
			t.Error("pieces differ")
		}
	}
	var out []reply
	for _, text := range realPrompts {
		messages := []infer.Message{{Role: infer.User, Content: text}}
		p, q := must(a.Prompt(t.Context(), messages))(t), must(b.Prompt(t.Context(), messages))(t)
		if !slices.Equal(p.Tokens, q.Tokens) {
			t.Fatalf("%q: tokens %v, built in %v", text, q.Tokens, p.Tokens)
		}
		out = append(out, reply{p.Tokens, greedy(t, a, p.Tokens), greedy(t, b, p.Tokens)})
	}
	return out
}

func (reply) ids(tokens []infer.Token) (ids []int32) {
	for _, token := range tokens {
		ids = append(ids, token.ID)
	}
	return ids
}

func (reply) text(tokens []infer.Token) string {
	var pieces []byte
	for _, token := range tokens {
		pieces = append(pieces, token.Piece...)
	}
	return fmt.Sprintf("%q", pieces)
}

// same returns how many tokens the replies have in common.
func (r reply) same() int {
	for i := range min(len(r.native), len(r.installed)) {
		if r.native[i].ID != r.installed[i].ID {
			return i
		}
	}
	return min(len(r.native), len(r.installed))
}

// squares adds up squared differences.
type squares struct {
	sum float64
	n   int
}

func (s *squares) add(difference float64) { s.sum, s.n = s.sum+difference*difference, s.n+1 }

func (s *squares) root() float64 { return math.Sqrt(s.sum / float64(s.n)) }

// compare adds the differences of log-probabilities where both engines have read the same tokens, from those of a model without
// rounding and between the two.
func (r reply) compare(t *testing.T, reference infer.Model, own, other, between *squares) {
	t.Helper()
	const considered = 5 // of the built-in engine's most likely tokens
	n := min(r.same()+1, len(r.native), len(r.installed))
	at := make([][]int32, n)
	for i := range at {
		for _, p := range r.native[i].Top[:considered] {
			at[i] = append(at[i], p.ID)
		}
	}
	window := append(slices.Clone(r.prompt), r.ids(r.native[:n])...)
	exact := must(reference.Distributions(t.Context(), [][]int32{window}, infer.DistributionOptions{From: []int{len(r.prompt)}, At: [][][]int32{at}}))(t)[0]
	for i := range at {
		for j, id := range at[i] {
			a, b, want := r.native[i].Top[j].LogProb, logProb(r.installed[i].Top, id), float64(exact[i].At[j])
			if math.IsInf(b, -1) { // not among the server's
				continue
			}
			own.add(a - want)
			other.add(b - want)
			between.add(a - b)
		}
	}
}

// logProb returns the log-probability of a token in a list, or that of an impossible one.
func logProb(list []infer.TokenProb, id int32) float64 {
	for _, p := range list {
		if p.ID == id {
			return p.LogProb
		}
	}
	return math.Inf(-1)
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
	_, err := m.Generate(context.Background(), prompt, infer.Sampling{MaxTokens: 48, TopLogProbs: 20}, func(token infer.Token) error {
		out = append(out, token)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
