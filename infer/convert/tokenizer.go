package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/internal/parts"
)

// folder holds files of a folder by name.
type folder map[string][]byte

// readTokenizer sets the keys of the vocabulary. It returns notes on what llama.cpp computes in another way.
func readTokenizer(dir string, c *config, kv *gguf.KV) (notes []string, err error) {
	files := folder{}
	names := parts.Sidecars()
	if c.isOPT() {
		names = append(names, parts.Vocabulary()...)
	}
	for _, name := range names {
		b, err := readLimited(filepath.Join(dir, name), maxTokenizerBytes)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files[name] = b
	}
	if c.isOPT() {
		if err := files.completeOPT(); err != nil {
			return nil, err
		}
	}
	return tokenizer(files, c.VocabSize, kv)
}

func tokenizer(files folder, vocab int, kv *gguf.KV) (notes []string, err error) {
	var config settings
	if b, ok := files["tokenizer_config.json"]; ok {
		if err := unmarshal(b, &config); err != nil {
			return nil, fmt.Errorf("tokenizer_config.json: %w: %w", ErrFormat, err)
		}
	}
	t, err := readVocabulary(files, config, vocab)
	if err != nil {
		return nil, err
	}
	if err := unique(t.tokens, vocab); err != nil {
		return nil, err
	}
	if err := t.findSpecials(files, config); err != nil {
		return nil, err
	}
	template := string(config.Template)
	if text, ok := files["chat_template.jinja"]; ok {
		template = string(text)
	}
	if template != "" {
		t.values["tokenizer.chat_template"] = template
	}
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if err := kv.Set(key, t.values[key]); err != nil {
			return nil, err
		}
	}
	return t.notes, nil
}

// readVocabulary reads the vocabulary from tokenizer.model, or from tokenizer.json where that is not SentencePiece's.
func readVocabulary(files folder, config settings, vocab int) (*vocabulary, error) {
	_, hasJSON := files["tokenizer.json"]
	model, hasModel := files["tokenizer.model"]
	switch {
	case hasModel && (isSentencePiece(model) || !hasJSON):
		return pieces(files, config, vocab)
	case hasJSON:
		return fromJSON(files, vocab)
	}
	return nil, fmt.Errorf("%w: neither tokenizer.json nor tokenizer.model", ErrFormat)
}

// vocabulary is a vocabulary with the keys of the file other than those of its special tokens.
type vocabulary struct {
	tokens []string
	types  []int32
	values map[string]any
	// named are the numbers of special tokens that the vocabulary itself names, by their word in keys.
	named map[string]int
	// addBOS and addEOS are whether texts begin and end with these tokens, nil for llama.cpp's default.
	addBOS, addEOS *bool
	notes          []string
}

// settings holds tokenizer_config.json. Special tokens are strings or objects.
type settings struct {
	AddBOS   *bool                 `json:"add_bos_token"`
	AddEOS   *bool                 `json:"add_eos_token"`
	BOS      special               `json:"bos_token"`
	EOS      special               `json:"eos_token"`
	UNK      special               `json:"unk_token"`
	PAD      special               `json:"pad_token"`
	SEP      special               `json:"sep_token"`
	CLS      special               `json:"cls_token"`
	Mask     special               `json:"mask_token"`
	Template chatTemplate          `json:"chat_template"`
	Added    map[string]addedToken `json:"added_tokens_decoder"`
}

// special is the text of a special token, "" for none.
type special string

// UnmarshalJSON implements [json.Unmarshaler].
func (s *special) UnmarshalJSON(b []byte) error {
	if unmarshal(b, (*string)(s)) == nil {
		return nil
	}
	var object struct{ Content string }
	err := json.Unmarshal(b, &object)
	*s = special(object.Content)
	return err
}

// chatTemplate is a template, or the one of several that is named default.
type chatTemplate string

// UnmarshalJSON implements [json.Unmarshaler].
func (c *chatTemplate) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, (*string)(c)) == nil {
		return nil
	}
	var several []struct{ Name, Template string }
	err := json.Unmarshal(b, &several)
	for _, t := range several {
		if t.Name == "default" {
			*c = chatTemplate(t.Template)
		}
	}
	return err
}

// addedToken is a token that is matched before text is split.
type addedToken struct {
	ID         int    `json:"id"`
	Content    string `json:"content"`
	Special    bool   `json:"special"`
	LStrip     bool   `json:"lstrip,omitempty"`
	RStrip     bool   `json:"rstrip,omitempty"`
	SingleWord bool   `json:"single_word,omitempty"`
}

// unique checks that the tokens of a vocabulary differ, which llama.cpp assumes.
func unique(tokens []string, vocab int) error {
	if len(tokens) != vocab {
		return fmt.Errorf("tokenizer: %w: %d tokens, config.json has %d", ErrFormat, len(tokens), vocab)
	}
	at := make(map[string]int, len(tokens))
	for i, token := range tokens {
		if other, ok := at[token]; ok {
			return fmt.Errorf("tokenizer: %w: tokens %d and %d are both %.40q", ErrFormat, other, i, token)
		}
		at[token] = i
	}
	return nil
}
