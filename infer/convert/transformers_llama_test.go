//go:build cgo && !nocgo

package convert_test

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ollama/ollama/llama"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/infer/vocab"
)

// trimmedFile writes a file without a quarter of the entries of its vocabulary that can be dropped.
func trimmedFile(t *testing.T, source *gguf.File) *gguf.File {
	t.Helper()
	v, err := source.Vocabulary()
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Rank(vocab.Request{Counts: make([]float64, v.Len())})
	if err != nil {
		t.Fatal(err)
	}
	c, err := source.Config()
	if err != nil {
		t.Fatal(err)
	}
	g := c.Geometry()
	masks, err := subnet.Dense(&g).WithVocab(subnet.Of(v.Len(), r.Kept(v.Len()-(v.Len()-r.Least(true))/4)...))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "trimmed.gguf")
	if _, err := gguf.WriteSubnet(t.Context(), source, path, gguf.Subnet{Masks: masks}, gguf.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// loadScript prints what transformers makes of a folder: the number of every token, the logits behind some tokens, and what was missing.
const loadScript = `
import sys, json, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from tokenizers import Tokenizer
dir, tokens, spelled, texts = sys.argv[1], *map(json.loads, sys.argv[2:])
model, info = AutoModelForCausalLM.from_pretrained(dir, output_loading_info=True, dtype=torch.float32)
with torch.no_grad(): logits = model(torch.tensor([tokens])).logits[0, -1].tolist()
t = AutoTokenizer.from_pretrained(dir)
print(json.dumps({"class": type(model).__name__, "missing": sorted(info["missing_keys"]) + sorted(info["unexpected_keys"]), "logits": logits,
  "ids": [t.convert_tokens_to_ids(s) for s in spelled], "eos": t.eos_token_id, "texts": t(texts).input_ids}))
`

// transformers loads a written folder of equal widths, with every token under its number and the logits of llama.cpp. LATHE_TRANSFORMERS names a
// Python that has it.
func TestTransformersLoadsFolders(t *testing.T) {
	python := os.Getenv("LATHE_TRANSFORMERS")
	if python == "" {
		t.Skip("LATHE_TRANSFORMERS names no Python")
	}
	source := func(change func(*gguftest.Model)) *gguf.File {
		dir, _ := write(t, tiny("llama", change), "LlamaForCausalLM", nil)
		return folderToFile(t, dir, convert.Options{Type: "F32"})
	}
	ofPieces := folderToFile(t, pieces(t, converttest.Pieces(true, "<unk>", "<s>", "</s>"), map[string]any{}), convert.Options{Type: "F32"})
	folder := func(name string, change func(tokenizer map[string]any)) *gguf.File {
		dir, _ := converttest.Open(t, folders()[name])
		if change != nil {
			b, err := os.ReadFile(filepath.Join(dir, "tokenizer.json"))
			if err != nil {
				t.Fatal(err)
			}
			var tokenizer map[string]any
			if err := json.Unmarshal(b, &tokenizer); err != nil {
				t.Fatal(err)
			}
			change(tokenizer)
			put(t, dir, "tokenizer.json", tokenizer)
		}
		return folderToFile(t, dir, convert.Options{Type: "F32"})
	}
	texts := []string{"the cat", "Th 123 that", "a\n\nthe  th ", "\u00dcml\u00e4ut 猫 it's", " the"}
	for name, f := range map[string]*gguf.File{
		"llama 3": folder("llama3", nil), "mistral": folder("mistral", nil),
		"NFC":   folder("llama3", func(tokenizer map[string]any) { tokenizer["normalizer"] = map[string]any{"type": "NFC"} }),
		"dense": source(nil), "tied": source(func(m *gguftest.Model) { m.Tied = true }), "pieces": ofPieces,
		"trimmed pairs": trimmedFile(t, source(nil)), "trimmed pieces": trimmedFile(t, ofPieces),
		"cut": cutFile(t, tiny("llama", nil), "F32", func(_ int, l *subnet.Layer) { l.Channels, l.Heads = subnet.Range(128, 32, 96), keep(4, 2, 3) }),
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "folder")
			if _, err := convert.WriteFolder(t.Context(), f, dir, nil); err != nil {
				t.Fatal(err)
			}
			spelled, _ := f.KV().Strings("tokenizer.ggml.tokens")
			types, _ := f.KV().Ints("tokenizer.ggml.token_type")
			for i, kind := range types {
				if kind == 4 { // a user-defined piece is stored with spaces
					spelled[i] = strings.ReplaceAll(spelled[i], " ", "▁")
				}
			}
			tokens, err := json.Marshal(someTokens())
			if err != nil {
				t.Fatal(err)
			}
			list, err := json.Marshal(spelled)
			if err != nil {
				t.Fatal(err)
			}
			textList, err := json.Marshal(texts)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), python, "-c", loadScript, dir, string(tokens), string(list), string(textList))
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Class   string
				Missing []string
				Logits  []float64
				IDs     []int
				EOS     uint64
				Texts   [][]int
			}
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%v: %.300s", err, out)
			}
			if got.Class != "LlamaForCausalLM" || len(got.Missing) > 0 {
				t.Errorf("%s, missing or unexpected %q", got.Class, got.Missing)
			}
			for i, id := range got.IDs {
				if id != i {
					t.Errorf("%q is token %d, in the file %d", spelled[i], id, i)
				}
			}
			if eos, _ := f.KV().Uint("tokenizer.ggml.eos_token_id"); got.EOS != eos {
				t.Errorf("end token %d, in the file %d", got.EOS, eos)
			}
			model, err := llama.LoadModelFromFile(f.Path(), llama.ModelParams{VocabOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			defer llama.FreeModel(model)
			kind, _ := f.KV().String("tokenizer.ggml.model")
			for i, text := range texts {
				if kind == "llama" && (strings.HasPrefix(text, " ") || strings.Contains(text, "  ")) {
					continue // transformers puts no space before a space, and one behind a piece of two
				}
				if want, err := model.Tokenize(text, true, false); err != nil || !slices.Equal(got.Texts[i], want) {
					t.Errorf("%q is %v, of llama.cpp %v, error %v", text, got.Texts[i], want, err)
				}
			}
			for i, want := range logits(t, f.Path(), someTokens()) {
				if d := math.Abs(float64(want) - got.Logits[i]); !(d < 0.03) {
					t.Fatalf("logit %d is %v, of llama.cpp %v", i, got.Logits[i], want)
				}
			}
		})
	}
}
