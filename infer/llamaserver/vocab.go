package llamaserver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/internal/vocabulary"
)

// Types of tokens in files.
const (
	tokenNormal  = 1
	tokenUnknown = 2
	tokenControl = 3
	tokenUser    = 4
	tokenByte    = 6
)

// vocab is the vocabulary of a file.
type vocab struct {
	vocabulary.Tokenizer
	texts     []string // as the file has them
	types     []int64
	bytePairs bool // texts are in GPT-2's alphabet of bytes, else SentencePiece's
	longest   int  // bytes of a token at most
}

// read reads the vocabulary, and what info has of the file's metadata.
func (v *vocab) read(path string, info *infer.Info) error {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	kv := f.KV()
	weights := make(map[gguf.Type]int64)
	for _, t := range f.Tensors() {
		info.Params += t.Elements()
		weights[t.Type] += t.Elements()
	}
	if info.Type = f.TypeName(); info.Type == "" {
		most := int64(-1)
		for kind, n := range weights {
			if n > most || n == most && kind.String() < info.Type {
				most, info.Type = n, kind.String()
			}
		}
	}
	number := func(key string) int {
		n, _ := kv.Uint(info.Arch + "." + key)
		return int(min(n, 1<<40))
	}
	info.Hidden, info.TrainContext = number("embedding_length"), number("context_length")
	v.texts, _ = kv.Strings("tokenizer.ggml.tokens")
	v.types, _ = kv.Ints("tokenizer.ggml.token_type")
	if len(v.texts) == 0 {
		return fmt.Errorf("%s: no vocabulary: tokenizer.ggml.tokens: %w", path, infer.ErrBadModel)
	}
	switch model, _ := kv.String("tokenizer.ggml.model"); model {
	case "gpt2":
		v.bytePairs = true
	case "llama", "gemma4", "t5":
	default:
		return fmt.Errorf("%s: tokenizer.ggml.model %q: not gpt2, llama or t5: %w", path, model, infer.ErrBadModel)
	}
	whole := kv.WholeTokens()
	for id := range v.texts {
		token := vocabulary.Special{ID: int32(id), Text: v.piece(int32(id))}.With(whole)
		v.longest = max(v.longest, len(token.Text))
		switch {
		case v.control(token.ID):
			v.Controls.Add(token)
		case v.kind(token.ID) == tokenUser:
			v.Whole.Add(token)
		}
	}
	v.Steps, v.Apart = kv.TextSteps(), !whole.Empty()
	special := func(key string, otherwise int32) int32 {
		if id, ok := kv.Int("tokenizer.ggml." + key); ok && id >= 0 && id < int64(len(v.texts)) {
			return int32(id)
		}
		if int(otherwise) < len(v.texts) {
			return otherwise
		}
		return -1
	}
	// llama.cpp's defaults
	first, last := int32(1), int32(2)
	if v.bytePairs {
		first, last = 11, 11
	}
	v.BOS = special("bos_token_id", first)
	info.Vocab, info.BOS, info.EOS, info.LongestToken = len(v.texts), v.BOS, special("eos_token_id", last), v.longest
	return nil
}

func (v *vocab) kind(id int32) int64 {
	if int(id) < len(v.types) {
		return v.types[id]
	}
	return tokenNormal
}

// control reports whether a token structures the text and is no part of it.
func (v *vocab) control(id int32) bool {
	k := v.kind(id)
	return k == tokenControl || k == tokenUnknown
}

// piece returns the bytes of a token, control tokens spelled out.
func (v *vocab) piece(id int32) string {
	text := v.texts[id]
	switch k := v.kind(id); {
	case k == tokenByte:
		if n, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(text, "<0x"), ">"), 16, 8); err == nil {
			return string([]byte{byte(n)})
		}
		return text
	case k != tokenNormal:
		return text
	case v.bytePairs:
		return bytesOf(text)
	}
	return strings.ReplaceAll(text, "\u2581", " ")
}

// bytesOf returns what a text in GPT-2's alphabet stands for: printable characters of Latin-1 for themselves, the 68 other bytes as
// characters from U+0100. A text with other characters is as it is.
func bytesOf(text string) string {
	out := make([]byte, 0, len(text))
	for _, r := range text {
		switch {
		case r >= '!' && r <= '~', r >= 0xA1 && r <= 0xFF && r != 0xAD:
			out = append(out, byte(r))
		case r >= 0x100 && r <= 0x120:
			out = append(out, byte(r-0x100)) // 0 to 0x20
		case r >= 0x121 && r <= 0x142:
			out = append(out, byte(r-0x121+0x7F)) // 0x7F to 0xA0
		case r == 0x143:
			out = append(out, 0xAD)
		default:
			return text
		}
	}
	return string(out)
}

// tokenizer returns the tokenizer of a turn of the queue, which splits texts on the server.
func (m *Model) tokenizer(ctx context.Context, s *server) *vocabulary.Tokenizer {
	t := m.vocab.Tokenizer
	t.Split = func(text string, parse bool) ([]int32, error) {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("text that is not valid UTF-8, which the server cannot read: %w", infer.ErrInvalid)
		}
		return m.split(ctx, s, text, false, parse)
	}
	return &t
}

// errTemplate is the error of a template that cannot be parsed.
func errTemplate(path string, err error) error {
	return fmt.Errorf("%w of %s cannot be parsed: tokenizer.chat_template, %w", infer.ErrTemplate, filepath.Base(path), err)
}

// isContext reports whether an error is the end of a context.
func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
