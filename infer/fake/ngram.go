package fake

import "math"

// Tokens are bytes, then three special ones.
const (
	tokenBOS   = 256 + iota // <|start|>
	tokenStart              // <|im_start|>
	tokenEnd                // <|im_end|>
	vocab
)

var special = map[int32]string{tokenBOS: "<|start|>", tokenStart: "<|im_start|>", tokenEnd: "<|im_end|>"}

const (
	order        = 6    // longest context of a prediction, in tokens
	trainContext = 1024 // that a model reports
)

// grams counts the tokens that followed each context of up to order tokens.
type grams map[string]*[vocab]float32

func learn(text string) grams {
	g := grams{}
	tokens := make([]int32, 0, len(text)+1)
	for _, b := range []byte(text) {
		tokens = append(tokens, int32(b))
	}
	tokens = append(tokens, tokenEnd)
	for i, next := range tokens {
		for n := 0; n <= min(order, i); n++ {
			key := contextKey(tokens[i-n : i])
			if g[key] == nil {
				g[key] = new([vocab]float32)
			}
			g[key][next]++
		}
	}
	return g
}

func contextKey(tokens []int32) string {
	key := make([]byte, 0, 2*order)
	for _, t := range tokens {
		key = append(key, byte(t), byte(t>>8))
	}
	return string(key)
}

// logits computes the natural logarithm of the distribution of the token after history, [vocab]: starting from the uniform
// distribution, each longer context that occurred in the text takes four fifths of the probability.
func (g grams) logits(history []int32, out []float32) {
	var p [vocab]float64
	for i := range p {
		p[i] = 1.0 / vocab
	}
	for n := 0; n <= min(order, len(history)); n++ {
		counts := g[contextKey(history[len(history)-n:])]
		if counts == nil {
			break
		}
		sum := 0.0
		for _, c := range counts {
			sum += float64(c)
		}
		for i := range p {
			p[i] = 0.2*p[i] + 0.8*float64(counts[i])/sum
		}
	}
	for i := range p {
		out[i] = float32(math.Log(p[i]))
	}
}
