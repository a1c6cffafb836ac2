package converttest

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ollama/ollama/convert/sentencepiece"
	"google.golang.org/protobuf/proto"
)

// Pieces returns a SentencePiece model that merges pairs: the special tokens in the given order, the 256 bytes, the letters
// and some words with the prefixes that they are merged from.
func Pieces(prefix bool, specials ...string) *sentencepiece.ModelProto {
	m := &sentencepiece.ModelProto{
		TrainerSpec:    &sentencepiece.TrainerSpec{ModelType: sentencepiece.TrainerSpec_BPE.Enum(), ByteFallback: proto.Bool(true)},
		NormalizerSpec: &sentencepiece.NormalizerSpec{Name: proto.String("identity"), AddDummyPrefix: proto.Bool(prefix)},
	}
	known := map[string]bool{}
	add := func(piece string, score float32, kind sentencepiece.ModelProto_SentencePiece_Type) {
		if !known[piece] {
			known[piece] = true
			m.Pieces = append(m.Pieces, &sentencepiece.ModelProto_SentencePiece{Piece: &piece, Score: &score, Type: &kind})
		}
	}
	for i, s := range specials {
		kind := sentencepiece.ModelProto_SentencePiece_CONTROL
		switch s {
		case "<unk>":
			kind, m.TrainerSpec.UnkId = sentencepiece.ModelProto_SentencePiece_UNKNOWN, proto.Int32(int32(i))
		case "<s>", "<bos>":
			m.TrainerSpec.BosId = proto.Int32(int32(i))
		case "</s>", "<eos>":
			m.TrainerSpec.EosId = proto.Int32(int32(i))
		}
		add(s, 0, kind)
	}
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b), 0, sentencepiece.ModelProto_SentencePiece_BYTE)
	}
	add("▁▁", 0, sentencepiece.ModelProto_SentencePiece_USER_DEFINED)
	rank := float32(0)
	for _, word := range []string{"▁the", "▁cat", "▁sat", "▁on", "▁mat", "th", "at", "ing"} {
		runes := []rune(word)
		for n := 2; n <= len(runes); n++ {
			rank--
			add(string(runes[:n]), rank, sentencepiece.ModelProto_SentencePiece_NORMAL)
		}
	}
	for _, c := range "▁abcdefghijklmnopqrstuvwxyz." {
		rank--
		add(string(c), rank, sentencepiece.ModelProto_SentencePiece_NORMAL)
	}
	return m
}

// Marshal returns the file of a SentencePiece model.
func Marshal(m *sentencepiece.ModelProto) ([]byte, error) { return proto.Marshal(m) }

// PiecesJSON returns tokenizer.json of a SentencePiece model, as transformers 5 writes it: pairs of pieces in the order of the scores of what they
// make, and bytes for all else.
func PiecesJSON(m *sentencepiece.ModelProto) map[string]any {
	vocab, kinds := map[string]int{}, map[string]sentencepiece.ModelProto_SentencePiece_Type{}
	var added []any
	type merge struct {
		left, right string
		score       float32
	}
	var merges []merge
	for i, p := range m.GetPieces() {
		vocab[p.GetPiece()], kinds[p.GetPiece()] = i, p.GetType()
		switch p.GetType() {
		case sentencepiece.ModelProto_SentencePiece_CONTROL, sentencepiece.ModelProto_SentencePiece_UNKNOWN:
			added = append(added, map[string]any{"id": i, "content": p.GetPiece(), "special": true})
		case sentencepiece.ModelProto_SentencePiece_USER_DEFINED:
			added = append(added, map[string]any{"id": i, "content": p.GetPiece(), "special": false})
		default: // nothing for the others
		}
	}
	for _, p := range m.GetPieces() {
		whole := p.GetPiece()
		if kinds[whole] != sentencepiece.ModelProto_SentencePiece_NORMAL && kinds[whole] != sentencepiece.ModelProto_SentencePiece_USER_DEFINED {
			continue
		}
		for at := range whole {
			_, left := vocab[whole[:at]]
			_, right := vocab[whole[at:]]
			if left && right {
				merges = append(merges, merge{whole[:at], whole[at:], p.GetScore()})
			}
		}
	}
	slices.SortStableFunc(merges, func(a, b merge) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(vocab[a.left], vocab[b.left]), cmp.Compare(vocab[a.right], vocab[b.right]))
	})
	var pairs [][]string
	for _, p := range merges {
		pairs = append(pairs, []string{p.left, p.right})
	}
	return map[string]any{
		"added_tokens": added, "normalizer": nil,
		"pre_tokenizer": map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false},
		"post_processor": map[string]any{
			"type":           "TemplateProcessing",
			"single":         []any{map[string]any{"SpecialToken": map[string]any{"id": "<s>", "type_id": 0}}, map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}},
			"special_tokens": map[string]any{"<s>": map[string]any{"id": "<s>", "ids": []int{vocab["<s>"]}, "tokens": []string{"<s>"}}},
		},
		"model": map[string]any{"type": "BPE", "vocab": vocab, "merges": pairs, "byte_fallback": true, "fuse_unk": true, "unk_token": "<unk>"},
	}
}
