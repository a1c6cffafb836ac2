package convert

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ollama/ollama/convert/sentencepiece"
	"google.golang.org/protobuf/proto"
)

// Token types, in the numbering of llama.cpp and SentencePiece.
const (
	typeNormal  = 1
	typeUnknown = 2
	typeControl = 3
	typeUser    = 4
	typeUnused  = 5
	typeByte    = 6
)

// addedScore is the score of tokens that are matched before text is split. They are never merged.
const addedScore = -1000

// spaceMark represents a space in a piece.
const spaceMark = "▁"

// pieces reads a SentencePiece vocabulary from tokenizer.model, and the added tokens from the files of transformers:
// tokenizer_config.json, else tokenizer.json, and added_tokens.json.
func pieces(files folder, config settings, vocab int) (*vocabulary, error) {
	if isTiktoken(files["tokenizer.model"]) {
		return nil, fmt.Errorf("tokenizer.model: %w: it is a tiktoken file: save the tokenizer with transformers, which writes tokenizer.json", ErrUnsupported)
	}
	var model sentencepiece.ModelProto
	if err := proto.Unmarshal(files["tokenizer.model"], &model); err != nil {
		return nil, fmt.Errorf("tokenizer.model: %w: %w", ErrFormat, err)
	}
	if kind := model.GetTrainerSpec().GetModelType(); kind != sentencepiece.TrainerSpec_BPE {
		return nil, fmt.Errorf("tokenizer.model: %w: model type %s, llama.cpp merges pairs", ErrUnsupported, kind)
	}
	if len(model.GetNormalizerSpec().GetPrecompiledCharsmap()) > 0 {
		return nil, fmt.Errorf("tokenizer.model: %w: it normalises text by %.40q before splitting it", ErrUnsupported, model.GetNormalizerSpec().GetName())
	}
	v, err := newVocabulary(&model, vocab)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.model: %w", err)
	}
	if err := v.addFrom(files, config); err != nil {
		return nil, err
	}
	return v.vocabulary(&model, config), nil
}

// pieceList is a vocabulary of pieces.
type pieceList struct {
	tokens []string
	scores []float32
	types  []int32
}

// newVocabulary returns the pieces of a model, padded with unused tokens to the rows of the embedding.
func newVocabulary(model *sentencepiece.ModelProto, vocab int) (*pieceList, error) {
	list := model.GetPieces()
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no pieces", ErrFormat)
	}
	v := &pieceList{}
	for i, p := range list[:min(len(list), vocab)] {
		kind := int32(p.GetType())
		switch kind {
		case typeNormal, typeUnknown, typeControl, typeUser, typeUnused, typeByte:
		default:
			return nil, fmt.Errorf("%w: piece %d is of type %d", ErrFormat, i, kind)
		}
		if p.GetPiece() == "" || math.IsNaN(float64(p.GetScore())) {
			return nil, fmt.Errorf("%w: piece %d is %.40q of score %v", ErrFormat, i, p.GetPiece(), p.GetScore())
		}
		token := p.GetPiece()
		if kind == typeUser {
			token = plainText(token)
		}
		v.tokens, v.scores, v.types = append(v.tokens, token), append(v.scores, p.GetScore()), append(v.types, kind)
	}
	for i := len(v.tokens); i < vocab; i++ {
		v.tokens, v.scores, v.types = append(v.tokens, fmt.Sprintf("[PAD%d]", i)), append(v.scores, addedScore), append(v.types, typeUnused)
	}
	return v, nil
}

// addFrom adds the tokens of the files. It skips those beyond the rows of the embedding, which no model computes.
func (v *pieceList) addFrom(files folder, config settings) error {
	var extra map[string]int
	if b, ok := files["added_tokens.json"]; ok {
		if err := unmarshal(b, &extra); err != nil {
			return fmt.Errorf("added_tokens.json: %w: %w", ErrFormat, err)
		}
	}
	var list []addedToken
	for content, id := range extra {
		list = append(list, addedToken{ID: id, Content: content})
	}
	for key, t := range config.Added {
		id, err := strconv.Atoi(key)
		if err != nil {
			return fmt.Errorf("tokenizer_config.json: %w: added_tokens_decoder has a token %.40q", ErrFormat, key)
		}
		list = append(list, addedToken{ID: id, Content: t.Content, Special: t.Special})
	}
	if b, ok := files["tokenizer.json"]; ok && len(config.Added) == 0 {
		var t struct {
			Added []addedToken `json:"added_tokens"`
		}
		if err := unmarshal(b, &t); err != nil {
			return fmt.Errorf("tokenizer.json: %w: %w", ErrFormat, err)
		}
		list = append(list, t.Added...)
	}
	for _, t := range list {
		if t.ID < 0 || t.Content == "" {
			return fmt.Errorf("tokenizer: %w: added token %d is %.40q", ErrFormat, t.ID, t.Content)
		}
		if t.ID >= len(v.tokens) || v.types[t.ID] == typeUnknown || v.types[t.ID] == typeByte {
			continue
		}
		if t.Special || v.types[t.ID] == typeControl {
			v.set(t.ID, t.Content, typeControl)
		} else {
			v.set(t.ID, plainText(t.Content), typeUser)
		}
	}
	return nil
}

// plainText returns the text of a piece. Added tokens are matched against text with spaces.
func plainText(piece string) string { return strings.ReplaceAll(piece, spaceMark, " ") }

// set makes a token an added one, unless it already is.
func (v *pieceList) set(id int, token string, kind int32) {
	if v.tokens[id] == token && v.types[id] == kind {
		return
	}
	v.tokens[id], v.scores[id], v.types[id] = token, addedScore, kind
}

// vocabulary returns the keys of the vocabulary and the special tokens of the model.
func (v *pieceList) vocabulary(model *sentencepiece.ModelProto, config settings) *vocabulary {
	out := &vocabulary{tokens: v.tokens, types: v.types, named: make(map[string]int), addBOS: config.AddBOS, addEOS: config.AddEOS, values: map[string]any{
		"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default",
		"tokenizer.ggml.tokens": v.tokens, "tokenizer.ggml.scores": v.scores, "tokenizer.ggml.token_type": v.types,
		"tokenizer.ggml.add_space_prefix": model.GetNormalizerSpec().GetAddDummyPrefix(),
	}}
	trainer := model.GetTrainerSpec()
	for key, id := range map[string]int32{"bos": trainer.GetBosId(), "eos": trainer.GetEosId(), "unknown": trainer.GetUnkId(), "padding": trainer.GetPadId()} {
		if id >= 0 && int(id) < len(v.tokens) {
			out.named[key] = int(id)
		}
	}
	return out
}

// isSentencePiece reports whether tokenizer.model holds the pieces of a SentencePiece model. Some folders have a file of tiktoken by that name.
func isSentencePiece(b []byte) bool {
	var model sentencepiece.ModelProto
	return !isTiktoken(b) && proto.Unmarshal(b, &model) == nil && len(model.GetPieces()) > 0
}

// isTiktoken reports whether a file has tiktoken's form: lines of a token in base64 and its number.
func isTiktoken(b []byte) bool {
	line, _, _ := strings.Cut(string(b[:min(len(b), 1<<12)]), "\n")
	token, number, ok := strings.Cut(strings.TrimSpace(line), " ")
	if !ok {
		return false
	}
	_, notBase64 := base64.StdEncoding.DecodeString(token)
	_, notNumber := strconv.Atoi(number)
	return notBase64 == nil && notNumber == nil
}
