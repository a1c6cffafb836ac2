//go:build cgo && !nocgo

package convert_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ollama/ollama/llama"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf"
)

var writeSplits = flag.String("splits", "", "folder to write the tokenizers of TestRuntimeSplits into, for the tokenizers library")

// splitTexts are split differently by different pre-tokenizers.
var splitTexts = []string{
	"the Th 123456 12", "THE IT'S it's we'LL", "a  b   the\n\n\nthe \n x", "x!! !!-- 'the' (12)", "aAbAa AAb", "das Maß 3½ ٣٤", "猫が 猫", "tab\tthe\r\nthe", "1234.5678 e-12",
}

// splitVocabulary is a byte-level vocabulary with merges across what pre-tokenizers keep apart.
func splitVocabulary(steps []any, ignoreMerges bool) map[string]any {
	t := converttest.Tokenizer(320, steps...)
	model := t["model"].(map[string]any)
	vocab := model["vocab"].(map[string]int)
	pairs := []string{"t h", "1 2", "12 3", "3 4", "34 5", "! !", "- -", "a A", "aA b", "' s", "' t", "' S", "s '", "A A", "AA b", "t h", "th e", "T H", "TH E", ") -", "( 1", "5 6", ". 5", "- 1"}
	list := []string{}
	next := 259
	for _, p := range pairs {
		whole := strings.ReplaceAll(p, " ", "")
		if _, ok := vocab[whole]; ok && whole != "th" {
			continue
		}
		if whole != "th" {
			for token, id := range vocab {
				if id == next {
					delete(vocab, token)
				}
			}
			vocab[whole] = next
			next++
		}
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	model["merges"], model["ignore_merges"] = list, ignoreMerges
	return t
}

// A folder with each pre-tokenizer that lathe has a name for gives llama.cpp the tokens of the tokenizers library, and so does the folder that
// is written of the file. testdata/splits.json has the library's tokens.
func TestRuntimeSplits(t *testing.T) {
	startRuntime()
	facts := map[string]map[string][]int{}
	b, err := os.ReadFile(filepath.Join("testdata", "splits.json"))
	if err == nil {
		err = json.Unmarshal(b, &facts)
	}
	if err != nil && *writeSplits == "" {
		t.Fatal(err)
	}
	for _, name := range convert.SplitterNames() {
		steps, ignore, err := convert.SplitSteps(name)
		if err != nil {
			t.Fatal(err)
		}
		dir, _ := write(t, tiny("llama", nil), "LlamaForCausalLM", nil)
		put(t, dir, "tokenizer.json", splitVocabulary(steps, ignore))
		f := folderToFile(t, dir, convert.Options{})
		if pre, _ := f.KV().String("tokenizer.ggml.pre"); pre != name {
			t.Errorf("%s is read as %s", name, pre)
		}
		to := filepath.Join(t.TempDir(), "folder")
		if _, err := convert.WriteFolder(t.Context(), f, to, nil); err != nil {
			t.Fatal(err)
		}
		if *writeSplits != "" {
			text, err := os.ReadFile(filepath.Join(to, "tokenizer.json"))
			if err != nil {
				t.Fatal(err)
			}
			put(t, *writeSplits, name+".json", text)
			continue
		}
		for _, file := range []*gguf.File{f, folderToFile(t, to, convert.Options{})} {
			model, err := llama.LoadModelFromFile(file.Path(), llama.ModelParams{VocabOnly: true})
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range splitTexts {
				got, err := model.Tokenize(text, false, true)
				if want := facts[name][text]; err != nil || !slices.Equal(got, want) {
					t.Errorf("%s: %q is %v, want %v, error %v", name, text, got, want, err)
				}
			}
			llama.FreeModel(model)
		}
	}
}

// pieceFolder is a folder with tokenizer.json alone, as transformers 5 writes the vocabularies of Llama 2, Mistral and Gemma.
func pieceFolder(t *testing.T, change func(t map[string]any)) string {
	t.Helper()
	dir := pieces(t, converttest.Pieces(true, "<unk>", "<s>", "</s>"), map[string]any{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
	if err := os.Remove(filepath.Join(dir, "tokenizer.model")); err != nil {
		t.Fatal(err)
	}
	tokenizer := converttest.PiecesJSON(converttest.Pieces(true, "<unk>", "<s>", "</s>"))
	change(tokenizer)
	put(t, dir, "tokenizer.json", tokenizer)
	return dir
}

// The numbers are those of transformers 5.24 for the vocabulary of converttest.Pieces.
func TestRuntimeReadsPiecesOfTokenizerJSON(t *testing.T) {
	startRuntime()
	metaspace := func(scheme string) map[string]any {
		return map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false}
	}
	replace := map[string]any{"type": "Replace", "pattern": map[string]any{"String": " "}, "content": "▁"}
	withPrefix := map[string][]int{
		"the cat sat on that mat.": {1, 262, 265, 268, 270, 261, 275, 273, 305}, "sing  thing": {1, 266, 277, 259, 274, 277},
		"Ümläut 猫":      {1, 278, 198, 159, 291, 290, 198, 167, 299, 298, 278, 234, 143, 174},
		"a  b   c\n\nd": {1, 278, 279, 259, 280, 259, 263, 13, 13, 282},
	}
	without := map[string][]int{"the cat": {1, 274, 283, 265}, "sing  thing": {1, 297, 277, 259, 274, 277}}
	for _, test := range []struct {
		name   string
		change func(t map[string]any)
		want   map[string][]int
	}{
		{"Metaspace, first", func(t map[string]any) { t["pre_tokenizer"] = metaspace("first") }, withPrefix},
		{"Metaspace, always", func(t map[string]any) { t["pre_tokenizer"] = metaspace("always") }, withPrefix},
		{"Metaspace, never", func(t map[string]any) { t["pre_tokenizer"] = metaspace("never") }, without},
		{"normalizer", func(t map[string]any) {
			t["normalizer"] = map[string]any{"type": "Sequence", "normalizers": []any{map[string]any{"type": "Prepend", "prepend": "▁"}, replace}}
			t["pre_tokenizer"] = nil
		}, withPrefix},
		{"Gemma", func(t map[string]any) {
			t["normalizer"] = replace
			t["pre_tokenizer"] = map[string]any{"type": "Split", "pattern": map[string]any{"String": " "}, "behavior": "MergedWithPrevious", "invert": false}
		}, without},
	} {
		f := folderToFile(t, pieceFolder(t, test.change), convert.Options{})
		model, err := llama.LoadModelFromFile(f.Path(), llama.ModelParams{VocabOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		for text, want := range test.want {
			if got, err := model.Tokenize(text, true, true); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %q is %v, want %v, error %v", test.name, text, got, want, err)
			}
		}
		llama.FreeModel(model)
		for key, want := range map[string]any{
			"tokenizer.ggml.model": "llama", "tokenizer.ggml.bos_token_id": uint32(1), "tokenizer.ggml.eos_token_id": uint32(2),
			"tokenizer.ggml.unknown_token_id": uint32(0), "tokenizer.ggml.add_bos_token": true, "tokenizer.ggml.add_eos_token": false,
		} {
			if got, _ := f.KV().Value(key); got != want {
				t.Errorf("%s: %s is %v, want %v", test.name, key, got, want)
			}
		}
	}
	for _, test := range []struct {
		reason string
		change func(t map[string]any)
	}{
		{"normalizer: llama.cpp does not compute NFKC", func(t map[string]any) { t["normalizer"] = map[string]any{"type": "NFKC"} }},
		{"pre_tokenizer: llama.cpp does not compute Whitespace", func(t map[string]any) { t["pre_tokenizer"] = map[string]any{"type": "Whitespace"} }},
		{"merges lack the pair", func(t map[string]any) {
			model := t["model"].(map[string]any)
			model["merges"] = slices.DeleteFunc(model["merges"].([][]string), func(p []string) bool { return p[0] == "▁" && p[1] == "th" })
		}},
	} {
		dir := pieceFolder(t, test.change)
		_, err := convert.Folder(t.Context(), dir, filepath.Join(t.TempDir(), "x"), convert.Options{})
		if !errors.Is(err, convert.ErrUnsupported) || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: error %v", test.reason, err)
		}
	}
}

// A folder that is written of a vocabulary of pieces has tokenizer.json besides tokenizer.model, and it gives the same tokens.
func TestRuntimeReadsWrittenPieces(t *testing.T) {
	startRuntime()
	for _, prefix := range []bool{true, false} {
		f := folderToFile(t, pieces(t, converttest.Pieces(prefix, "<unk>", "<s>", "</s>"), map[string]any{}), convert.Options{})
		dir := filepath.Join(t.TempDir(), "folder")
		if _, err := convert.WriteFolder(t.Context(), f, dir, nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "tokenizer.model")); err != nil {
			t.Fatal(err)
		}
		a, err := llama.LoadModelFromFile(f.Path(), llama.ModelParams{VocabOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer llama.FreeModel(a)
		b, err := llama.LoadModelFromFile(folderToFile(t, dir, convert.Options{}).Path(), llama.ModelParams{VocabOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		defer llama.FreeModel(b)
		for _, text := range []string{"the cat sat on that mat.", "sing thing", "Ümläut 猫", "a b\n\nd", "the</s>the"} {
			want, errA := a.Tokenize(text, true, true)
			if got, errB := b.Tokenize(text, true, true); errA != nil || errB != nil || !slices.Equal(got, want) {
				t.Errorf("prefix %v: %q is %v, want %v, errors %v, %v", prefix, text, got, want, errA, errB)
			}
		}
	}
}
