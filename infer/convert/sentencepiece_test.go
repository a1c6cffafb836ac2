package convert_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ollama/ollama/convert/sentencepiece"
	"google.golang.org/protobuf/proto"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// pieces writes a folder whose tokenizer is a SentencePiece model, with 400 rows of embedding.
func pieces(t *testing.T, m *sentencepiece.ModelProto, config map[string]any) string {
	t.Helper()
	dir, _ := write(t, tiny("llama", func(m *gguftest.Model) { m.Vocab = 400 }), "LlamaForCausalLM", nil)
	b, err := converttest.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, "tokenizer.model", b)
	put(t, dir, "tokenizer_config.json", config)
	if err := os.Remove(filepath.Join(dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// gemmaPieces are special tokens in the order of Gemma's, and texts matched before any splitting.
func gemmaPieces() (*sentencepiece.ModelProto, map[string]any) {
	return converttest.Pieces(false, "<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>"), map[string]any{
		"add_bos_token": true, "add_eos_token": false, "bos_token": map[string]any{"content": "<bos>"}, "eos_token": "<eos>", "pad_token": "<pad>",
		"added_tokens_decoder": map[string]any{"261": map[string]any{"content": "▁▁", "special": false}, "4": map[string]any{"content": "<start_of_turn>", "special": true}},
		"chat_template":        []any{map[string]any{"name": "rag", "template": "no"}, map[string]any{"name": "default", "template": "{{ yes }}"}},
	}
}

func TestSentencePiece(t *testing.T) {
	llama := folderToFile(t, pieces(t, converttest.Pieces(true, "<unk>", "<s>", "</s>"), map[string]any{"pad_token": nil}), convert.Options{}).KV()
	model, config := gemmaPieces()
	gemma := folderToFile(t, pieces(t, model, config), convert.Options{}).KV()
	for key, want := range map[string][2]any{
		"tokenizer.ggml.model":            {"llama", "llama"},
		"tokenizer.ggml.add_space_prefix": {true, false},
		"tokenizer.ggml.add_bos_token":    {nil, true},
		"tokenizer.ggml.add_eos_token":    {nil, false},
		"tokenizer.ggml.bos_token_id":     {uint32(1), uint32(2)},
		"tokenizer.ggml.eos_token_id":     {uint32(2), uint32(1)},
		"tokenizer.ggml.unknown_token_id": {uint32(0), uint32(3)},
		"tokenizer.ggml.padding_token_id": {nil, uint32(0)},
		"tokenizer.chat_template":         {nil, "{{ yes }}"},
	} {
		a, _ := llama.Value(key)
		b, _ := gemma.Value(key)
		if a != want[0] || b != want[1] {
			t.Errorf("%s is %v and %v, want %v", key, a, b, want)
		}
	}
	tokens, _ := gemma.Strings("tokenizer.ggml.tokens")
	types, _ := gemma.Ints("tokenizer.ggml.token_type")
	for id, want := range map[int]struct {
		token string
		kind  int64
	}{2: {"<bos>", 3}, 3: {"<unk>", 2}, 5: {"<0x00>", 6}, 261: {"  ", 4}, 262: {"▁t", 1}, 399: {"[PAD399]", 5}} {
		if tokens[id] != want.token || types[id] != want.kind {
			t.Errorf("token %d is %q of type %d, want %v", id, tokens[id], types[id], want)
		}
	}
}

func TestSentencePieceRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*sentencepiece.ModelProto, map[string]any)
		want   error
		reason string
	}{
		{"another kind", func(m *sentencepiece.ModelProto, _ map[string]any) {
			m.TrainerSpec.ModelType = sentencepiece.TrainerSpec_UNIGRAM.Enum()
		}, convert.ErrUnsupported, "UNIGRAM"},
		{"rewrites text", func(m *sentencepiece.ModelProto, _ map[string]any) {
			m.NormalizerSpec.Name, m.NormalizerSpec.PrecompiledCharsmap = proto.String("nmt_nfkc"), []byte("x")
		}, convert.ErrUnsupported, "nmt_nfkc"},
		{"nothing", func(m *sentencepiece.ModelProto, _ map[string]any) { m.Pieces = nil }, convert.ErrFormat, "no pieces"},
		{"twice the same", func(m *sentencepiece.ModelProto, _ map[string]any) { m.Pieces[9].Piece = proto.String("<0x00>") }, convert.ErrFormat, "are both \"<0x00>\""},
		{"a token without a number", func(_ *sentencepiece.ModelProto, c map[string]any) {
			c["added_tokens_decoder"] = map[string]any{"x": map[string]any{"content": "y"}}
		}, convert.ErrFormat, "added_tokens_decoder"},
		{"a number below 0", func(_ *sentencepiece.ModelProto, c map[string]any) {
			c["added_tokens_decoder"] = map[string]any{"-1": map[string]any{"content": "y"}}
		}, convert.ErrFormat, "added token -1"},
	} {
		m, config := gemmaPieces()
		test.change(m, config)
		_, err := convert.Folder(context.Background(), pieces(t, m, config), filepath.Join(t.TempDir(), "x.gguf"), convert.Options{})
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	dir := pieces(t, converttest.Pieces(true, "<unk>", "<s>", "</s>"), map[string]any{})
	put(t, dir, "tokenizer.model", []byte("no protocol buffer"))
	if _, err := convert.Folder(context.Background(), dir, filepath.Join(t.TempDir(), "x.gguf"), convert.Options{}); !errors.Is(err, convert.ErrFormat) || !strings.Contains(err.Error(), "tokenizer.model") {
		t.Errorf("nonsense: %v", err)
	}
}
