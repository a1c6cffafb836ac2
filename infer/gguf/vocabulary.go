package gguf

import (
	"fmt"
	"strings"
)

// WriteVocabulary writes to dst the vocabulary of f with the smallest network that llama.cpp loads, one layer of zeros. With it llama.cpp
// tokenises for models that it has no runtime for, and for subnets that are not written. kept holds the entries to write, in increasing order,
// nil for all. It wraps [ErrMissing] where f has no vocabulary.
func (f *File) WriteVocabulary(dst string, kept []int) error {
	kv, err := f.vocabularyKV(kept)
	if err != nil {
		return fmt.Errorf("gguf: %s: %w", f.path, err)
	}
	tokens, _ := kv.Strings(tokensKey)
	const hidden = vocabularyHidden
	tensors := []Tensor{{Name: "token_embd.weight", Type: F16, Dims: []int{len(tokens), hidden}}, {Name: "output_norm.weight", Type: F32, Dims: []int{hidden}}}
	for _, name := range []string{"attn_norm", "ffn_norm"} {
		tensors = append(tensors, Tensor{Name: layerName(0, name+".weight"), Type: F32, Dims: []int{hidden}})
	}
	for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"} {
		tensors = append(tensors, Tensor{Name: layerName(0, name+".weight"), Type: F16, Dims: []int{hidden, hidden}})
	}
	w, err := Create(dst, kv, tensors)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, t := range w.Tensors() {
		if err := w.Append(t.Name, make([]byte, t.Size)); err != nil {
			return err
		}
	}
	return w.Commit()
}

// vocabularyHidden is the hidden size of that network and the size of its one head.
const vocabularyHidden = 32

// vocabularyKV returns the metadata of that file.
func (f *File) vocabularyKV(kept []int) (*KV, error) {
	from, err := f.trimmed(kept)
	if err != nil {
		return nil, err
	}
	kv := &KV{}
	if !from.Has(tokensKey) {
		return nil, fmt.Errorf("key %q: %w", tokensKey, ErrMissing)
	}
	const arch = "llama"
	set := func(key string, value any) {
		if err == nil {
			err = kv.Set(key, value)
		}
	}
	set("general.architecture", arch)
	for _, key := range []string{"embedding_length", "feed_forward_length", "rope.dimension_count"} {
		set(arch+"."+key, uint32(vocabularyHidden))
	}
	for _, key := range []string{"block_count", "attention.head_count", "attention.head_count_kv"} {
		set(arch+"."+key, uint32(1))
	}
	set(arch+".context_length", uint32(512))
	set(arch+".attention.layer_norm_rms_epsilon", float32(1e-5))
	for _, key := range from.Keys() {
		if strings.HasPrefix(key, "tokenizer.") {
			value, _ := from.Value(key)
			set(key, value)
		}
	}
	return kv, err
}
