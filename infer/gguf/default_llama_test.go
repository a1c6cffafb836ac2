//go:build cgo && !nocgo

package gguf_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/ollama/ollama/llama"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// textTokens returns the first n tokens of the calibration text in the vocabulary of a model.
func textTokens(t *testing.T, path string, n int) []int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(os.Getenv("LATHE_CACHE"), "text", "wiki.utf8"))
	if err != nil {
		t.Skipf("the calibration text is not in LATHE_CACHE (make setup): %v", err)
	}
	model, err := llama.LoadModelFromFile(path, llama.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer llama.FreeModel(model)
	tokens, err := model.Tokenize(string(text[:min(len(text), 16*n)]), true, false)
	if err != nil || len(tokens) < n {
		t.Fatalf("%d tokens, error %v", len(tokens), err)
	}
	return tokens[:n]
}

// On the default model: perplexity of the cut file within 0.1 % of that of the zero-filled one, both F16, for each thing that can be dropped.
func TestCutEqualsZeroedOnTheDefaultModel(t *testing.T) {
	path := defaultModel(t)
	if os.Getenv("LATHE_SLOW") == "" {
		t.Skip("takes a minute: set LATHE_SLOW=1")
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	tokens := textTokens(t, path, 256)
	for _, c := range []cutCase{
		{"channels", func(m subnet.Masks) subnet.Masks { return everySecondChannel(everySecondChannel(m, 4, 0), 20, 1) }},
		{"groups", func(m subnet.Masks) subnet.Masks { return keepHeads(keepHeads(m, 7, 0, 1, 2, 6, 7, 8), 15, 3, 4, 5) }},
		{"unequal heads", func(m subnet.Masks) subnet.Masks { return keepHeads(m, 9, 0, 3, 4, 6, 7, 8) }},
		{"layers", func(m subnet.Masks) subnet.Masks { return dropLayer(dropLayer(m, 14), 22) }},
		{"attention of the first layer", func(m subnet.Masks) subnet.Masks { return dropAttention(m, 0) }},
		{"attention of others", func(m subnet.Masks) subnet.Masks { return dropAttention(dropAttention(m, 12), 29) }},
		{"MLP", func(m subnet.Masks) subnet.Masks { return dropMLP(dropMLP(m, 13), 29) }},
		{"channels inside heads", func(m subnet.Masks) subnet.Masks {
			return inHead(m, func(layer, group int) (qk, vo subnet.Set) {
				return subnet.Range(64, 0, 56), subnet.Full(64).Without(layer%64, (layer+9+group)%64, 1, 2, 3, 5, 8, 13)
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := c.masks(subnet.Dense(geometryOf(t, f)))
			dir := t.TempDir()
			cut, zeroed := filepath.Join(dir, "cut.gguf"), filepath.Join(dir, "zeroed.gguf")
			report, err := gguf.WriteSubnet(context.Background(), f, cut, gguf.Subnet{Masks: m}, gguf.WriteOptions{Type: "F16"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := gguf.WriteSubnet(context.Background(), f, zeroed, gguf.Subnet{Masks: m}, gguf.WriteOptions{Type: "F16", Zeroed: true}); err != nil {
				t.Fatal(err)
			}
			a, b := perplexity(runtimeLogProbs(t, cut, tokens)), perplexity(runtimeLogProbs(t, zeroed, tokens))
			t.Logf("%s: %d bytes; perplexity %.4f cut, %.4f zeroed", report.Arch, report.Bytes, a, b)
			if math.Abs(a/b-1) > 1e-3 || math.IsNaN(a) {
				t.Errorf("perplexity %v cut, %v zeroed", a, b)
			}
			if want := m.GGUFBytes("F16"); report.TensorBytes != want {
				t.Errorf("%d bytes of tensors, the masks promise %d", report.TensorBytes, want)
			}
		})
	}
}
