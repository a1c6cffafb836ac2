package gguf

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/lathe-llm/lathe/infer/vocab"
)

// The keys of vocabularies.
const (
	tokenizerPrefix = "tokenizer."
	tokenizerKey    = tokenizerPrefix + "ggml.model"
	tokensKey       = tokenizerPrefix + "ggml.tokens"
	mergesKey       = tokenizerPrefix + "ggml.merges"
	// hugKey holds a tokenizer.json, which llama.cpp does not read.
	hugKey = tokenizerPrefix + "huggingface.json"
)

// vocabularies are the vocabulary of a file, once it is read, and its metadata with the entries that were kept last.
type vocabularies struct {
	mu   sync.Mutex
	read *vocab.Vocabulary
	err  error
	kept []int
	kv   *KV
}

// Vocabulary returns the vocabulary of the file, for choices of what to keep of it. It wraps [ErrMissing] where there is none, [ErrFormat] where
// its tables contradict one another, and [ErrArchitecture] for a kind that is neither byte-level pairs nor pieces.
func (f *File) Vocabulary() (*vocab.Vocabulary, error) {
	f.vocabulary.mu.Lock()
	defer f.vocabulary.mu.Unlock()
	return f.readVocabulary()
}

// readVocabulary is Vocabulary for a caller that holds the lock.
func (f *File) readVocabulary() (*vocab.Vocabulary, error) {
	c := &f.vocabulary
	if c.read == nil && c.err == nil {
		if c.read, c.err = f.KV().vocabulary(); c.err != nil {
			c.err = fmt.Errorf("gguf: %s: %w", f.path, c.err)
		}
	}
	return c.read, c.err
}

// trimmed returns the metadata of the file with only the kept entries of the vocabulary, nil for all.
func (f *File) trimmed(kept []int) (*KV, error) {
	if kept == nil {
		return f.KV(), nil
	}
	c := &f.vocabulary
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kv != nil && slices.Equal(c.kept, kept) {
		return c.kv, nil
	}
	v, err := f.readVocabulary()
	if err != nil {
		return nil, err
	}
	kv, err := f.KV().trimmed(v, kept)
	if err != nil {
		return nil, err
	}
	c.kept, c.kv = kept, kv
	return kv, nil
}

// Kinds of vocabularies that can be trimmed: byte-level pairs and SentencePiece's.
const (
	pairKind  = "gpt2"
	pieceKind = "llama"
)

// TrimsVocabulary returns an error if the metadata have no vocabulary of a kind that can be trimmed. It reads no more than its kind.
func (kv *KV) TrimsVocabulary() error {
	if !kv.Has(tokensKey) {
		return fmt.Errorf("key %q: %w", tokensKey, ErrMissing)
	}
	if kind, _ := kv.String(tokenizerKey); kind != pairKind && kind != pieceKind {
		return fmt.Errorf("key %q: %w: a vocabulary of kind %.40q", tokenizerKey, ErrArchitecture, kind)
	}
	return nil
}

// vocabulary returns the vocabulary that metadata hold.
func (kv *KV) vocabulary() (*vocab.Vocabulary, error) {
	if err := kv.TrimsVocabulary(); err != nil {
		return nil, err
	}
	t := vocab.Tables{Named: make(map[int]string)}
	var ok bool
	if t.Tokens, ok = kv.Strings(tokensKey); !ok {
		return nil, fmt.Errorf("key %q: no list of texts: %w", tokensKey, ErrFormat)
	}
	if kind, _ := kv.String(tokenizerKey); kind == pairKind {
		t.Pairs = true
		t.Merges, _ = kv.Strings(mergesKey)
	} else {
		t.Scores, _ = kv.Floats(tokenizerPrefix + "ggml.scores")
	}
	const types = tokenizerPrefix + "ggml.token_type"
	list, ok := kv.Ints(types)
	if !ok && !kv.Has(types) { // all are ordinary tokens
		list, ok = slices.Repeat([]int64{1}, len(t.Tokens)), true
	}
	for _, kind := range list {
		t.Types = append(t.Types, int32(kind))
	}
	if !ok {
		return nil, fmt.Errorf("key %q: no list of numbers: %w", types, ErrFormat)
	}
	for key, ids := range kv.tokenIDs() {
		for _, id := range ids {
			if id >= 0 && id < int64(len(t.Tokens)) {
				t.Named[int(id)] = strings.TrimPrefix(key, tokenizerPrefix+"ggml.")
			}
		}
	}
	for _, id := range kv.defaultIDs(len(t.Tokens)) {
		t.Named[id] = "special token"
	}
	v, err := vocab.New(t)
	if err != nil {
		return nil, fmt.Errorf("keys %q: %w: %w", tokenizerPrefix+"ggml.*", ErrFormat, err)
	}
	return v, nil
}

// tokenIDs returns the numbers of tokens that keys of the tokenizer hold.
func (kv *KV) tokenIDs() map[string][]int64 {
	out := make(map[string][]int64)
	for _, key := range kv.keys {
		own := key == LStripKey || key == RStripKey || key == SingleWordKey
		if !own && !strings.HasPrefix(key, tokenizerPrefix) {
			continue
		}
		list, ok := kv.Ints(key)
		if one, scalar := kv.Int(key); scalar {
			list, ok = []int64{one}, true
		}
		if ok && (own || strings.HasSuffix(key, "_token_id") || strings.HasSuffix(key, "_token_ids") || strings.HasSuffix(key, "suppress_tokens")) {
			out[key] = list
		}
	}
	return out
}

// defaultIDs returns the special tokens that llama.cpp takes where a file has no key for them, or one with a number beyond the vocabulary.
func (kv *KV) defaultIDs(vocab int) map[string]int {
	ids := map[string]int{"bos": 1, "eos": 2, "unknown": 0}
	if kind, _ := kv.String(tokenizerKey); kind == "gpt2" {
		ids = map[string]int{"bos": 11, "eos": 11}
		if pre, _ := kv.String(tokenizerPrefix + "ggml.pre"); pre == "glm4" || pre == "chatglm-bpe" {
			delete(ids, "bos")
		}
	}
	out := make(map[string]int)
	for name, id := range ids {
		key := tokenizerPrefix + "ggml." + name + "_token_id"
		if own, ok := kv.Uint(key); (!ok || own >= uint64(vocab)) && id < vocab {
			out[key] = id
		}
	}
	return out
}

// trimmed returns the metadata with only the kept entries of its vocabulary, in their order. It wraps [ErrSubnet] where no tokenizer works with
// them.
func (kv *KV) trimmed(v *vocab.Vocabulary, kept []int) (_ *KV, err error) {
	if err := v.Check(kept); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSubnet, err)
	}
	at := make(map[int64]int64, len(kept))
	for i, id := range kept {
		at[int64(id)] = int64(i)
	}
	out := kv.Clone()
	set := func(key string, value any) {
		if err == nil {
			err = out.Set(key, value)
		}
	}
	ids := kv.tokenIDs()
	for _, key := range kv.keys {
		value := kv.values[key]
		list := reflect.ValueOf(value)
		_, named := ids[key]
		switch {
		case !named && !strings.HasPrefix(key, tokenizerPrefix):
		case key == mergesKey:
			set(key, v.Merges(kept))
		case key == hugKey:
			out.Delete(key)
		case named:
			var renumbered any
			if renumbered, err = renumber(key, value, at, v.Len()); err == nil {
				set(key, renumbered)
			}
		case list.Kind() == reflect.Slice && list.Len() == v.Len():
			set(key, rowsOf(list, kept))
		}
		if err != nil {
			return nil, err
		}
	}
	for key, id := range kv.defaultIDs(v.Len()) {
		set(key, uint32(at[int64(id)]))
	}
	return out, err
}

// rowsOf selects elements of a list.
func rowsOf(list reflect.Value, at []int) any {
	out := reflect.MakeSlice(list.Type(), 0, len(at))
	for _, i := range at {
		out = reflect.Append(out, list.Index(i))
	}
	return out.Interface()
}

// renumber replaces numbers of tokens in a value of a key. Numbers beyond the vocabulary of n entries stay: they stand for none.
func renumber(key string, value any, at map[int64]int64, n int) (any, error) {
	old := reflect.ValueOf(value)
	changed := func(v reflect.Value) (reflect.Value, error) {
		id, ok := asInt(v)
		to, kept := at[id]
		switch {
		case !ok || id < 0 || id >= int64(n):
			return v, nil
		case !kept:
			return v, fmt.Errorf("key %q: %w: token %d is dropped", key, ErrSubnet, id)
		}
		return reflect.ValueOf(to).Convert(v.Type()), nil
	}
	if old.Kind() != reflect.Slice {
		v, err := changed(old)
		return v.Interface(), err
	}
	out := reflect.MakeSlice(old.Type(), 0, old.Len())
	for i := range old.Len() {
		v, err := changed(old.Index(i))
		if err != nil {
			return nil, err
		}
		out = reflect.Append(out, v)
	}
	return out.Interface(), nil
}
