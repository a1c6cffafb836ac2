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
	"strings"
	"sync"
	"testing"

	"github.com/ollama/ollama/convert/sentencepiece"
	"github.com/ollama/ollama/llama"
	"github.com/ollama/ollama/ml"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/subnet"
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

// llama.cpp's logits after the last token must be those of the reference. It keeps keys and values in 16 bits.
func TestRuntimeEqualsReference(t *testing.T) {
	for name, folder := range folders() {
		if family, _ := subnet.FamilyOf(folder.Model.Arch); !family.Runs {
			continue
		}
		t.Run(name, func(t *testing.T) {
			dir, _ := converttest.Open(t, folder)
			got := logits(t, folderToFile(t, dir, convert.Options{Type: "F32"}).Path(), someTokens())
			want := newReference(t, dir).logits(someTokens())
			for i, v := range want[len(want)-1] {
				if d := math.Abs(float64(got[i]) - v); !(d < 0.02) {
					t.Fatalf("logit %d is %v, want %v", i, got[i], v)
				}
			}
		})
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

// llama.cpp must split text like SentencePiece, which repeatedly merges the pair of pieces that gives the piece of the highest
// score, and spells the rest byte by byte.
func TestRuntimeSplitsIntoPieces(t *testing.T) {
	startRuntime()
	gemma, config := gemmaPieces()
	for _, test := range []struct {
		name string
		dir  string
		m    *sentencepiece.ModelProto
		text string
	}{
		{"with a space in front", pieces(t, converttest.Pieces(true, "<unk>", "<s>", "</s>"), map[string]any{}), converttest.Pieces(true, "<unk>", "<s>", "</s>"), "on the mat"},
		{"as it is", pieces(t, gemma, config), gemma, "sing  the\nthing"},
	} {
		model, err := llama.LoadModelFromFile(folderToFile(t, test.dir, convert.Options{}).Path(), llama.ModelParams{VocabOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer llama.FreeModel(model)
		for _, text := range []string{"the cat sat on that mat.", "sing\nthing", "Ümläut 猫", test.text} {
			got, err := model.Tokenize(text, false, true)
			if want := split(test.m, text); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %q is %v, want %v, error %v", test.name, text, got, want, err)
			}
		}
		if got, err := model.Tokenize("the", true, true); err != nil || got[0] != int(test.m.TrainerSpec.GetBosId()) {
			t.Errorf("%s: with the beginning of text %v, error %v", test.name, got, err)
		}
	}
}

// split is SentencePiece's merging in plain words.
func split(m *sentencepiece.ModelProto, text string) []int {
	number, score := map[string]int{}, map[string]float32{}
	for i, p := range m.Pieces {
		number[p.GetPiece()] = i
		if p.GetType() == sentencepiece.ModelProto_SentencePiece_NORMAL {
			score[p.GetPiece()] = p.GetScore()
		}
	}
	var out []int
	space := m.NormalizerSpec.GetAddDummyPrefix()
	for i, part := range strings.Split(text, "  ") { // two spaces are a token by themselves
		if i > 0 {
			out = append(out, number["▁▁"])
		}
		if space {
			part = " " + part
		}
		space = false
		var symbols []string
		for _, c := range strings.ReplaceAll(part, " ", "▁") {
			symbols = append(symbols, string(c))
		}
		for {
			best := -1
			for i := range len(symbols) - 1 {
				s, ok := score[symbols[i]+symbols[i+1]]
				if ok && (best < 0 || s > score[symbols[best]+symbols[best+1]]) {
					best = i
				}
			}
			if best < 0 {
				break
			}
			symbols = slices.Replace(symbols, best, best+2, symbols[best]+symbols[best+1])
		}
		for _, s := range symbols {
			if n, ok := number[s]; ok {
				out = append(out, n)
				continue
			}
			for _, b := range []byte(s) {
				out = append(out, number[fmt.Sprintf("<0x%02X>", b)])
			}
		}
	}
	return out
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
