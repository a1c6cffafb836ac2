package convert_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

func tiny(arch string, edit func(*gguftest.Model)) gguftest.Model {
	m := gguftest.Tiny(arch)
	if edit != nil {
		edit(&m)
	}
	return m
}

// folderToFile converts and opens the result.
func folderToFile(t *testing.T, dir string, o convert.Options) *gguf.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.gguf")
	r, err := convert.Folder(context.Background(), dir, path, o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if r.Bytes != f.Size() || r.Tensors != len(f.Tensors()) || r.Path != path {
		t.Errorf("%+v of a file of %d bytes and %d tensors", r, f.Size(), len(f.Tensors()))
	}
	return f
}

// A folder written from the numbers of a GGUF file must come back as the same numbers, to the last bit, and the same network.
func TestFoldersComeBack(t *testing.T) {
	for _, test := range []struct {
		name, class string
		model       gguftest.Model
		edit        func(map[string]any)
	}{
		{"llama", "LlamaForCausalLM", tiny("llama", nil), nil},
		{"mistral", "MistralForCausalLM", tiny("llama", nil), func(c map[string]any) { c["sliding_window"] = nil }},
		{"llama tied", "LlamaForCausalLM", tiny("llama", func(m *gguftest.Model) { m.Tied = true }), nil},
		{"llama biases", "LlamaForCausalLM", tiny("llama", func(m *gguftest.Model) { m.QKVBias = true }), nil},
		{"llama bf16", "LlamaForCausalLM", tiny("llama", func(m *gguftest.Model) { m.Type = gguf.BF16 }), nil},
		{"llama f32", "LlamaForCausalLM", tiny("llama", func(m *gguftest.Model) { m.Type = gguf.F32 }), nil},
		{"qwen2", "Qwen2ForCausalLM", tiny("qwen2", nil), func(c map[string]any) { c["sliding_window"], c["use_sliding_window"] = 8, false }},
		{"qwen3", "Qwen3ForCausalLM", tiny("qwen3", nil), nil},
		{"qwen3 tied", "Qwen3ForCausalLM", tiny("qwen3", func(m *gguftest.Model) { m.Tied = true }), nil},
		{"gemma2", "Gemma2ForCausalLM", tiny("gemma2", nil), nil},
		{"opt", "OPTForCausalLM", tiny("opt", nil), nil},
		{"gemma3", "Gemma3ForCausalLM", tiny("gemma3", nil), func(c map[string]any) {
			delete(c, "tie_word_embeddings") // what is as usual is left out
			delete(c, "rope_local_base_freq")
			delete(c, "rope_theta")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, source := write(t, test.model, test.class, test.edit)
			out := folderToFile(t, dir, convert.Options{})
			want, err := source.Config()
			if err != nil {
				t.Fatal(err)
			}
			got, err := out.Config()
			if err != nil {
				t.Fatal(err)
			}
			got.Name, want.Name = "", ""
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if len(out.Tensors()) != len(source.Tensors()) {
				t.Errorf("%d tensors of %d", len(out.Tensors()), len(source.Tensors()))
			}
			for _, tensor := range source.Tensors() {
				a, err := source.Read(tensor.Name)
				if err != nil {
					t.Fatal(err)
				}
				b, err := out.Read(tensor.Name)
				if err != nil || !slices.Equal(a, b) {
					t.Errorf("%s differs, error %v", tensor.Name, err)
				}
			}
		})
	}
}

func TestRotaryScaling(t *testing.T) {
	m := tiny("llama", func(m *gguftest.Model) { m.RopeBase = 500000 })
	scaling := map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
	dir, _ := write(t, m, "LlamaForCausalLM", func(c map[string]any) { c["rope_scaling"] = scaling })
	c, err := folderToFile(t, dir, convert.Options{}).Config()
	if err != nil {
		t.Fatal(err)
	}
	want := llama3(500000, 16)
	for i := range want {
		if d := c.RopeFactors[i]/want[i] - 1; d > 1e-6 || d < -1e-6 {
			t.Errorf("pair %d: factor %v, want %v", i, c.RopeFactors[i], want[i])
		}
	}
	dir, _ = write(t, m, "LlamaForCausalLM", func(c map[string]any) {
		delete(c, "rope_theta")
		c["rope_parameters"] = map[string]any{"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}
	})
	c, err = folderToFile(t, dir, convert.Options{}).Config()
	if err != nil || c.RopeBase != 5000 || c.RopeScale != 2 {
		t.Errorf("base %v, scale %v, error %v", c.RopeBase, c.RopeScale, err)
	}
}

// A folder of OPT's has its vocabulary in two files of its own, and texts that begin with the token that ends them.
func TestOPTFolder(t *testing.T) {
	m := tiny("opt", nil)
	dir, _ := write(t, m, "OPTForCausalLM", nil)
	kv := folderToFile(t, dir, convert.Options{}).KV()
	for key, want := range map[string]any{
		"general.architecture": "opt", "opt.context_length": uint32(512), "opt.attention.layer_norm_epsilon": float32(1e-5), "opt.rope.freq_base": nil,
		"tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.merges": []string{"t h"},
		"tokenizer.ggml.bos_token_id": uint32(1), "tokenizer.ggml.eos_token_id": uint32(1), "tokenizer.ggml.add_bos_token": true,
	} {
		got, _ := kv.Value(key)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	types, _ := kv.Ints("tokenizer.ggml.token_type")
	if len(types) != 320 || types[0] != 3 || types[1] != 3 || types[2] != 1 {
		t.Errorf("tokens of types %v", types)
	}
	for _, test := range []struct {
		name   string
		edit   func(map[string]any)
		want   error
		reason string
	}{
		{"projected embeddings", func(c map[string]any) { c["word_embed_proj_dim"] = 32 }, convert.ErrUnsupported, "opt-350m"},
		{"norms behind", func(c map[string]any) { c["do_layer_norm_before"] = false }, convert.ErrUnsupported, "do_layer_norm_before"},
		{"no last norm", func(c map[string]any) { c["_remove_final_layer_norm"] = true }, convert.ErrUnsupported, "_remove_final_layer_norm"},
		{"no biases", func(c map[string]any) { c["enable_bias"] = false }, convert.ErrUnsupported, "enable_bias"},
		{"another activation", func(c map[string]any) { c["activation_function"] = "gelu" }, convert.ErrUnsupported, "gelu"},
		{"heads that do not divide", func(c map[string]any) { c["num_attention_heads"] = 5 }, convert.ErrFormat, "64 for 5 heads"},
		{"fewer positions", func(c map[string]any) { c["max_position_embeddings"] = 100 }, convert.ErrFormat, "[514 64]"},
	} {
		dir, _ := write(t, m, "OPTForCausalLM", test.edit)
		_, err := convert.Folder(context.Background(), dir, filepath.Join(t.TempDir(), "x"), convert.Options{})
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: error %v", test.name, err)
		}
	}
	dir, _ = write(t, m, "OPTForCausalLM", nil)
	if err := os.Remove(filepath.Join(dir, "merges.txt")); err != nil {
		t.Fatal(err)
	}
	if _, err := convert.Folder(context.Background(), dir, filepath.Join(t.TempDir(), "x"), convert.Options{}); !errors.Is(err, convert.ErrFormat) || !strings.Contains(err.Error(), "merges.txt") {
		t.Errorf("without merges: error %v", err)
	}
	put(t, dir, "tokenizer.json", converttest.Tokenizer(m.Vocab, map[string]any{"type": "ByteLevel", "add_prefix_space": false}))
	if pre, _ := folderToFile(t, dir, convert.Options{}).KV().String("tokenizer.ggml.pre"); pre != "gpt-2" {
		t.Errorf("with tokenizer.json: %q", pre)
	}
}

func TestTypesAndProgress(t *testing.T) {
	dir, source := write(t, tiny("llama", nil), "LlamaForCausalLM", nil)
	var last, total int64
	out := folderToFile(t, dir, convert.Options{Type: "Q8_0", Progress: func(done, all int64) {
		if done < last || done > all {
			t.Errorf("%d of %d after %d", done, all, last)
		}
		last, total = done, all
	}})
	if last == 0 || last != total {
		t.Errorf("ended at %d of %d", last, total)
	}
	for _, tensor := range out.Tensors() {
		want, _, err := source.Float32(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := out.Float32(tensor.Name)
		if err != nil || (len(tensor.Dims) == 2) != (tensor.Type == gguf.Q8_0) {
			t.Fatalf("%+v, error %v", tensor, err)
		}
		for i := range want {
			if d := got[i] - want[i]; d > 0.01 || d < -0.01 {
				t.Fatalf("%s: number %d is %v, want %v", tensor.Name, i, got[i], want[i])
			}
		}
	}
}

func TestTokenizer(t *testing.T) {
	split := func(kind string) []any { return []any{map[string]any{"type": kind}} }
	regex := func(pattern string) []any {
		return []any{map[string]any{"type": "Split", "pattern": map[string]any{"Regex": pattern}, "behavior": "Isolated"}, // ignore_merges is false
			map[string]any{"type": "ByteLevel", "use_regex": false}}
	}
	for _, test := range []struct {
		name  string
		steps []any
		want  string
	}{
		{"smollm", nil, "smollm"},
		{"gpt-2", split("ByteLevel"), "gpt-2"},
		{"qwen2", regex(`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`), "qwen2"},
		{"dbrx", regex(`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`), "dbrx"},
		{"unknown", split("Whitespace"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := tiny("llama", nil)
			dir, _ := write(t, m, "LlamaForCausalLM", nil)
			if test.steps != nil {
				put(t, dir, "tokenizer.json", converttest.Tokenizer(m.Vocab, test.steps...))
			}
			put(t, dir, "chat_template.jinja", []byte("{{ bos_token }}"))
			if test.want == "" {
				_, err := convert.Folder(context.Background(), dir, filepath.Join(t.TempDir(), "x"), convert.Options{})
				if !errors.Is(err, convert.ErrUnsupported) {
					t.Errorf("error %v", err)
				}
				return
			}
			kv := folderToFile(t, dir, convert.Options{}).KV()
			for key, want := range map[string]any{
				"tokenizer.ggml.pre": test.want, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.merges": []string{"t h"},
				"tokenizer.ggml.bos_token_id": uint32(0), "tokenizer.ggml.eos_token_id": uint32(1), "tokenizer.chat_template": "{{ bos_token }}",
				"tokenizer.ggml.add_bos_token": false, "llama.vocab_size": uint32(320),
			} {
				got, _ := kv.Value(key)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: %s", key, diff)
				}
			}
			if tokens, _ := kv.Strings("tokenizer.ggml.tokens"); len(tokens) != 320 || tokens[0] != "<s>" || tokens[258] != "th" {
				t.Errorf("tokens %.200q", tokens)
			}
		})
	}
}

// Embeddings often have more rows than there are tokens. llama.cpp needs a token for each, which no text contains.
func TestTokenizerIsPadded(t *testing.T) {
	dir, _ := write(t, tiny("llama", nil), "LlamaForCausalLM", nil)
	put(t, dir, "tokenizer.json", converttest.Tokenizer(300, map[string]any{"type": "ByteLevel"}))
	kv := folderToFile(t, dir, convert.Options{}).KV()
	tokens, _ := kv.Strings("tokenizer.ggml.tokens")
	types, _ := kv.Ints("tokenizer.ggml.token_type")
	if len(tokens) != 320 || len(types) != 320 || types[299] != 1 || types[300] != 5 || types[319] != 5 {
		t.Errorf("%d tokens, the last of types %v", len(tokens), types[max(0, len(types)-25):])
	}
}

func TestFolderRefuses(t *testing.T) {
	key := func(name string, value any) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			config := map[string]any{}
			_, _ = write(t, tiny("llama", nil), "LlamaForCausalLM", func(c map[string]any) { config = c })
			config[name] = value
			put(t, dir, "config.json", config)
		}
	}
	file := func(name string, content []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) { put(t, dir, name, content) }
	}
	remove := func(pattern, instead string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			paths, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil || len(paths) == 0 {
				t.Fatal(paths, err)
			}
			for _, path := range paths {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			if instead != "" {
				put(t, dir, instead, []byte("PK"))
			}
		}
	}
	one := safetensors(t, map[string]converttest.Tensor{"model.norm.weight": {Type: "F32", Dims: []int{1}, Data: make([]byte, 4)}})
	for _, test := range []struct {
		name   string
		change func(*testing.T, string)
		want   error
		reason string
	}{
		{"no config", remove("config.json", ""), convert.ErrFormat, "config.json"},
		{"config is not JSON", file("config.json", []byte("{")), convert.ErrFormat, "config.json"},
		{"another class", key("architectures", []string{"BloomForCausalLM"}), convert.ErrUnsupported, "BloomForCausalLM"},
		{"quantised", key("quantization_config", map[string]any{"quant_method": "gptq"}), convert.ErrUnsupported, "quantised"},
		{"another activation", key("hidden_act", "gelu"), convert.ErrUnsupported, "gelu"},
		{"yarn", key("rope_scaling", map[string]any{"type": "yarn", "factor": 4}), convert.ErrUnsupported, `"yarn"`},
		{"no layers", key("num_hidden_layers", 0), convert.ErrFormat, "num_hidden_layers is 0"},
		{"fewer layers", key("num_hidden_layers", 2), convert.ErrUnsupported, "does not belong to a model of 2 layers"},
		{"more layers", key("num_hidden_layers", 4), convert.ErrFormat, "lack blk.3"},
		{"groups that do not divide", key("num_key_value_heads", 3), convert.ErrFormat, "4 query heads of 16 on 3 KV heads"},
		{"another width", key("intermediate_size", 64), convert.ErrFormat, "extents [128 64] where config.json needs [64 64]"},
		{"another vocabulary", key("vocab_size", 321), convert.ErrFormat, "needs [321 64]"},
		{"pickles only", remove("*.safetensors", "pytorch_model.bin"), convert.ErrPickle, "pytorch_model.bin"},
		{"no weights", remove("*.safetensors", ""), convert.ErrFormat, "no safetensors files"},
		{"a shard is missing", remove("model-00001*", ""), convert.ErrFormat, "the safetensors files lack"},
		{"a tensor twice", file("z.safetensors", one), convert.ErrFormat, "occurs twice"},
		{"no tokenizer", remove("tokenizer.json", ""), convert.ErrFormat, "tokenizer"},
		{"tokenizer is not JSON", file("tokenizer.json", []byte("[")), convert.ErrFormat, "tokenizer.json"},
		{"tokenizer of pieces", file("tokenizer.json", []byte(`{"model":{"type":"BPE","byte_fallback":true}}`)), convert.ErrUnsupported, "without ▁"},
		{"tokenizer of another kind", file("tokenizer.json", []byte(`{"model":{"type":"Unigram"}}`)), convert.ErrUnsupported, "Unigram"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir, _ := write(t, tiny("llama", nil), "LlamaForCausalLM", nil)
			test.change(t, dir)
			to := t.TempDir()
			_, err := convert.Folder(context.Background(), dir, filepath.Join(to, "out.gguf"), convert.Options{})
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("error %v", err)
			}
			if left, err := os.ReadDir(to); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v %v", left, err)
			}
		})
	}
	dir, _ := write(t, tiny("llama", nil), "LlamaForCausalLM", nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := convert.Folder(ctx, dir, filepath.Join(t.TempDir(), "out.gguf"), convert.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error %v", err)
	}
}
