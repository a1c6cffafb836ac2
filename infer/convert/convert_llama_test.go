//go:build cgo && !nocgo

package convert_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/ollama/ollama/llama"
	"github.com/ollama/ollama/ml"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
)

// startRuntime makes llama.cpp ready, once.
var startRuntime = sync.OnceFunc(func() {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // llama.cpp writes to the terminal what slog would not drop
	llama.BackendInit()
})

// A Llama folder and a Qwen2 folder of the same weights, with biases of zero, are the same network. llama.cpp rotates neighbouring rows of the one
// and halves of the other, so their logits agree only where rows were put in the right order.
func TestFamiliesAgreeInTheRuntime(t *testing.T) {
	m := tiny("llama", nil)
	dir, _ := write(t, m, "LlamaForCausalLM", nil)
	asLlama := folderToFile(t, dir, convert.Options{})

	text, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	config["architectures"] = []string{"Qwen2ForCausalLM"}
	put(t, dir, "config.json", config)
	biases := map[string]converttest.Tensor{}
	for i := range m.Layers {
		for name, rows := range map[string]int{"q": 64, "k": 32, "v": 32} {
			biases[fmt.Sprintf("model.layers.%d.self_attn.%s_proj.bias", i, name)] = converttest.Tensor{Type: "F16", Dims: []int{rows}, Data: make([]byte, 2*rows)}
		}
	}
	put(t, dir, "biases.safetensors", safetensors(t, biases))
	asQwen2 := folderToFile(t, dir, convert.Options{})

	tokens := []int{99, 7, 258, 45, 12, 301, 77, 200, 5, 63, 63, 8}
	a, b := logits(t, asLlama.Path(), tokens), logits(t, asQwen2.Path(), tokens)
	for i := range a {
		if d := math.Abs(float64(a[i] - b[i])); !(d < 0.02) {
			t.Fatalf("logit %d is %v as llama, %v as qwen2", i, a[i], b[i])
		}
	}
}

// The vocabulary must be complete for llama.cpp.
func TestRuntimeTokenizes(t *testing.T) {
	startRuntime()
	dir, _ := write(t, tiny("llama", nil), "LlamaForCausalLM", nil)
	model, err := llama.LoadModelFromFile(folderToFile(t, dir, convert.Options{}).Path(), llama.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer llama.FreeModel(model)
	got, err := model.Tokenize("that", false, false)
	if want := []int{258, 2 + 'a', 2 + 't'}; err != nil || !slices.Equal(got, want) {
		t.Errorf("tokens %v, want %v, error %v", got, want, err)
	}
}

// logits has llama.cpp load the file and returns the logits after the last token.
func logits(t *testing.T, path string, tokens []int) []float32 {
	t.Helper()
	startRuntime()
	model, err := llama.LoadModelFromFile(path, llama.ModelParams{UseMmap: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { llama.FreeModel(model) })
	c, err := llama.NewContextWithModel(model, llama.NewContextParams(len(tokens), len(tokens), 1, 1, ml.FlashAttentionDisabled, "f16"))
	if err != nil {
		t.Fatal(err)
	}
	batch, err := llama.NewBatch(len(tokens), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer batch.Free()
	for i, token := range tokens {
		batch.Add(token, nil, i, i == len(tokens)-1, 0)
	}
	if err := c.Decode(batch); err != nil {
		t.Fatal(err)
	}
	return slices.Clone(c.GetLogitsIth(len(tokens) - 1))
}
