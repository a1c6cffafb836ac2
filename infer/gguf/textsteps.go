package gguf

// Keys of the steps of a tokenizer that llama.cpp has none for. Files without them have the steps that their pre-tokenizer implies.
const (
	ComposeKey     = "lathe.tokenizer.nfc"
	SpacePrefixKey = "lathe.tokenizer.space_prefix"
)

// TextSteps are changes of a text before its pre-tokenizer splits it. llama.cpp makes none of them for byte-level vocabularies.
type TextSteps struct {
	Compose     bool // characters with separate accents become composed ones (NFC)
	SpacePrefix bool // a space is put before the text and behind each token that is matched as a whole, unless there is one
}

// TextSteps returns the changes that the tokenizer of the file makes. Without a key, the vocabulary of Qwen 2 and 3 composes characters.
func (kv *KV) TextSteps() TextSteps {
	var s TextSteps
	if model, _ := kv.String("tokenizer.ggml.model"); model != "gpt2" {
		return s
	}
	var ok bool
	if s.Compose, ok = kv.Bool(ComposeKey); !ok {
		pre, _ := kv.String("tokenizer.ggml.pre")
		s.Compose = pre == "qwen2"
	}
	s.SpacePrefix, _ = kv.Bool(SpacePrefixKey)
	return s
}

// Keys of the tokens that are matched as a whole and that llama.cpp matches otherwise; values are token numbers.
const (
	LStripKey     = "lathe.tokenizer.lstrip"
	RStripKey     = "lathe.tokenizer.rstrip"
	SingleWordKey = "lathe.tokenizer.single_word"
)

// WholeTokens are the numbers of tokens that are matched as a whole and take part in what is beside them. llama.cpp has no such
// property for most files.
type WholeTokens struct {
	LStrip     []int32 `json:",omitempty"` // white space before the token belongs to it
	RStrip     []int32 `json:",omitempty"` // white space behind the token belongs to it
	SingleWord []int32 `json:",omitempty"` // the token is matched only where no letter, digit or underscore is beside it
}

// Empty reports whether no token has such a property.
func (w *WholeTokens) Empty() bool { return len(w.LStrip)+len(w.RStrip)+len(w.SingleWord) == 0 }

// WholeTokens returns the tokens of the file that take part in what is beside them. Numbers that are no tokens are left out.
func (kv *KV) WholeTokens() WholeTokens {
	tokens, _ := kv.Strings("tokenizer.ggml.tokens")
	list := func(key string) []int32 {
		values, _ := kv.Ints(key)
		var ids []int32
		for _, v := range values {
			if v >= 0 && v < int64(len(tokens)) {
				ids = append(ids, int32(v))
			}
		}
		return ids
	}
	return WholeTokens{LStrip: list(LStripKey), RStrip: list(RStripKey), SingleWord: list(SingleWordKey)}
}
