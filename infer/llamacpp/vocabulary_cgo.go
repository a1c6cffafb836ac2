//go:build cgo && !nocgo

package llamacpp

import (
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/internal/vocabulary"
)

// readVocabulary returns the control tokens, the tokens that users have defined, and the length in bytes of the longest token.
func (n *native) readVocabulary(size int, w gguf.WholeTokens) (controls, whole vocabulary.Specials, longest int) {
	for id := range int32(size) {
		piece := n.piece(id)
		longest = max(longest, len(piece))
		attributes := n.attributes(id)
		token := vocabulary.Special{ID: id, Text: string(piece), LStrip: attributes&attrLStrip != 0, RStrip: attributes&attrRStrip != 0}.With(w)
		switch {
		case n.isControl(id):
			controls.Add(token)
		case attributes&attrUser != 0:
			whole.Add(token)
		}
	}
	return controls, whole, longest
}

// split converts text to tokens as llama.cpp does.
func (n *network) split(text string, parse bool) ([]int32, error) {
	// llama.cpp adds the start and the end token together: behind a prompt an end token would end the text to continue.
	ids, err := n.model.Tokenize(text, false, parse)
	if err != nil {
		return nil, err
	}
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out, nil
}
