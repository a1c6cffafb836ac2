package convert

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
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
func pieces(files folder, config settings, vocab int) (map[string]any, error) {
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
	return v.values(&model, config), nil
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
			token = plain(token)
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
		if err := json.Unmarshal(b, &extra); err != nil {
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
		if err := json.Unmarshal(b, &t); err != nil {
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
			v.set(t.ID, plain(t.Content), typeUser)
		}
	}
	return nil
}

// plain returns the text of a piece. Added tokens are matched against text with spaces.
func plain(piece string) string { return strings.ReplaceAll(piece, spaceMark, " ") }

// set makes a token an added one, unless it already is.
func (v *pieceList) set(id int, token string, kind int32) {
	if v.tokens[id] == token && v.types[id] == kind {
		return
	}
	v.tokens[id], v.scores[id], v.types[id] = token, addedScore, kind
}

// values returns the keys of the vocabulary. Special tokens of the configuration replace those of the model.
func (v *pieceList) values(model *sentencepiece.ModelProto, config settings) map[string]any {
	out := map[string]any{
		"tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default",
		"tokenizer.ggml.tokens": v.tokens, "tokenizer.ggml.scores": v.scores, "tokenizer.ggml.token_type": v.types,
		"tokenizer.ggml.add_space_prefix": model.GetNormalizerSpec().GetAddDummyPrefix(),
	}
	trainer := model.GetTrainerSpec()
	for _, s := range []struct {
		key   string
		id    int32
		token special
	}{
		{"bos", trainer.GetBosId(), config.BOS}, {"eos", trainer.GetEosId(), config.EOS}, {"unknown", trainer.GetUnkId(), config.UNK},
		{"padding", trainer.GetPadId(), config.PAD},
	} {
		id := int(s.id)
		if at := slices.Index(v.tokens, string(s.token)); at >= 0 && s.token != "" {
			id = at
		}
		if id >= 0 && id < len(v.tokens) {
			out["tokenizer.ggml."+s.key+"_token_id"] = uint32(id)
		}
	}
	if config.AddBOS != nil {
		out["tokenizer.ggml.add_bos_token"] = *config.AddBOS
	}
	if config.AddEOS != nil {
		out["tokenizer.ggml.add_eos_token"] = *config.AddEOS
	}
	if config.Template != "" {
		out["tokenizer.chat_template"] = string(config.Template)
	}
	return out
}
