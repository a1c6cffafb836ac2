// Package vocab chooses which entries of a model's vocabulary to keep.
//
// A tokenizer makes a token of shorter ones by merging them, so that a vocabulary cannot lose any entry: a [Vocabulary] knows what each
// token is merged of, and [Vocabulary.Rank] drops only tokens that no kept one is merged of, those that a text uses least first. Texts then
// tokenise as before wherever they used kept tokens only, and into shorter tokens elsewhere, down to single bytes.
//
//	v, err := vocab.New(vocab.Tables{Tokens: tokens, Types: types, Merges: merges, Pairs: true})
//	r, err := v.Rank(vocab.Request{Counts: counts})
//	n, err := r.Keep(24000, false)
//	kept := r.Kept(n)
//
// The package knows byte-level pairs (BPE, llama.cpp's gpt2) and pieces with scores (SentencePiece, llama.cpp's llama).
package vocab
