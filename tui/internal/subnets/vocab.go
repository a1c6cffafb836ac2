package subnets

import (
	"strings"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/tui/internal/widget"
)

// CheckVocab checks a size of the vocabulary, which may be empty.
func CheckVocab(text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	_, err := explorer.ParseVocabSize(text)
	return err
}

// VocabOf returns the size of the vocabulary entered as "vocab", the zero value for all of it.
func VocabOf(f *widget.Form) explorer.VocabSize {
	v, _ := explorer.ParseVocabSize(f.Get("vocab")) // the entry has checked it
	return v
}
