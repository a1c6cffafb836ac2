package format

import "github.com/lathe-llm/lathe/infer/plain"

// Error returns the text of an error for people, as [plain.Error] does.
func Error(err error) string { return plain.Error(err) }
