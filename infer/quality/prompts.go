package quality

import "strings"

// A Probe is a prompt for a quick check of what a model replies.
type Probe struct {
	Name string // what it tests
	Text string
	Look string // what a good reply has
}

// Probes returns a small set of prompts, from what any chat model can do to what small ones often cannot.
func Probes() []Probe {
	return []Probe{
		{"greeting", "Hello! Who are you?", "whole sentences, in English, and an end"},
		{"fact", "What is the capital of France?", "Paris"},
		{"list", "Name three colours of the rainbow, one on each line.", "three lines"},
		{"arithmetic", "I have seven apples and eat two. How many are left?", "five"},
		{"explanation", "Why is the sky blue? Answer in two sentences.", "scattering of light, and two sentences"},
		{"rewriting", "Rewrite politely: Send me the report now.", "the same request, politely"},
		{"story", "Tell a story of about a hundred words about a lighthouse keeper.", "one coherent story that does not repeat itself"},
		{"code", "Write a Python function that returns the larger of two numbers.", "def, return, and no syntax error"},
		{"instruction", "Answer with the single word \"yes\".", "yes, and nothing else"},
		{"not knowing", "What did I have for breakfast today?", "that it cannot know"},
	}
}

// Repeats returns the share of a text's runs of four words that occur earlier in it: near 0 in prose, near 1 in text that repeats
// itself. A text of fewer than eight words has none.
func Repeats(text string) float64 {
	const run, least = 4, 8
	words := strings.Fields(text)
	if len(words) < least {
		return 0
	}
	seen := make(map[string]bool)
	again := 0
	for i := range len(words) - run + 1 {
		key := strings.Join(words[i:i+run], " ")
		if seen[key] {
			again++
		}
		seen[key] = true
	}
	return float64(again) / float64(len(words)-run+1)
}
