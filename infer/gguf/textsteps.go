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
