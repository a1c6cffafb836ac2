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

// Types of tokens as llama.cpp and SentencePiece number them.
const (
	typeNormal  = 1
	typeUnknown = 2
	typeControl = 3
	typeUser    = 4
	typeUnused  = 5
	typeByte    = 6
)

// addedScore is the score of tokens that are matched before text is split, which has none.
const addedScore = -1000

// spaceMark stands for a space in a piece.
const spaceMark = "▁"

// pieces reads a vocabulary of SentencePiece from tokenizer.model, and the tokens that were added to it from where
// transformers keeps them: tokenizer_config.json, else tokenizer.json, and added_tokens.json.
func pieces(files folder, said settings, vocab int) (map[string]any, error) {
	var model sentencepiece.ModelProto
	if err := proto.Unmarshal(files["tokenizer.model"], &model); err != nil {
		return nil, fmt.Errorf("tokenizer.model: %w: %w", ErrFormat, err)
	}
	if kind := model.GetTrainerSpec().GetModelType(); kind != sentencepiece.TrainerSpec_BPE {
		return nil, fmt.Errorf("tokenizer.model: %w: pieces chosen by %s, where llama.cpp merges pairs", ErrUnsupported, kind)
	}
	if len(model.GetNormalizerSpec().GetPrecompiledCharsmap()) > 0 {
		return nil, fmt.Errorf("tokenizer.model: %w: it rewrites text as %.40q before splitting it", ErrUnsupported, model.GetNormalizerSpec().GetName())
	}
	v, err := newVocabulary(&model, vocab)
	if err != nil {
		return nil, fmt.Errorf("tokenizer.model: %w", err)
	}
	if err := v.addFrom(files, said); err != nil {
		return nil, err
	}
	return v.values(&model, said), nil
}

// wordList is a vocabulary in the making.
type wordList struct {
	tokens []string
	scores []float32
	types  []int32
}

// newVocabulary is the pieces of a model and, up to the rows of the embedding, tokens that no text has.
func newVocabulary(model *sentencepiece.ModelProto, vocab int) (*wordList, error) {
	list := model.GetPieces()
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no pieces", ErrFormat)
	}
	v := &wordList{}
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

// addFrom takes in the tokens that the files add. Those beyond the rows of the embedding can never come up.
func (v *wordList) addFrom(files folder, said settings) error {
	var apart map[string]int
	if b, ok := files["added_tokens.json"]; ok {
		if err := json.Unmarshal(b, &apart); err != nil {
			return fmt.Errorf("added_tokens.json: %w: %w", ErrFormat, err)
		}
	}
	var list []addedToken
	for content, id := range apart {
		list = append(list, addedToken{ID: id, Content: content})
	}
	for key, t := range said.Added {
		id, err := strconv.Atoi(key)
		if err != nil {
			return fmt.Errorf("tokenizer_config.json: %w: added_tokens_decoder has a token %.40q", ErrFormat, key)
		}
		list = append(list, addedToken{ID: id, Content: t.Content, Special: t.Special})
	}
	if b, ok := files["tokenizer.json"]; ok && len(said.Added) == 0 {
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
			return fmt.Errorf("tokenizer: %w: an added token has number %d and text %.40q", ErrFormat, t.ID, t.Content)
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

// plain is a piece as text has it: tokens that are matched before text is split are matched against spaces.
func plain(piece string) string { return strings.ReplaceAll(piece, spaceMark, " ") }

// set makes a token one that was added, unless the model has it as such.
func (v *wordList) set(id int, token string, kind int32) {
	if v.tokens[id] == token && v.types[id] == kind {
		return
	}
	v.tokens[id], v.scores[id], v.types[id] = token, addedScore, kind
}

// values are the keys of the vocabulary. Of the special tokens the configuration has the last word, the model the first.
func (v *wordList) values(model *sentencepiece.ModelProto, said settings) map[string]any {
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
		{"bos", trainer.GetBosId(), said.BOS}, {"eos", trainer.GetEosId(), said.EOS}, {"unknown", trainer.GetUnkId(), said.UNK},
		{"padding", trainer.GetPadId(), said.PAD},
	} {
		id := int(s.id)
		if at := slices.Index(v.tokens, string(s.token)); at >= 0 && s.token != "" {
			id = at
		}
		if id >= 0 && id < len(v.tokens) {
			out["tokenizer.ggml."+s.key+"_token_id"] = uint32(id)
		}
	}
	if said.AddBOS != nil {
		out["tokenizer.ggml.add_bos_token"] = *said.AddBOS
	}
	if said.AddEOS != nil {
		out["tokenizer.ggml.add_eos_token"] = *said.AddEOS
	}
	if said.Template != "" {
		out["tokenizer.chat_template"] = string(said.Template)
	}
	return out
}
