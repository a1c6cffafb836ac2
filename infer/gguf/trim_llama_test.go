//go:build cgo && !nocgo

package gguf_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ollama/ollama/llama"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/infer/vocab"
)

// words tokenises texts with llama.cpp.
type words struct{ model *llama.Model }

func loadWords(t *testing.T, path string) words {
	t.Helper()
	model, err := llama.LoadModelFromFile(path, llama.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { llama.FreeModel(model) })
	return words{model}
}

func (w words) tokens(t *testing.T, text string) []int {
	t.Helper()
	tokens, err := w.model.Tokenize(text, false, true)
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func (w words) text(tokens []int) string {
	var b strings.Builder
	for _, id := range tokens {
		b.WriteString(w.model.TokenToPiece(id))
	}
	return b.String()
}

// compareWithWhole checks, in llama.cpp, what a smaller vocabulary promises: texts whose tokens are all kept have the same tokens and logits,
// and all other texts come back from their tokens. It returns how many texts were of the first kind.
func compareWithWhole(t *testing.T, whole, small string, kept []int, texts []string, tolerance float64) (same int) {
	t.Helper()
	a, b := loadWords(t, whole), loadWords(t, small)
	at := make(map[int]int, len(kept))
	for i, id := range kept {
		at[id] = i
	}
	var longest []int
	for _, text := range texts {
		ids, own := a.tokens(t, text), b.tokens(t, text)
		if back, want := b.text(own), a.text(ids); back != want {
			t.Fatalf("%q came back as %q, from the whole vocabulary as %q", text, back, want)
		}
		if slices.ContainsFunc(ids, func(id int) bool { _, ok := at[id]; return !ok }) {
			continue
		}
		same++
		mapped := make([]int, len(ids))
		for i, id := range ids {
			mapped[i] = at[id]
		}
		if !slices.Equal(mapped, own) {
			t.Fatalf("the tokens of %q are %v instead of %v", text, own, mapped)
		}
		if len(ids) > len(longest) && len(ids) <= 128 {
			longest = ids
		}
	}
	if longest == nil {
		t.Fatalf("no text of %d has kept tokens only", len(texts))
	}
	mapped := make([]int, len(longest))
	for i, id := range longest {
		mapped[i] = at[id]
	}
	x, y := runtimeContext(t, whole, len(longest)), runtimeContext(t, small, len(longest))
	decode(t, x, longest, 0)
	decode(t, y, mapped, 0)
	for i := range longest {
		all, some := x.GetLogitsIth(i), y.GetLogitsIth(i)
		for j, id := range kept {
			if d := math.Abs(float64(all[id] - some[j])); !(d <= tolerance) {
				t.Fatalf("after token %d the logit of entry %d is %v, in the smaller vocabulary %v", i, id, all[id], some[j])
			}
		}
	}
	return same
}

// The rows are the same bytes and products are computed row by row, so that logits are equal but for the order of sums.
const logitTolerance = 1e-4

func TestRuntimeTrimmed(t *testing.T) {
	texts := []string{
		"the cat was on fire for the win", " the of the of the", "of the", " and to in was", "Ünïcödé 猫 \n\ttabs", "<|im_start|>user\nthe<|im_end|>", "1234567890", "",
		"\x00\x7f", " ", "the", strings.Repeat(" the of", 20),
	}
	for _, arch := range []string{"llama", "qwen2", "gemma3"} {
		m := gguftest.Tiny(arch)
		path := gguftest.Write(t, m)
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }() // only read from
		masks := withVocab(t, f, subnet.Dense(geometryOf(t, f)), 0)
		small := filepath.Join(t.TempDir(), "small.gguf")
		if _, err := gguf.WriteSubnet(context.Background(), f, small, gguf.Subnet{Masks: masks}, gguf.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		n := compareWithWhole(t, path, small, masks.Vocab().Indices(), texts, logitTolerance)
		t.Logf("%s: %d of %d texts have kept tokens only", arch, n, len(texts))
	}
}

// On the default model, with half of its vocabulary chosen on the first half of the calibration text and checked on the second.
func TestRuntimeTrimmedDefaultModel(t *testing.T) {
	path := defaultModel(t)
	data, err := os.ReadFile(filepath.Join(os.Getenv("LATHE_CACHE"), "text", "wiki.utf8"))
	if err != nil {
		t.Skipf("the calibration text is not in LATHE_CACHE (make setup): %v", err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read from
	v, err := f.Vocabulary()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(data), "\n")
	half := len(lines) / 2
	whole := loadWords(t, path)
	counts := make([]float64, v.Len())
	for _, id := range whole.tokens(t, strings.Join(lines[:half], "")) {
		counts[id]++
	}
	r, err := v.Rank(vocab.Request{Counts: counts})
	if err != nil {
		t.Fatal(err)
	}
	n, err := r.Keep(24000, false)
	if err != nil {
		t.Fatal(err)
	}
	kept := r.Kept(n)
	masks, err := subnet.Dense(geometryOf(t, f)).WithVocab(subnet.Of(v.Len(), kept...))
	if err != nil {
		t.Fatal(err)
	}
	small := filepath.Join(t.TempDir(), "small.gguf")
	report, err := gguf.WriteSubnet(context.Background(), f, small, gguf.Subnet{Masks: masks}, gguf.WriteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	texts := append([]string{"<|im_start|>user\nHi<|im_end|>\n", "Привет, мир! 猫 \u0301 café\r\n\t  x", "def f(x):\n    return x ** 2\n"}, lines[half:]...)
	same := compareWithWhole(t, path, small, kept, texts, logitTolerance)
	t.Logf("%d bytes instead of %d; %d of %d lines have kept tokens only", report.Bytes, f.Size(), same, len(texts))
	if 2*same < len(texts) {
		t.Errorf("only %d of %d lines have kept tokens only", same, len(texts))
	}
}
