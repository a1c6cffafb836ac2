package convert

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ollama/ollama/convert/sentencepiece"
	"google.golang.org/protobuf/proto"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// sidecars returns the files of the folder other than weights.
func (o *folderWriter) sidecars() (map[string][]byte, error) {
	files := make(map[string][]byte)
	put := func(name string, content any) error {
		b, err := json.MarshalIndent(content, "", "  ")
		files[name] = b
		return err
	}
	if err := put("config.json", o.config); err != nil {
		return nil, err
	}
	generation := map[string]any{"_from_model_config": true}
	for key, id := range map[string]*uint64{"bos_token_id": o.config.BOS, "eos_token_id": o.config.EOS} {
		if id != nil {
			generation[key] = *id
		}
	}
	if err := put("generation_config.json", generation); err != nil {
		return nil, err
	}
	v, err := newOutVocab(o.file.KV())
	if err != nil {
		return nil, err
	}
	settings, err := v.settings()
	if err != nil {
		return nil, err
	}
	if err := put("tokenizer_config.json", settings); err != nil {
		return nil, err
	}
	if v.model == "llama" {
		if files["tokenizer.model"], err = v.pieces(); err != nil {
			return nil, err
		}
		return files, put("tokenizer.json", v.pieceTokenizer(v.spacePrefix()))
	}
	t, err := v.pairs()
	if err != nil {
		return nil, err
	}
	return files, put("tokenizer.json", t)
}

// outVocab is the vocabulary of a file.
type outVocab struct {
	kv     *gguf.KV
	model  string
	tokens []string
	types  []int64
	scores []float32
}

func newOutVocab(kv *gguf.KV) (*outVocab, error) {
	v := &outVocab{kv: kv}
	v.model, _ = kv.String("tokenizer.ggml.model")
	v.tokens, _ = kv.Strings("tokenizer.ggml.tokens")
	v.types, _ = kv.Ints("tokenizer.ggml.token_type")
	v.scores, _ = kv.Floats("tokenizer.ggml.scores")
	switch {
	case v.model != "gpt2" && v.model != "llama":
		return nil, fmt.Errorf("%w: tokenizer model %.20q", ErrUnsupported, v.model)
	case len(v.tokens) == 0 || len(v.types) != len(v.tokens), v.model == "llama" && len(v.scores) != len(v.tokens):
		return nil, fmt.Errorf("%w: %d tokens of %d types and %d scores", gguf.ErrFormat, len(v.tokens), len(v.types), len(v.scores))
	}
	return v, nil
}

// id returns the number of a special token.
func (v *outVocab) id(key string) (int, bool) {
	id, ok := v.kv.Uint("tokenizer.ggml." + key + "_token_id")
	return int(id), ok && id < uint64(len(v.tokens))
}

// added returns the tokens that are matched before text is split.
func (v *outVocab) added() []addedToken {
	var list []addedToken
	whole := v.kv.WholeTokens()
	for i, token := range v.tokens {
		if kind := v.types[i]; kind == typeControl || kind == typeUser || kind == typeUnknown {
			id := int32(i)
			list = append(list, addedToken{
				ID: i, Content: token, Special: kind != typeUser,
				LStrip: slices.Contains(whole.LStrip, id), RStrip: slices.Contains(whole.RStrip, id), SingleWord: slices.Contains(whole.SingleWord, id),
			})
		}
	}
	return list
}

// settings returns tokenizer_config.json.
func (v *outVocab) settings() (map[string]any, error) {
	out := map[string]any{"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false}
	if v.model == "llama" {
		out["tokenizer_class"], out["legacy"], out["add_prefix_space"] = "LlamaTokenizer", true, v.spacePrefix()
	}
	decoder := make(map[string]any)
	for _, t := range v.added() {
		if v.model == "llama" && !t.Special { // the piece of the vocabulary, or it would get a number of its own
			t.Content = mark(t.Content)
		}
		decoder[strconv.Itoa(t.ID)] = map[string]any{
			"content": t.Content, "special": t.Special, "lstrip": t.LStrip, "rstrip": t.RStrip, "normalized": false, "single_word": t.SingleWord,
		}
	}
	out["added_tokens_decoder"] = decoder
	for key, name := range map[string]string{"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"} {
		if id, ok := v.id(key); ok {
			out[name] = v.tokens[id]
		}
	}
	for _, key := range []string{"add_bos_token", "add_eos_token"} {
		if add, ok := v.kv.Bool("tokenizer.ggml." + key); ok {
			out[key] = add
		} else if v.model == "llama" {
			out[key] = key == "add_bos_token" // the default of llama.cpp
		}
	}
	if template, ok := v.kv.String("tokenizer.chat_template"); ok {
		out["chat_template"] = template
	}
	return out, nil
}

// mark returns a piece of a text with spaces, see [plain].
func mark(text string) string { return strings.ReplaceAll(text, " ", spaceMark) }

// spacePrefix reports whether a space is put before a text.
func (v *outVocab) spacePrefix() bool {
	add, ok := v.kv.Bool("tokenizer.ggml.add_space_prefix")
	return add || !ok
}

// pieces returns tokenizer.model.
func (v *outVocab) pieces() ([]byte, error) {
	prefix := v.spacePrefix()
	trainer := &sentencepiece.TrainerSpec{ModelType: sentencepiece.TrainerSpec_BPE.Enum(), VocabSize: proto.Int32(int32(len(v.tokens)))}
	// SentencePiece has −1 for special tokens that do not exist.
	trainer.BosId, trainer.EosId, trainer.UnkId, trainer.PadId = v.number("bos"), v.number("eos"), v.number("unknown"), v.number("padding")
	m := &sentencepiece.ModelProto{
		TrainerSpec:    trainer,
		NormalizerSpec: &sentencepiece.NormalizerSpec{Name: proto.String("identity"), AddDummyPrefix: &prefix, RemoveExtraWhitespaces: proto.Bool(false)},
	}
	for i, token := range v.tokens {
		kind := sentencepiece.ModelProto_SentencePiece_Type(v.types[i])
		if kind < typeNormal || kind > typeByte {
			return nil, fmt.Errorf("%w: token %d is of type %d", gguf.ErrFormat, i, kind)
		}
		if kind == typeUser {
			token = mark(token)
		}
		if kind == typeByte {
			trainer.ByteFallback = proto.Bool(true)
		}
		m.Pieces = append(m.Pieces, &sentencepiece.ModelProto_SentencePiece{Piece: &token, Score: &v.scores[i], Type: &kind})
	}
	return proto.Marshal(m)
}

func (v *outVocab) number(key string) *int32 {
	if id, ok := v.id(key); ok {
		return proto.Int32(int32(id))
	}
	return proto.Int32(-1)
}

// pairs returns tokenizer.json.
func (v *outVocab) pairs() (map[string]any, error) {
	merges, ok := v.kv.Strings("tokenizer.ggml.merges")
	if !ok {
		return nil, fmt.Errorf("%w: a byte-pair vocabulary without merges", gguf.ErrFormat)
	}
	pre, _ := v.kv.String("tokenizer.ggml.pre")
	text := v.kv.TextSteps()
	steps, ignoreMerges, err := splitSteps(pre, text.SpacePrefix)
	if err != nil {
		return nil, err
	}
	var normalizer any
	if text.Compose {
		normalizer = map[string]any{"type": "NFC"}
	}
	vocab := make(map[string]int, len(v.tokens)) // with the added tokens too: those that are missing are numbered from its size on
	for i, token := range v.tokens {
		vocab[token] = i
	}
	added := []any{}
	for _, t := range v.added() {
		added = append(added, map[string]any{"id": t.ID, "content": t.Content, "special": t.Special, "lstrip": t.LStrip, "rstrip": t.RStrip, "normalized": false, "single_word": t.SingleWord})
	}
	out := map[string]any{
		"version": "1.0", "added_tokens": added, "normalizer": normalizer,
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": steps},
		"decoder":       map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
		"model": map[string]any{
			"type": "BPE", "vocab": vocab, "merges": merges, "dropout": nil, "unk_token": nil, "byte_fallback": false, "fuse_unk": false,
			"ignore_merges": ignoreMerges,
		},
	}
	if v.addsBOS(pre) {
		v.startWithBOS(out)
	}
	return out, nil
}

// startWithBOS adds the post-processor that puts the start token before a text, where there is one.
func (v *outVocab) startWithBOS(out map[string]any) {
	bos, ok := v.id("bos")
	if !ok {
		return
	}
	token := v.tokens[bos]
	first := map[string]any{"SpecialToken": map[string]any{"id": token, "type_id": 0}}
	text := func(id string, kind int) map[string]any {
		return map[string]any{"Sequence": map[string]any{"id": id, "type_id": kind}}
	}
	out["post_processor"] = map[string]any{
		"type": "TemplateProcessing", "single": []any{first, text("A", 0)}, "pair": []any{first, text("A", 0), text("B", 1)},
		"special_tokens": map[string]any{token: map[string]any{"id": token, "ids": []int{bos}, "tokens": []string{token}}},
	}
}

// addsBOS reports whether every text begins with the start token.
func (v *outVocab) addsBOS(pre string) bool {
	add, ok := v.kv.Bool("tokenizer.ggml.add_bos_token")
	return ok && add || !ok && (pre == "llama-bpe" || sameSplitter[pre] == "llama-bpe")
}
