package convert

// SplitSteps returns the pre-tokenizer of llama.cpp's name, as steps of tokenizer.json.
func SplitSteps(name string) ([]any, bool, error) { return splitSteps(name, false) }

// SplitterNames returns the names of the pre-tokenizers that can be written.
func SplitterNames() []string {
	var names []string
	for _, s := range splitters {
		if len(names) == 0 || s.name != "qwen2" || names[len(names)-1] == "dbrx" {
			names = append(names, s.name)
		}
	}
	return names
}
