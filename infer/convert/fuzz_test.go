package convert

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ollama/ollama/convert/sentencepiece"

	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf"
)

// The tensors of an accepted header are inside the file.
func FuzzSafetensors(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	f.Add([]byte("\x40\x00\x00\x00\x00\x00\x00\x00" + `{"a":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]}}        ` + "abcd"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseSafetensors(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("error %v", err)
			}
			return
		}
		for _, w := range list {
			if w.offset < 8 || w.size < 0 || w.offset+w.size > int64(len(b)) {
				t.Errorf("%+v of %d bytes", w, len(b))
			}
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"architectures":["LlamaForCausalLM"],"hidden_size":64,"intermediate_size":128,"num_hidden_layers":1,"num_attention_heads":4,` +
		`"max_position_embeddings":512,"vocab_size":320,"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,` +
		`"original_max_position_embeddings":8192}}`))
	f.Add([]byte(`{"architectures":["Gemma3ForCausalLM"],"hidden_size":64,"intermediate_size":128,"num_hidden_layers":7,"num_attention_heads":4,` +
		`"max_position_embeddings":512,"vocab_size":320,"sliding_window":9,"layer_types":["sliding_attention"],"rope_parameters":{"full_attention":` +
		`{"rope_type":"linear","factor":8,"rope_theta":1e6},"sliding_attention":{"rope_theta":10000}}}`))
	f.Add([]byte(`{"architectures":["OPTForCausalLM"],"hidden_size":64,"ffn_dim":128,"num_hidden_layers":1,"num_attention_heads":4,` +
		`"max_position_embeddings":512,"vocab_size":320,"word_embed_proj_dim":64,"activation_function":"relu"}`))
	f.Add([]byte(`{"architectures":["Qwen3ForCausalLM"],"rope_parameters":{"type":"linear"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseConfig(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("error %v", err)
			}
			return
		}
		for i, v := range c.ropeFactors() {
			if !(v > 0) {
				t.Errorf("factor %d is %v", i, v)
			}
		}
	})
}

func FuzzTokenizer(f *testing.F) {
	f.Add([]byte(`{"model":{"type":"BPE","vocab":{"a":0,"b":1},"merges":["a b"]},"added_tokens":[{"id":2,"content":"c","special":true}],`+
		`"pre_tokenizer":{"type":"ByteLevel"}}`), []byte(`{"bos_token":"c","add_bos_token":true,"chat_template":"x"}`))
	f.Add([]byte(`{"model":{"type":"BPE","byte_fallback":true,"unk_token":"c","vocab":{"a":0,"b":1,"ab":3},"merges":[["a","b"]]},"added_tokens":[{"id":2,"content":"c","special":true}],`+
		`"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},`+
		`"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"c"}},{"Sequence":{"id":"A"}}],"special_tokens":{"c":{"ids":[2]}}}}`),
		[]byte(`{"eos_token":"c","x":NaN}`))
	f.Fuzz(func(t *testing.T, tokenizerJSON, config []byte) {
		_, err := tokenizer(folder{"tokenizer.json": tokenizerJSON, "tokenizer_config.json": config}, 8, &gguf.KV{})
		if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzOPTVocabulary(f *testing.F) {
	f.Add([]byte(`{"<s>":0,"</s>":1,"t":2,"h":3,"th":4}`), []byte("#version: 0.2\nt h\n"), []byte(`{"bos_token":{"content":"</s>"}}`))
	f.Add([]byte(`null`), []byte("\r\n"), []byte(`{"add_bos_token":1}`))
	f.Fuzz(func(t *testing.T, vocab, merges, config []byte) {
		files := folder{"vocab.json": vocab, "merges.txt": merges, "tokenizer_config.json": config}
		err := files.completeOPT()
		if err == nil {
			_, err = tokenizer(files, 8, &gguf.KV{})
		}
		if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzSentencePiece(f *testing.F) {
	for _, m := range []*sentencepiece.ModelProto{converttest.Pieces(true, "<unk>", "<s>", "</s>"), converttest.Pieces(false, "<pad>", "<eos>", "<bos>", "<unk>")} {
		b, err := converttest.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, []byte(`{"bos_token":"<s>","added_tokens_decoder":{"3":{"content":"x","special":true}}}`), []byte(`{"y":4}`))
	}
	f.Fuzz(func(t *testing.T, model, config, added []byte) {
		const vocab = 300
		kv := &gguf.KV{}
		_, err := tokenizer(folder{"tokenizer.model": model, "tokenizer_config.json": config, "added_tokens.json": added}, vocab, kv)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("error %v", err)
			}
			return
		}
		types, _ := kv.Ints("tokenizer.ggml.token_type")
		scores, _ := kv.Value("tokenizer.ggml.scores")
		if len(types) != vocab || len(scores.([]float32)) != vocab {
			t.Errorf("%d types for %d tokens", len(types), vocab)
		}
	})
}
