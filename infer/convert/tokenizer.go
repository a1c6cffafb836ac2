package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	hf "github.com/ollama/ollama/convert"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/internal/parts"
)

// readTokenizer sets the keys of the vocabulary.
func readTokenizer(dir string, c *config, kv *gguf.KV) error {
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
			return err
		}
		files[name] = b
	}
	if c.isOPT() {
		if err := files.completeOPT(); err != nil {
			return err
		}
	}
	return tokenizer(files, c.VocabSize, kv)
}

func tokenizer(files folder, vocab int, kv *gguf.KV) error {
	var config settings
	if b, ok := files["tokenizer_config.json"]; ok {
		if err := json.Unmarshal(b, &config); err != nil {
			return fmt.Errorf("tokenizer_config.json: %w: %w", ErrFormat, err)
		}
	}
	read := pairs
	if _, ok := files["tokenizer.model"]; ok {
		read = pieces
	}
	values, err := read(files, config, vocab)
	if err != nil {
		return err
	}
	tokens, _ := values["tokenizer.ggml.tokens"].([]string)
	if err := unique(tokens, vocab); err != nil {
		return err
	}
	if template, ok := files["chat_template.jinja"]; ok {
		values["tokenizer.chat_template"] = string(template)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := kv.Set(key, values[key]); err != nil {
			return err
		}
	}
	return nil
}

// settings holds tokenizer_config.json. Special tokens are strings or objects.
type settings struct {
	AddBOS   *bool                 `json:"add_bos_token"`
	AddEOS   *bool                 `json:"add_eos_token"`
	BOS      special               `json:"bos_token"`
	EOS      special               `json:"eos_token"`
	UNK      special               `json:"unk_token"`
	PAD      special               `json:"pad_token"`
	Template chatTemplate          `json:"chat_template"`
	Added    map[string]addedToken `json:"added_tokens_decoder"`
}

// special is the text of a special token, "" for none.
type special string

// UnmarshalJSON implements [json.Unmarshaler].
func (s *special) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, (*string)(s)) == nil {
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
	ID      int    `json:"id"`
	Content string `json:"content"`
	Special bool   `json:"special"`
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

// pairs reads a byte-pair vocabulary from tokenizer.json.
func pairs(files folder, config settings, vocab int) (map[string]any, error) {
	pre, err := preTokenizer(files, vocab)
	if err != nil {
		return nil, err
	}
	// The library reads the vocabularies of all families in the same way, so any network will do.
	if files["config.json"], err = json.Marshal(map[string]any{"architectures": []string{"LlamaForCausalLM"}, "vocab_size": vocab}); err != nil {
		return nil, err
	}
	values, found, err := vocabulary(files)
	if err != nil {
		return nil, err
	}
	if pre == "" {
		pre = found.Pre
	}
	if pre == "default" {
		return nil, fmt.Errorf("tokenizer.json: %w: llama.cpp has no name for its pre-tokenizer", ErrUnsupported)
	}
	out := make(map[string]any, len(values))
	for key, value := range values {
		switch {
		case !strings.HasPrefix(key, "tokenizer."), strings.HasSuffix(key, "_token_ids"):
		case key == "tokenizer.ggml.add_bos_token" && config.AddBOS == nil, key == "tokenizer.ggml.add_eos_token" && config.AddEOS == nil:
			// the default of llama.cpp depends on the vocabulary
		default:
			out[key] = value
		}
	}
	out["tokenizer.ggml.pre"] = pre
	for i, token := range found.Tokens { // padding that the library adds up to the rows of the embedding
		if strings.HasPrefix(token, "[PAD") && found.Scores[i] == -1 {
			found.Types[i] = typeUnused
		}
	}
	return out, nil
}

// vocabulary reads the files with the library, which panics on some damaged files.
func vocabulary(files folder) (values hf.KV, t *hf.Tokenizer, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("tokenizer: %w: %v", ErrFormat, r)
		}
	}()
	model, t, err := hf.LoadModelMetadata(files)
	if err != nil {
		return nil, nil, fmt.Errorf("tokenizer: %w: %w", ErrFormat, err)
	}
	return model.KV(t), t, nil
}

// splitter is a pre-tokenizer of tokenizer.json, one step or a sequence of them.
type splitter struct {
	Type       string     `json:"type"`
	Individual bool       `json:"individual_digits"`
	UseRegex   *bool      `json:"use_regex"`
	Steps      []splitter `json:"pretokenizers"`
}

// preTokenizer checks tokenizer.json and returns llama.cpp's name of its pre-tokenizer, "" where the library finds the name.
func preTokenizer(files folder, vocab int) (string, error) {
	text, ok := files["tokenizer.json"]
	if !ok {
		return "", fmt.Errorf("%w: neither tokenizer.json nor tokenizer.model", ErrFormat)
	}
	var t struct {
		Model struct {
			Type         string         `json:"type"`
			ByteFallback bool           `json:"byte_fallback"`
			Vocab        map[string]int `json:"vocab"`
		} `json:"model"`
		Added []addedToken `json:"added_tokens"`
		Pre   *splitter    `json:"pre_tokenizer"`
	}
	if err := json.Unmarshal(text, &t); err != nil {
		return "", fmt.Errorf("tokenizer.json: %w: %w", ErrFormat, err)
	}
	if t.Model.Type != "BPE" || t.Model.ByteFallback {
		return "", fmt.Errorf("tokenizer.json: %w: a model of type %.20q needs tokenizer.model", ErrUnsupported, t.Model.Type)
	}
	known := make(map[int]bool, len(t.Model.Vocab))
	for token, id := range t.Model.Vocab {
		if id < 0 || id >= vocab || known[id] {
			return "", fmt.Errorf("tokenizer.json: %w: token %.40q has number %d of %d", ErrFormat, token, id, vocab)
		}
		known[id] = true
	}
	for _, a := range t.Added {
		if a.ID < 0 || a.ID >= vocab {
			return "", fmt.Errorf("tokenizer.json: %w: added token with number %d of %d", ErrFormat, a.ID, vocab)
		}
		known[a.ID] = true
	}
	for id := range len(known) {
		if !known[id] {
			return "", fmt.Errorf("tokenizer.json: %w: no token has number %d", ErrUnsupported, id)
		}
	}
	if t.Pre == nil {
		return "", nil
	}
	steps := t.Pre.Steps
	if t.Pre.Type != "Sequence" {
		steps = []splitter{*t.Pre}
	}
	plain := func(s splitter) bool { return s.Type == "ByteLevel" && (s.UseRegex == nil || *s.UseRegex) }
	switch {
	case len(steps) == 1 && plain(steps[0]):
		return "gpt-2", nil
	case len(steps) == 2 && steps[0].Type == "Digits" && steps[0].Individual && plain(steps[1]):
		return "smollm", nil
	}
	return "", nil
}

// folder holds files of a folder for the library.
type folder map[string][]byte

// Open implements [fs.FS].
func (f folder) Open(name string) (fs.File, error) {
	b, ok := f[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memory{Reader: bytes.NewReader(b), name: name}, nil
}

// memory is a file in memory.
type memory struct {
	*bytes.Reader
	name string
}

func (m *memory) Close() error               { return nil }
func (m *memory) Stat() (fs.FileInfo, error) { return m, nil }
func (m *memory) Name() string               { return m.name }
func (m *memory) Mode() fs.FileMode          { return 0o444 }
func (m *memory) ModTime() time.Time         { return time.Time{} }
func (m *memory) IsDir() bool                { return false }
func (m *memory) Sys() any                   { return nil }
