package quality

// Probe is a question for a quick look at how a model talks.
type Probe struct {
	Name string // what it tries
	Text string
	Look string // what a good answer has
}

// Probes is a small set of them, from what any model that talks can do to what small ones often cannot.
func Probes() []Probe {
	return []Probe{
		{"greeting", "Hello! Who are you?", "whole sentences, in English, and an end"},
		{"fact", "What is the capital of France?", "Paris"},
		{"list", "Name three colours of the rainbow, one on each line.", "three lines"},
		{"arithmetic", "I have seven apples and eat two. How many are left?", "five"},
		{"explanation", "Why is the sky blue? Answer in two sentences.", "scattering of light, and two sentences"},
		{"rewriting", "Rewrite politely: Send me the report now.", "the same request, politely"},
		{"story", "Tell a story of about a hundred words about a lighthouse keeper.", "one story that holds together and does not go in circles"},
		{"code", "Write a Python function that returns the larger of two numbers.", "def, return, and no syntax error"},
		{"instruction", "Answer with the single word \"yes\".", "yes, and nothing else"},
		{"not knowing", "What did I have for breakfast today?", "that it cannot know"},
	}
}
