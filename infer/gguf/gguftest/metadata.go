package gguftest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// chatTemplate is ChatML, as in many small models.
const chatTemplate = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}" +
	"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

func (m Model) metadata() (*gguf.KV, error) {
	kv := &gguf.KV{}
	f := m.family()
	var errs []error
	set := func(key string, value any) { errs = append(errs, kv.Set(key, value)) }
	own := func(key string, value any) { set(m.Arch+"."+key, value) }
	perLayer := func(key string, count func(subnet.LayerGeometry) int) {
		if !f.PerLayer() {
			own(key, uint32(count(m.Layers[0])))
			return
		}
		list := make([]int32, len(m.Layers))
		for i, l := range m.Layers {
			list[i] = int32(count(l))
		}
		own(key, list)
	}

	set("general.architecture", m.Arch)
	set("general.name", "tiny "+m.Arch)
	own("block_count", uint32(len(m.Layers)))
	own("context_length", uint32(m.Context))
	own("embedding_length", uint32(m.Hidden))
	perLayer("feed_forward_length", func(l subnet.LayerGeometry) int { return l.FFN })
	perLayer("attention.head_count", func(l subnet.LayerGeometry) int { return l.Heads })
	perLayer("attention.head_count_kv", func(l subnet.LayerGeometry) int { return l.KVHeads })
	own("attention.key_length", uint32(m.HeadDim))
	own("attention.value_length", uint32(m.HeadDim))
	if f.LayerNorm {
		own("attention.layer_norm_epsilon", float32(1e-5))
	} else {
		own("attention.layer_norm_rms_epsilon", float32(1e-5))
	}
	if !f.LearnedPositions {
		own("rope.dimension_count", uint32(m.HeadDim))
		own("rope.freq_base", float32(m.RopeBase))
	}
	own("vocab_size", uint32(m.Vocab))
	if f.Window.Period > 0 {
		own("attention.sliding_window", uint32(m.Window))
	}
	if f.AttnSoftCap.Default > 0 {
		own("attn_logit_softcapping", float32(2)) // low, so that it changes the scores of tiny models
	}
	if f.LogitSoftCap.Default > 0 {
		own("final_logit_softcapping", float32(3))
	}
	if !m.NoTokenizer {
		set("tokenizer.chat_template", chatTemplate)
		if err := m.tokenizer(set); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if m.Edit != nil {
		m.Edit(kv)
	}
	return kv, nil
}

// Token types of llama.cpp.
const (
	tokenNormal  = 1
	tokenUnknown = 2
	tokenControl = 3
	tokenUnused  = 5
	tokenByte    = 6
)

// words are in the vocabularies below; all other text is spelled byte by byte.
var words = [...]string{"the", "of", "and", "to", "in", "was", "is", "for", "on", "as"}

// tokenizer sets a vocabulary of m.Vocab tokens: pieces with scores as in Llama, or byte-level pairs for the families that have them.
func (m Model) tokenizer(set func(string, any)) error {
	var v vocabulary
	v.add("<unk>", 0, tokenUnknown)
	v.add("<s>", 0, tokenControl)
	v.add("</s>", 0, tokenControl)
	v.add("<|im_start|>", 0, tokenControl)
	v.add("<|im_end|>", 0, tokenControl)
	bos := uint32(1)
	switch m.Arch {
	case "qwen2", "qwen3", "openelm", "opt":
		v.bytePairs()
		set("tokenizer.ggml.model", "gpt2")
		set("tokenizer.ggml.pre", "smollm")
		set("tokenizer.ggml.merges", v.merges)
		set("tokenizer.ggml.add_bos_token", m.Arch == "opt")
		if m.Arch == "opt" {
			bos = 2 // texts begin with the token that ends them
			set("tokenizer.ggml.pre", "gpt-2")
		}
	default:
		v.pieces()
		set("tokenizer.ggml.model", "llama")
		set("tokenizer.ggml.pre", "default")
		set("tokenizer.ggml.add_bos_token", true)
	}
	if len(v.tokens) > m.Vocab {
		return fmt.Errorf("gguftest: the vocabulary needs at least %d tokens, not %d", len(v.tokens), m.Vocab)
	}
	for i := len(v.tokens); i < m.Vocab; i++ {
		v.add(fmt.Sprintf("<unused%d>", i), 0, tokenUnused)
	}
	set("tokenizer.ggml.tokens", v.tokens)
	set("tokenizer.ggml.scores", v.scores)
	set("tokenizer.ggml.token_type", v.types)
	set("tokenizer.ggml.unknown_token_id", uint32(0))
	set("tokenizer.ggml.bos_token_id", bos)
	set("tokenizer.ggml.eos_token_id", uint32(2))
	set("tokenizer.ggml.eot_token_id", uint32(4))
	set("tokenizer.ggml.padding_token_id", uint32(2))
	return nil
}

type vocabulary struct {
	tokens, merges []string
	scores         []float32
	types          []int32
	known          map[string]bool
}

func (v *vocabulary) add(token string, score float32, kind int32) {
	if v.known[token] {
		return
	}
	if v.known == nil {
		v.known = make(map[string]bool)
	}
	v.known[token] = true
	v.tokens = append(v.tokens, token)
	v.scores = append(v.scores, score)
	v.types = append(v.types, kind)
}

// pieces adds the bytes and the prefixes of the words after Llama's mark for a space. Longer ones have higher scores.
func (v *vocabulary) pieces() {
	for b := range 256 {
		v.add(fmt.Sprintf("<0x%02X>", b), 0, tokenByte)
	}
	v.add("▁", -1000, tokenNormal)
	for _, w := range words {
		for n := 1; n <= len(w); n++ {
			v.add("▁"+w[:n], float32(n-100), tokenNormal)
			v.add(w[n-1:n], -500, tokenNormal)
		}
	}
}

// bytePairs adds the 256 characters that represent bytes, and merges that join a space and the prefixes of words.
func (v *vocabulary) bytePairs() {
	for b := range 256 {
		v.add(string(byteRune(byte(b))), 0, tokenNormal)
	}
	space := string(byteRune(' '))
	for _, w := range words {
		left := space
		for _, c := range strings.Split(w, "") {
			if merge := left + " " + c; !v.known[left+c] {
				v.merges = append(v.merges, merge)
				v.add(left+c, 0, tokenNormal)
			}
			left += c
		}
	}
}

// byteRune returns the printable character that represents a byte in byte-level vocabularies.
func byteRune(b byte) rune {
	printable := func(b byte) bool { return b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae }
	if printable(b) {
		return rune(b)
	}
	r := rune(256)
	for c := range b {
		if !printable(c) {
			r++
		}
	}
	return r
}
