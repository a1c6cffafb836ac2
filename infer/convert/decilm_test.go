package convert_test

import (
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

func sameValue(t *testing.T, key string, a, b *gguf.KV) {
	t.Helper()
	x, _ := a.Value(key)
	y, _ := b.Value(key)
	if !reflect.DeepEqual(x, y) {
		t.Errorf("%s differs: %.200v and %.200v", key, x, y)
	}
}

// deci is a folder of the layout that Nemotron's configurations have: groups and multipliers instead of counts.
func deci(edit func(blocks []map[string]any)) converttest.Folder {
	m := gguftest.Tiny("llama")
	m.Hidden, m.HeadDim = 64, 16
	for i := range m.Layers {
		m.Layers[i].FFN = 256
	}
	return converttest.Folder{Model: m, Class: "DeciLMForCausalLM", Edit: func(c map[string]any) {
		var blocks []map[string]any
		for range m.Layers {
			blocks = append(blocks, map[string]any{
				"attention": map[string]any{"n_heads_in_group": 2, "no_op": false, "replace_with_linear": false, "window_length": nil},
				"ffn":       map[string]any{"ffn_mult": 5.25, "no_op": false, "replace_with_linear": false}, // 2·5.25·64/3 = 224, rounded up
			})
		}
		if edit != nil {
			edit(blocks)
		}
		c["block_configs"], c["num_key_value_heads"], c["intermediate_size"] = blocks, nil, nil
	}}
}

func TestNemotronConfig(t *testing.T) {
	dir, source := converttest.Open(t, deci(nil))
	f := folderToFile(t, dir, convert.Options{})
	c, err := f.Config()
	if err != nil {
		t.Fatal(err)
	}
	if want := slices.Repeat([]subnet.LayerGeometry{{Heads: 4, KVHeads: 2, FFN: 256}}, 3); c.Arch != "deci" || !slices.Equal(c.Layers, want) {
		t.Errorf("%+v", c)
	}
	for _, tensor := range source.Tensors() {
		a, err := source.Read(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := f.Read(tensor.Name); err != nil || !slices.Equal(a, b) {
			t.Errorf("%s differs, error %v", tensor.Name, err)
		}
	}
}

func TestNemotronConfigRefuses(t *testing.T) {
	set := func(layer int, block, key string, value any) func([]map[string]any) {
		return func(blocks []map[string]any) { blocks[layer][block].(map[string]any)[key] = value }
	}
	for _, test := range []struct {
		name   string
		edit   func([]map[string]any)
		want   error
		reason string
	}{
		{"linear attention", set(1, "attention", "replace_with_linear", true), convert.ErrUnsupported, "block_configs: layer 1: unsupported model: replace_with_linear"},
		{"linear MLP", set(2, "ffn", "replace_with_linear", true), convert.ErrUnsupported, "layer 2"},
		{"odd groups", set(0, "attention", "n_heads_in_group", 3), convert.ErrFormat, "n_heads_in_group"},
		{"no groups", set(0, "attention", "n_heads_in_group", nil), convert.ErrFormat, "n_heads_in_group"},
		{"no width", set(0, "ffn", "ffn_mult", 0), convert.ErrFormat, "ffn_mult"},
		{"another width", set(0, "ffn", "ffn_mult", 12.0), convert.ErrFormat, "needs [512 64]"},
		{"a huge width", set(0, "ffn", "ffn_mult", 1e300), convert.ErrFormat, "ffn_mult"},
		{"nothing at all", func(blocks []map[string]any) {
			for _, b := range blocks {
				b["ffn"].(map[string]any)["no_op"], b["attention"].(map[string]any)["no_op"] = true, true
			}
		}, convert.ErrFormat, "is without effect"},
	} {
		dir, _ := converttest.Open(t, deci(test.edit))
		_, err := convert.Folder(t.Context(), dir, filepath.Join(t.TempDir(), "x.gguf"), convert.Options{})
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A vocabulary of byte pairs comes back too, whichever way it splits text.
func TestFolderOfPairs(t *testing.T) {
	for _, pre := range []string{"smollm", "gpt-2", "qwen2", "llama-bpe"} {
		m := gguftest.Tiny("llama")
		m.Tied = true
		m.Edit = func(kv *gguf.KV) { // the vocabulary of a family that has pairs
			from := gguftest.Open(t, gguftest.Tiny("qwen3")).KV()
			for _, key := range from.Keys() {
				if value, _ := from.Value(key); strings.HasPrefix(key, "tokenizer.ggml.") {
					if err := kv.Set(key, value); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := kv.Set("tokenizer.ggml.pre", pre); err != nil {
				t.Fatal(err)
			}
		}
		f := gguftest.Open(t, m)
		dir := filepath.Join(t.TempDir(), "folder")
		if _, err := convert.WriteFolder(t.Context(), f, dir, nil); err != nil {
			t.Fatal(err)
		}
		back := folderToFile(t, dir, convert.Options{})
		for _, key := range []string{"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.add_bos_token",
			"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.chat_template"} {
			sameValue(t, key, f.KV(), back.KV())
		}
	}
}
