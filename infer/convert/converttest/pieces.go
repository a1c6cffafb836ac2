package converttest

import (
	"fmt"

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
