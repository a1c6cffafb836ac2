package convert_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// object is an object of JSON.
type object = map[string]any

// byteLevel is a step of tokenizer.json.
func byteLevel(regex bool) object {
	return object{"type": "ByteLevel", "add_prefix_space": false, "use_regex": regex}
}

// tokenizerFolder is a folder whose tokenizer.json and config.json were changed.
func tokenizerFolder(t *testing.T, change func(tokenizer object), files map[string]any) string {
	t.Helper()
	dir, _ := write(t, tiny("llama", nil), "LlamaForCausalLM", func(c map[string]any) {
		if more, ok := files["config.json"].(object); ok {
			for key, value := range more {
				c[key] = value
			}
		}
	})
	tokenizer := converttest.Tokenizer(320, byteLevel(true))
	if change != nil {
		change(tokenizer)
	}
	put(t, dir, "tokenizer.json", tokenizer)
	for name, content := range files {
		if content == nil {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		} else if name != "config.json" {
			put(t, dir, name, content)
		}
	}
	return dir
}

func template(before, behind []string) object {
	single := []any{}
	tokens := object{}
	add := func(list []string) {
		for _, s := range list {
			single = append(single, object{"SpecialToken": object{"id": s, "type_id": 0}})
			tokens[s] = object{"id": s, "ids": []int{map[string]int{"<s>": 0, "</s>": 1}[s]}, "tokens": []string{s}}
		}
	}
	add(before)
	single = append(single, object{"Sequence": object{"id": "A", "type_id": 0}})
	add(behind)
	return object{"type": "TemplateProcessing", "single": single, "special_tokens": tokens}
}

// Steps that change tokens and that llama.cpp does not compute are refused by their names.
func TestTokenizerSteps(t *testing.T) {
	split := func(pattern string, more object) object {
		s := object{"type": "Split", "pattern": object{"Regex": pattern}, "behavior": "Isolated", "invert": false}
		for key, value := range more {
			s[key] = value
		}
		return s
	}
	const llama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	pre := func(steps ...any) func(object) {
		return func(t object) { t["pre_tokenizer"] = object{"type": "Sequence", "pretokenizers": steps} }
	}
	model := func(key string, value any) func(object) {
		return func(t object) { t["model"].(object)[key] = value }
	}
	for _, test := range []struct {
		name    string
		change  func(object)
		refused string
		pre     string
	}{
		{"plain", nil, "", "gpt-2"},
		{"one step", func(t object) { t["pre_tokenizer"] = byteLevel(true) }, "", "gpt-2"},
		{"everything between matches removed", pre(split(llama3, object{"behavior": "Removed", "invert": true}), byteLevel(false)), "", "dbrx"},
		{"digits one by one", pre(split(llama3, nil), object{"type": "Digits", "individual_digits": true}, byteLevel(false)), "", "qwen2"},
		{"nested", pre(object{"type": "Sequence", "pretokenizers": []any{split(llama3, nil)}}, byteLevel(false)), "", "dbrx"},
		{"no step", func(t object) { t["pre_tokenizer"] = nil }, "pre_tokenizer: llama.cpp does not compute without ByteLevel", ""},
		{"matches removed", pre(split(llama3, object{"behavior": "Removed"}), byteLevel(false)), "pre_tokenizer: llama.cpp does not compute Split by", ""},
		{"merged", pre(split(llama3, object{"behavior": "MergedWithNext"}), byteLevel(false)), "MergedWithNext", ""},
		{"without bytes", pre(split(llama3, nil)), "without ByteLevel", ""},
		{"prefix behind a step", pre(object{"type": "Digits", "individual_digits": true}, object{"type": "ByteLevel", "add_prefix_space": true}), "ByteLevel with add_prefix_space behind another step", ""},
		{"three digits behind", pre(object{"type": "Punctuation", "behavior": "Contiguous"}, byteLevel(true), split("[0-9][0-9][0-9]", nil)), "", "falcon"},
		{"other steps behind", pre(byteLevel(true), split("[a-z]", nil)), "Split behind ByteLevel", ""},
		{"digits behind", pre(byteLevel(true), object{"type": "Digits", "individual_digits": true}), "Digits behind ByteLevel", ""},
		{"unknown steps", pre(object{"type": "Punctuation", "behavior": "Contiguous"}, byteLevel(true)), "lathe does not know a name of llama.cpp for the steps Punctuation, ByteLevel", ""},
		{"unknown kind", pre(object{"type": "UnicodeScripts"}, byteLevel(true)), "UnicodeScripts", ""},
		{"lowercase", func(t object) { t["normalizer"] = object{"type": "Lowercase"} }, "normalizer: llama.cpp does not compute Lowercase", ""},
		{"in a sequence", func(t object) {
			t["normalizer"] = object{"type": "Sequence", "normalizers": []any{object{"type": "NFC"}, object{"type": "StripAccents"}}}
		}, "StripAccents", ""},
		{"an empty sequence", func(t object) { t["normalizer"] = object{"type": "Sequence", "normalizers": []any{}} }, "", "gpt-2"},
		{"other processor", func(t object) { t["post_processor"] = object{"type": "RobertaProcessing"} }, "post_processor RobertaProcessing", ""},
		{"two tokens before", func(t object) { t["post_processor"] = template([]string{"<s>", "</s>"}, nil) }, "puts 2 tokens before", ""},
		{"another token before", func(t object) { t["post_processor"] = template([]string{"</s>"}, nil) }, "puts token 1 first, llama.cpp the bos token 0", ""},
		{"whole words", func(t object) {
			t["added_tokens"].([]any)[0].(object)["single_word"], t["added_tokens"].([]any)[0].(object)["special"] = true, false
		}, "single_word of a token that is not special", ""},
		{"dropout", model("dropout", 0.1), "dropout 0.1", ""},
		{"suffix", model("end_of_word_suffix", "</w>"), `end_of_word_suffix "</w>"`, ""},
		{"merge of no token", model("merges", []string{"t zz"}), `merges: "zz" is not a token`, ""},
	} {
		dir := tokenizerFolder(t, test.change, nil)
		path := filepath.Join(t.TempDir(), "x.gguf")
		_, err := convert.Folder(t.Context(), dir, path, convert.Options{})
		switch {
		case test.refused != "":
			if err == nil || !strings.Contains(err.Error(), test.refused) || !strings.Contains(err.Error(), "tokenizer.json") {
				t.Errorf("%s: error %v, want %q", test.name, err, test.refused)
			}
		case err != nil:
			t.Errorf("%s: %v", test.name, err)
		default:
			if got, _ := open(t, path).KV().String("tokenizer.ggml.pre"); got != test.pre {
				t.Errorf("%s: %q, want %q", test.name, got, test.pre)
			}
		}
	}
	for _, test := range []struct {
		note   string
		change func(object)
	}{
		{"normalizer NFC", func(t object) { t["normalizer"] = object{"type": "NFC"} }},
		{"add_prefix_space", func(t object) { t["pre_tokenizer"] = object{"type": "ByteLevel", "add_prefix_space": true} }},
		{"ignore_merges", model("ignore_merges", true)},
		{"lstrip true", func(t object) { t["added_tokens"].([]any)[0].(object)["lstrip"] = true }},
	} {
		r, _ := convertTo(t, tokenizerFolder(t, test.change, nil), "")
		if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], test.note) {
			t.Errorf("%s: notes %q", test.note, r.Notes)
		}
	}
}

// Properties of added tokens are stored in the file and in folders that are written of it.
func TestWholeTokens(t *testing.T) {
	flags := func(id int, names ...string) func(object) {
		return func(t object) {
			for _, name := range names {
				t["added_tokens"].([]any)[id].(object)[name] = true
			}
		}
	}
	r, f := convertTo(t, tokenizerFolder(t, flags(0, "lstrip", "rstrip", "single_word"), nil), "")
	want := gguf.WholeTokens{LStrip: []int32{0}, RStrip: []int32{0}, SingleWord: []int32{0}}
	id := int32(-1)
	for _, n := range f.KV().WholeTokens().LStrip {
		id = n
	}
	want.LStrip[0], want.RStrip[0], want.SingleWord[0] = id, id, id
	if got := f.KV().WholeTokens(); id < 0 || !reflect.DeepEqual(got, want) || len(r.Notes) != 1 {
		t.Errorf("%+v, notes %q", got, r.Notes)
	}
	to := filepath.Join(t.TempDir(), "folder")
	if _, err := convert.WriteFolder(t.Context(), f, to, nil); err != nil {
		t.Fatal(err)
	}
	if _, again := convertTo(t, to, ""); !reflect.DeepEqual(again.KV().WholeTokens(), want) {
		t.Errorf("of the written folder: %+v", again.KV().WholeTokens())
	}
}

// Steps that lathe computes itself are stored in the file and in folders that are written of it.
func TestTextSteps(t *testing.T) {
	nfc := object{"type": "NFC"}
	qwen := object{"type": "Sequence", "pretokenizers": []any{
		object{"type": "Split", "pattern": object{"Regex": `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`}, "behavior": "Isolated", "invert": false}, byteLevel(false),
	}}
	prefix := object{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}
	for _, test := range []struct {
		name            string
		normalizer, pre any
		want            gguf.TextSteps
		notes           int
	}{
		{"none", nil, byteLevel(true), gguf.TextSteps{}, 0},
		{"NFC", nfc, byteLevel(true), gguf.TextSteps{Compose: true}, 1},
		{"prefix", object{"type": "Sequence", "normalizers": []any{nfc}}, prefix, gguf.TextSteps{Compose: true, SpacePrefix: true}, 2},
		{"Qwen", nfc, qwen, gguf.TextSteps{Compose: true}, 0},
		{"its steps without NFC", nil, qwen, gguf.TextSteps{}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := tokenizerFolder(t, func(tok object) { tok["normalizer"], tok["pre_tokenizer"] = test.normalizer, test.pre }, nil)
			r, f := convertTo(t, dir, "")
			if got := f.KV().TextSteps(); got != test.want || len(r.Notes) != test.notes {
				t.Errorf("%+v, notes %q", got, r.Notes)
			}
			to := filepath.Join(t.TempDir(), "folder")
			if _, err := convert.WriteFolder(t.Context(), f, to, nil); err != nil {
				t.Fatal(err)
			}
			if _, again := convertTo(t, to, ""); again.KV().TextSteps() != test.want {
				t.Errorf("of the written folder: %+v", again.KV().TextSteps())
			}
		})
	}
}

// Start and end tokens come from every place that transformers reads, and never from the defaults of another model.
func TestSpecialTokens(t *testing.T) {
	const prefix = "tokenizer.ggml."
	bos := func(t object) { t["post_processor"] = template([]string{"<s>"}, nil) }
	for _, test := range []struct {
		name   string
		change func(object)
		files  map[string]any
		want   map[string]any // without the prefix of the keys
	}{
		{"named", nil, map[string]any{"config.json": object{"bos_token_id": 7, "eos_token_id": 8}},
			map[string]any{"bos_token_id": uint32(0), "eos_token_id": uint32(1), "eos_token_ids": []int32{1, 8}, "eot_token_id": uint32(8)}},
		{"special_tokens_map.json", nil, map[string]any{"tokenizer_config.json": object{}, "special_tokens_map.json": object{"bos_token": object{"content": "<s>"}, "eos_token": "</s>"}},
			map[string]any{"bos_token_id": uint32(0), "eos_token_id": uint32(1)}},
		{"config.json", nil, map[string]any{"tokenizer_config.json": nil, "config.json": object{"bos_token_id": 7, "eos_token_id": 8, "pad_token_id": 9}},
			map[string]any{"bos_token_id": uint32(7), "eos_token_id": uint32(8), "padding_token_id": uint32(9), "add_bos_token": false, "eos_token_ids": nil}},
		{"generation_config.json", nil, map[string]any{"tokenizer_config.json": object{"bos_token": nil}, "config.json": object{"bos_token_id": nil, "eos_token_id": nil},
			"generation_config.json": object{"bos_token_id": 3, "eos_token_id": []int{4, 5, 6, 4}}},
			map[string]any{"bos_token_id": uint32(3), "eos_token_id": uint32(4), "eos_token_ids": []int32{4, 5, 6}, "eot_token_id": uint32(5), "eom_token_id": uint32(6)}},
		{"list in config.json", nil, map[string]any{"config.json": object{"eos_token_id": []int{1, 9}}}, map[string]any{"eos_token_id": uint32(1), "eos_token_ids": []int32{1, 9}}},
		{"beyond the vocabulary", nil, map[string]any{"config.json": object{"eos_token_id": []int{400, 1}}}, map[string]any{"eos_token_id": uint32(1), "eos_token_ids": nil}},
		{"the class's", nil, map[string]any{"tokenizer_config.json": nil}, map[string]any{"bos_token_id": uint32(1), "eos_token_id": uint32(2)}},
		{"no start", nil, map[string]any{"tokenizer_config.json": object{"eos_token": "</s>", "add_bos_token": true}, "config.json": object{"bos_token_id": nil}},
			map[string]any{"bos_token_id": nil, "add_bos_token": false}},
		{"post-processor", bos, nil, map[string]any{"add_bos_token": true, "add_eos_token": false}},
		{"in a sequence", func(t object) {
			t["post_processor"] = object{"type": "Sequence", "processors": []any{object{"type": "ByteLevel"}, template([]string{"<s>"}, []string{"</s>"})}}
		}, nil, map[string]any{"add_bos_token": true, "add_eos_token": true}},
		{"setting replaces the post-processor", bos, map[string]any{"tokenizer_config.json": object{"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false}}, map[string]any{"add_bos_token": false, "add_eos_token": false}},
		{"texts that llama.cpp knows", func(t object) {
			t["added_tokens"] = append(t["added_tokens"].([]any), object{"id": 300, "content": "<|im_end|>", "special": true}, object{"id": 301, "content": "<|turn_over|>", "special": true})
			delete(t["model"].(object)["vocab"].(map[string]int), "unused300")
			delete(t["model"].(object)["vocab"].(map[string]int), "unused301")
		}, map[string]any{"generation_config.json": object{"eos_token_id": []int{1, 300, 301}}}, map[string]any{"eos_token_ids": []int32{1, 300, 301}, "eot_token_id": uint32(301), "eom_token_id": nil}},
	} {
		_, f := convertTo(t, tokenizerFolder(t, test.change, test.files), "")
		for key, want := range test.want {
			if got, _ := f.KV().Value(prefix + key); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %s is %v, want %v", test.name, key, got, want)
			}
		}
	}
	dir := tokenizerFolder(t, nil, map[string]any{"tokenizer_config.json": nil, "config.json": object{"eos_token_id": nil}})
	_, err := convert.Folder(t.Context(), dir, filepath.Join(t.TempDir(), "x"), convert.Options{})
	if !errors.Is(err, convert.ErrUnsupported) || !strings.Contains(err.Error(), "no end token") {
		t.Errorf("no end token: error %v", err)
	}
}

// A vocabulary of SentencePiece has the lists, too.
func TestSpecialTokensOfPieces(t *testing.T) {
	dir := pieces(t, converttest.Pieces(true, "<unk>", "<s>", "</s>"), map[string]any{})
	put(t, dir, "generation_config.json", object{"eos_token_id": []int{2, 5}})
	_, f := convertTo(t, dir, "")
	if got, _ := f.KV().Value("tokenizer.ggml.eos_token_ids"); !reflect.DeepEqual(got, []int32{2, 5}) {
		t.Errorf("end tokens %v", got)
	}
}

// A tokenizer.model that is none of SentencePiece is not read where there is a tokenizer.json.
func TestForeignTokenizerModel(t *testing.T) {
	for _, content := range []string{"IQ== 0\nIg== 1\n", "IQ== 0\r\nIg== 1\r\n", "", "no protocol buffer"} {
		dir := tokenizerFolder(t, nil, map[string]any{"tokenizer.model": []byte(content)})
		_, f := convertTo(t, dir, "")
		if got, _ := f.KV().String("tokenizer.ggml.model"); got != "gpt2" {
			t.Errorf("%q: a vocabulary of %s", content, got)
		}
	}
	dir := tokenizerFolder(t, nil, map[string]any{"tokenizer.model": []byte("IQ== 0\nIg== 1\n")})
	if err := os.Remove(filepath.Join(dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := convert.Folder(t.Context(), dir, filepath.Join(t.TempDir(), "x"), convert.Options{}); err == nil || !strings.Contains(err.Error(), "tiktoken") {
		t.Errorf("tiktoken's file alone: error %v", err)
	}
}

// The files of a folder are JSON as Python writes it.
func TestPythonsJSON(t *testing.T) {
	dir := tokenizerFolder(t, nil, nil)
	for _, name := range []string{"config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json", "special_tokens_map.json", "added_tokens.json"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			b = []byte("{\"unused\": 1}")
			if name == "added_tokens.json" {
				b = []byte("{}")
			}
		}
		text := strings.TrimSpace(string(b))
		more := `"a":NaN,"b":[Infinity,-Infinity],"c":"NaN \" Infinity\\",`
		if name == "added_tokens.json" {
			more = ""
		}
		put(t, dir, name, []byte("\ufeff{"+more+text[1:]))
	}
	if _, f := convertTo(t, dir, ""); !f.KV().Has("tokenizer.ggml.tokens") {
		t.Error("no tokens")
	}
	for raw, reason := range map[string]string{
		`"rms_norm_eps":NaN,`: "config.json: not a valid model folder: rms_norm_eps is a string, not a number", `"hidden_size":64.5,`: "hidden_size is a number 64.5, not a whole number",
		`"hidden_size":[64],`: "hidden_size is an array, not a whole number", `"rope_theta":-Infinity,`: "rope_theta",
	} {
		dir := tokenizerFolder(t, nil, nil)
		b, err := os.ReadFile(filepath.Join(dir, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		key := raw[:strings.Index(raw, ":")]
		text := string(b)
		at := strings.Index(text, key)
		end := at + strings.IndexAny(text[at:], ",}")
		put(t, dir, "config.json", slices.Concat([]byte(text[:at]), []byte(strings.TrimSuffix(raw, ",")), []byte(text[end:])))
		if _, err := convert.Folder(t.Context(), dir, filepath.Join(t.TempDir(), "x"), convert.Options{}); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: error %v, want %q", raw, err, reason)
		}
	}
}
