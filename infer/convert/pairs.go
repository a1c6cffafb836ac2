package convert

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// tokenizerJSON is tokenizer.json.
type tokenizerJSON struct {
	Model struct {
		Type         string         `json:"type"`
		Vocab        map[string]int `json:"vocab"`
		Merges       merges         `json:"merges"`
		ByteFallback bool           `json:"byte_fallback"`
		IgnoreMerges bool           `json:"ignore_merges"`
		Dropout      *float64       `json:"dropout"`
		Prefix       string         `json:"continuing_subword_prefix"`
		Suffix       string         `json:"end_of_word_suffix"`
		Unknown      string         `json:"unk_token"`
	} `json:"model"`
	Added      []addedToken `json:"added_tokens"`
	Normalizer *step        `json:"normalizer"`
	Pre        *step        `json:"pre_tokenizer"`
	Post       *processor   `json:"post_processor"`
}

// merges are pairs of tokens, each stored as one string with a space or as a list of two.
type merges [][2]string

// UnmarshalJSON implements [json.Unmarshaler].
func (m *merges) UnmarshalJSON(b []byte) error {
	var joined []string
	if json.Unmarshal(b, &joined) == nil {
		for _, s := range joined {
			at := -1
			if s != "" {
				at = strings.IndexByte(s[1:], ' ')
			}
			if at < 0 {
				return fmt.Errorf("merges: %.40q is not a pair", s)
			}
			*m = append(*m, [2]string{s[:at+1], s[at+2:]})
		}
		return nil
	}
	var pairs [][]string
	if err := json.Unmarshal(b, &pairs); err != nil {
		return err
	}
	for _, p := range pairs {
		if len(p) != 2 {
			return fmt.Errorf("merges: %.40q is not a pair", p)
		}
		*m = append(*m, [2]string(p))
	}
	return nil
}

// fromJSON reads a vocabulary from tokenizer.json.
func fromJSON(files folder, vocab int) (*vocabulary, error) {
	var t tokenizerJSON
	if err := unmarshal(files["tokenizer.json"], &t); err != nil {
		return nil, fmt.Errorf("tokenizer.json: %w: %w", ErrFormat, err)
	}
	switch m := t.Model; {
	case m.Type != "" && m.Type != "BPE":
		return nil, fmt.Errorf("tokenizer.json: %w: a model of type %.20q, llama.cpp has none of these for the families that lathe converts", ErrUnsupported, m.Type)
	case m.Dropout != nil && *m.Dropout > 0:
		return nil, fmt.Errorf("tokenizer.json: %w: model: dropout %v gives random tokens", ErrUnsupported, *m.Dropout)
	case m.Prefix != "", m.Suffix != "":
		return nil, fmt.Errorf("tokenizer.json: %w: model: continuing_subword_prefix %.20q, end_of_word_suffix %.20q", ErrUnsupported, m.Prefix, m.Suffix)
	}
	v, err := t.list(vocab)
	if err != nil {
		return nil, err
	}
	if t.Model.ByteFallback {
		err = t.byteFallback(v)
	} else {
		err = t.byteLevel(v)
	}
	if err != nil {
		return nil, err
	}
	if err := t.frame(v); err != nil {
		return nil, err
	}
	if err := v.whole(t.Added); err != nil {
		return nil, err
	}
	return v, nil
}

// whole sets the keys of added tokens that take part in what is beside them, which lathe computes itself.
func (v *vocabulary) whole(added []addedToken) error {
	noted := false
	for _, a := range added {
		if a.SingleWord && !a.Special {
			return fmt.Errorf("tokenizer.json: %w: added token %.40q: single_word of a token that is not special, which llama.cpp matches everywhere", ErrUnsupported, a.Content)
		}
		for _, flag := range []struct {
			set bool
			key string
		}{{a.LStrip, gguf.LStripKey}, {a.RStrip, gguf.RStripKey}, {a.SingleWord, gguf.SingleWordKey}} {
			if flag.set {
				ids, _ := v.values[flag.key].([]int32)
				v.values[flag.key] = append(ids, int32(a.ID))
			}
		}
		if (a.LStrip || a.RStrip || a.SingleWord) && !noted {
			noted = true
			v.notes = append(v.notes, fmt.Sprintf("tokenizer.json: added token %.40q (lstrip %v, rstrip %v, single_word %v): other programs with llama.cpp leave white space beside it in the text, and match it inside words", a.Content, a.LStrip, a.RStrip, a.SingleWord))
		}
	}
	return nil
}

// list returns the tokens by their numbers, padded with unused ones to the rows of the embedding.
func (t *tokenizerJSON) list(vocab int) (*vocabulary, error) {
	v := &vocabulary{tokens: make([]string, vocab), types: make([]int32, vocab), values: make(map[string]any), named: make(map[string]int)}
	for token, id := range t.Model.Vocab {
		if id < 0 || id >= vocab || v.types[id] != 0 {
			return nil, fmt.Errorf("tokenizer.json: %w: token %.40q has number %d of %d", ErrFormat, token, id, vocab)
		}
		v.tokens[id], v.types[id] = token, typeNormal
	}
	for _, a := range t.Added {
		if a.ID < 0 || a.ID >= vocab {
			return nil, fmt.Errorf("tokenizer.json: %w: added token %.40q has number %d of %d", ErrFormat, a.Content, a.ID, vocab)
		}
		v.tokens[a.ID], v.types[a.ID] = a.Content, typeUser
		if a.Special {
			v.types[a.ID] = typeControl
		}
	}
	for id, kind := range v.types {
		if kind == 0 {
			v.tokens[id], v.types[id] = fmt.Sprintf("[PAD%d]", id), typeUnused
		}
	}
	for _, pair := range t.Model.Merges {
		for _, token := range []string{pair[0], pair[1], pair[0] + pair[1]} {
			if _, ok := t.Model.Vocab[token]; !ok {
				return nil, fmt.Errorf("tokenizer.json: %w: merges: %.40q is not a token", ErrFormat, token)
			}
		}
	}
	return v, nil
}

// byteLevel sets the keys of a vocabulary of bytes that are written as letters.
func (t *tokenizerJSON) byteLevel(v *vocabulary) error {
	compose := false
	for _, s := range t.Normalizer.list() {
		if compose = s.Type == "NFC"; !compose {
			return unsupportedStep("normalizer", s.Type, "")
		}
	}
	steps, prefix, err := expressions(t.Pre)
	if err != nil {
		return err
	}
	name, note, err := nameSplitter(t.Pre, steps, t.Model.IgnoreMerges)
	if err != nil {
		return err
	}
	// lathe makes these changes of a text itself.
	v.values[gguf.ComposeKey] = compose
	if compose && name != "qwen2" {
		v.notes = append(v.notes, "tokenizer.json: normalizer NFC: other programs with llama.cpp do not compose characters, so that text with separate accents gets other tokens there")
	}
	if prefix {
		v.values[gguf.SpacePrefixKey] = true
		v.notes = append(v.notes, "tokenizer.json: pre_tokenizer ByteLevel with add_prefix_space: other programs with llama.cpp do not put the space before a text, whose first word gets another token there")
	}
	if note != "" {
		v.notes = append(v.notes, note)
	}
	joined := make([]string, len(t.Model.Merges))
	for i, pair := range t.Model.Merges {
		joined[i] = pair[0] + " " + pair[1]
	}
	scores := make([]float32, len(v.tokens))
	for i := range scores {
		if scores[i] = float32(i); v.types[i] == typeUnused {
			scores[i] = -1
		}
	}
	v.values["tokenizer.ggml.model"], v.values["tokenizer.ggml.pre"] = "gpt2", name
	v.values["tokenizer.ggml.tokens"], v.values["tokenizer.ggml.token_type"] = v.tokens, v.types
	v.values["tokenizer.ggml.scores"], v.values["tokenizer.ggml.merges"] = scores, joined
	return nil
}

// byteFallback sets the keys of a vocabulary of pieces: what the tokenizers library makes of a SentencePiece model. llama.cpp merges the pair
// whose piece has the highest score, which gives the same tokens where scores decrease in the order of the merges.
func (t *tokenizerJSON) byteFallback(v *vocabulary) error {
	prefix, err := t.pieceSteps(v)
	if err != nil {
		return err
	}
	rank := make(map[string]int, len(t.Model.Merges))
	known := make(map[[2]string]bool, len(t.Model.Merges))
	for i, pair := range t.Model.Merges {
		whole := pair[0] + pair[1]
		if _, ok := rank[whole]; !ok {
			rank[whole] = i
		}
		known[pair] = true
	}
	added := make(map[string]bool, len(t.Added))
	for _, a := range t.Added {
		added[a.Content] = true
	}
	// llama.cpp merges any two pieces whose text is a piece, so the merges must have all such pairs.
	for whole := range rank {
		for at := range whole {
			pair := [2]string{whole[:at], whole[at:]}
			_, left := t.Model.Vocab[pair[0]]
			_, right := t.Model.Vocab[pair[1]]
			if left && right && !known[pair] && !added[pair[0]] && !added[pair[1]] {
				return fmt.Errorf("tokenizer.json: %w: merges lack the pair %.40q: they are not those of a SentencePiece model", ErrUnsupported, pair)
			}
		}
	}
	scores := make([]float32, len(v.tokens))
	bytes := 0
	for id, token := range v.tokens {
		at, merged := rank[token]
		switch {
		case v.types[id] == typeControl && token == t.Model.Unknown:
			v.types[id] = typeUnknown
		case v.types[id] == typeUser && !merged:
			v.tokens[id] = plainText(token)
		case v.types[id] == typeUser: // its merges give it
			v.types[id] = typeNormal
		case isByte(token):
			v.types[id] = typeByte
			bytes++
			continue
		}
		switch {
		case merged:
			scores[id] = -float32(at)
		case v.types[id] == typeNormal && len([]rune(token)) > 1: // no merge gives it
			v.types[id] = typeUnused
			scores[id] = addedScore
		case v.types[id] == typeNormal:
			scores[id] = -float32(len(t.Model.Merges))
		case v.types[id] != typeUnknown && v.types[id] != typeControl:
			scores[id] = addedScore
		}
	}
	if bytes != 256 {
		return fmt.Errorf("tokenizer.json: %w: byte_fallback with %d tokens of bytes", ErrFormat, bytes)
	}
	if id := slices.Index(v.types, typeUnknown); id >= 0 {
		v.named["unknown"] = id
	}
	v.values["tokenizer.ggml.model"], v.values["tokenizer.ggml.pre"] = "llama", "default"
	v.values["tokenizer.ggml.tokens"], v.values["tokenizer.ggml.token_type"], v.values["tokenizer.ggml.scores"] = v.tokens, v.types, scores
	v.values["tokenizer.ggml.add_space_prefix"] = prefix
	return nil
}

// isByte reports whether a piece is a byte: <0x0A>.
func isByte(piece string) bool {
	const digits = "0123456789ABCDEF"
	return len(piece) == 6 && strings.HasPrefix(piece, "<0x") && piece[5] == '>' && strings.IndexByte(digits, piece[3]) >= 0 && strings.IndexByte(digits, piece[4]) >= 0
}

// pieceSteps checks the normalizer and the pre-tokenizer of a vocabulary of pieces and reports whether a space is put before a text.
func (t *tokenizerJSON) pieceSteps(v *vocabulary) (prefix bool, err error) {
	spaces := false // replaced by their mark
	for _, s := range t.Normalizer.list() {
		switch {
		case s.Type == "Prepend" && s.Prepend == spaceMark:
			prefix = true
		case s.Type == "Replace" && s.Pattern.String == " " && s.Content == spaceMark:
			spaces = true
		default:
			return false, unsupportedStep("normalizer", s.Type, fmt.Sprintf("%.20q", s.Pattern.String+s.Pattern.Regex+s.Prepend))
		}
	}
	for _, s := range t.Pre.list() {
		switch {
		case s.Type == "Metaspace" && s.Replacement == spaceMark && !spaces:
			spaces = true
			prefix = s.Scheme != "never" && (s.Scheme != "" || s.Prefix == nil || *s.Prefix)
			if prefix {
				v.notes = append(v.notes, "tokenizer.json: pre_tokenizer Metaspace: llama.cpp puts a space before text behind a control token and before text that begins with a space, too")
			}
			if s.Split != nil && !*s.Split {
				continue
			}
			for _, pair := range t.Model.Merges {
				if whole := pair[0] + pair[1]; strings.LastIndex(whole, spaceMark) > 0 {
					return false, unsupportedStep("pre_tokenizer", "Metaspace", fmt.Sprintf("with split, which keeps %.20q apart", whole))
				}
			}
		case s.Type == "Split" && s.Pattern.String == " " && spaces: // no spaces are left
		default:
			return false, unsupportedStep("pre_tokenizer", s.Type, fmt.Sprintf("%.20q", s.Pattern.String+s.Pattern.Regex))
		}
	}
	if !spaces {
		return false, unsupportedStep("normalizer", "", "a vocabulary of pieces without "+spaceMark)
	}
	return prefix, nil
}
