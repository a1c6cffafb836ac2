package gguftest

import "strings"

// Scripted returns m with weights that make its most likely token a function of the last token alone: next[t] after t, and otherwise
// after tokens that next does not have. m must not be tied, and wider than next is long.
func (m Model) Scripted(next map[int]int, otherwise int) Model {
	channel := make(map[int]int) // of the residual stream, which the token's embedding sets
	for t := range next {
		channel[t] = len(channel) + 1
	}
	m.Values = func(name string, values []float32) {
		switch {
		case name == "token_embd.weight":
			clear(values)
			for t := range m.Vocab {
				values[t*m.Hidden+channel[t]] = 10
			}
		case name == "output.weight":
			clear(values)
			values[otherwise*m.Hidden] = 1
			for t, then := range next {
				values[then*m.Hidden+channel[t]] = 1
			}
		case strings.HasSuffix(name, "attn_output.weight"), strings.HasSuffix(name, "ffn_down.weight"):
			clear(values) // the blocks add nothing
		}
	}
	return m
}
