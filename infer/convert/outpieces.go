package convert

import (
	"cmp"
	"slices"
)

// pieceTokenizer returns tokenizer.json of a vocabulary of pieces: all pairs of pieces that make a piece, in the order of its score, as
// transformers computes them from tokenizer.model. With it transformers needs no other library.
func (v *outVocab) pieceTokenizer(prefix bool) map[string]any {
	type merge struct {
		left, right string
		score       float32
	}
	vocab := make(map[string]int, len(v.tokens))
	marked := make([]string, len(v.tokens))
	for i, token := range v.tokens {
		if marked[i] = token; v.types[i] == typeUser {
			marked[i] = mark(token)
		}
		vocab[marked[i]] = i
	}
	var merges []merge
	for i, whole := range marked {
		if kind := v.types[i]; kind != typeNormal && kind != typeUser {
			continue
		}
		for at := range whole {
			_, left := vocab[whole[:at]]
			_, right := vocab[whole[at:]]
			if left && right {
				merges = append(merges, merge{whole[:at], whole[at:], v.scores[i]})
			}
		}
	}
	slices.SortStableFunc(merges, func(a, b merge) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(vocab[a.left], vocab[b.left]), cmp.Compare(vocab[a.right], vocab[b.right]))
	})
	pairs := make([][2]string, len(merges))
	for i, m := range merges {
		pairs[i] = [2]string{m.left, m.right}
	}
	scheme := "never"
	if prefix {
		scheme = "always"
	}
	added := []any{}
	for _, t := range v.added() {
		content := t.Content
		if !t.Special {
			content = mark(content)
		}
		added = append(added, map[string]any{"id": t.ID, "content": content, "special": t.Special, "lstrip": t.LStrip, "rstrip": t.RStrip, "normalized": false, "single_word": t.SingleWord})
	}
	var unknown any
	if id, ok := v.id("unknown"); ok {
		unknown = v.tokens[id]
	}
	decoders := []any{
		map[string]any{"type": "Replace", "pattern": map[string]any{"String": spaceMark}, "content": " "}, map[string]any{"type": "ByteFallback"}, map[string]any{"type": "Fuse"},
	}
	if prefix {
		decoders = append(decoders, map[string]any{"type": "Strip", "content": " ", "start": 1, "stop": 0})
	}
	out := map[string]any{
		"version": "1.0", "added_tokens": added, "normalizer": nil,
		"pre_tokenizer": map[string]any{"type": "Metaspace", "replacement": spaceMark, "prepend_scheme": scheme, "split": false},
		"decoder":       map[string]any{"type": "Sequence", "decoders": decoders},
		"model": map[string]any{
			"type": "BPE", "vocab": vocab, "merges": pairs, "dropout": nil, "unk_token": unknown, "byte_fallback": true, "fuse_unk": true, "ignore_merges": false,
		},
	}
	if add, ok := v.kv.Bool("tokenizer.ggml.add_bos_token"); add || !ok {
		v.startWithBOS(out)
	}
	return out
}
