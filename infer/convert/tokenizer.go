package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
func readTokenizer(dir string, vocab int, kv *gguf.KV) error {
	files := folder{}
	for _, name := range parts.Sidecars() {
		b, err := readLimited(filepath.Join(dir, name), maxTokenizerBytes)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		files[name] = b
	}
	return tokenizer(files, vocab, kv)
}

func tokenizer(files folder, vocab int, kv *gguf.KV) error {
	pre, err := preTokenizer(files, vocab)
	if err != nil {
		return err
	}
	// The vocabulary is read alike for all families, so the plainest description of a network will do.
	if files["config.json"], err = json.Marshal(map[string]any{"architectures": []string{"LlamaForCausalLM"}, "vocab_size": vocab}); err != nil {
		return err
	}
	values, found, err := vocabulary(files)
	if err != nil {
		return err
	}
	if n := len(found.Tokens); n != vocab {
		return fmt.Errorf("tokenizer: %w: %d tokens, config.json says %d", ErrFormat, n, vocab)
	}
	if pre == "" {
		pre = found.Pre
	}
	if pre == "default" && found.Model != "llama" {
		return fmt.Errorf("tokenizer.json: %w: llama.cpp has no name for the way this one splits text", ErrUnsupported)
	}
	var said map[string]json.RawMessage
	if b, ok := files["tokenizer_config.json"]; ok {
		if err := json.Unmarshal(b, &said); err != nil {
			return fmt.Errorf("tokenizer_config.json: %w: %w", ErrFormat, err)
		}
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		rest, ok := strings.CutPrefix(key, "tokenizer.ggml.add_")
		switch _, stated := said["add_"+rest]; {
		case !strings.HasPrefix(key, "tokenizer."), strings.HasSuffix(key, "_token_ids"):
		case ok && !stated: // where nothing is said, llama.cpp knows better than false
		default:
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		if err := kv.Set(key, values[key]); err != nil {
			return err
		}
	}
	if err := kv.Set("tokenizer.ggml.pre", pre); err != nil {
		return err
	}
	if template, ok := files["chat_template.jinja"]; ok {
		return kv.Set("tokenizer.chat_template", string(template))
	}
	return nil
}

// vocabulary has the library read the files. It is not made for files that lie, so a panic in it is an error in them.
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

// preTokenizer checks tokenizer.json and returns llama.cpp's name for its pre-tokenizer, "" where the library knows it or has another way.
func preTokenizer(files folder, vocab int) (string, error) {
	text, ok := files["tokenizer.json"]
	if _, pieces := files["tokenizer.model"]; pieces || !ok {
		return "", nil
	}
	var t struct {
		Model struct {
			Type         string         `json:"type"`
			ByteFallback bool           `json:"byte_fallback"`
			Vocab        map[string]int `json:"vocab"`
		} `json:"model"`
		Added []struct {
			ID int `json:"id"`
		} `json:"added_tokens"`
		Pre *splitter `json:"pre_tokenizer"`
	}
	if err := json.Unmarshal(text, &t); err != nil {
		return "", fmt.Errorf("tokenizer.json: %w: %w", ErrFormat, err)
	}
	if t.Model.Type != "BPE" || t.Model.ByteFallback {
		return "", fmt.Errorf("tokenizer.json: %w: a model %.20q of pieces needs its tokenizer.model", ErrUnsupported, t.Model.Type)
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
			return "", fmt.Errorf("tokenizer.json: %w: an added token has number %d of %d", ErrFormat, a.ID, vocab)
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

// folder is the files of a folder that the library may see.
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
