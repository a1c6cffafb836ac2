package hub

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/internal/parts"
)

// choose returns the files of a repository to download, given the names of all: the GGUF file that r names, or the safetensors
// and their sidecars, or the only GGUF file. read returns the content of a file. An index may name files that are missing.
func choose(r Repo, names []string, read func(name string) ([]byte, error)) ([]string, error) {
	if r.File != "" {
		return []string{r.File}, nil
	}
	weights, err := parts.Weights(names, read)
	if errors.Is(err, parts.ErrIndex) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	if len(weights) > 0 {
		also := append(parts.Sidecars(), parts.Index)
		if !slices.Contains(names, "tokenizer.json") {
			also = append(also, parts.Vocabulary()...)
		}
		chosen := slices.DeleteFunc(also, func(name string) bool { return !slices.Contains(names, name) })
		return append(chosen, weights...), nil
	}
	var files []string
	for _, name := range names {
		if filepath.Ext(name) == ".gguf" {
			files = append(files, name)
		}
	}
	switch len(files) {
	case 0:
		return nil, fmt.Errorf("%w: neither safetensors nor GGUF files", ErrNotFound)
	case 1:
		return files, nil
	}
	slices.Sort(files)
	return nil, fmt.Errorf("%d GGUF files, so one must be named, as %s/%s: %s", len(files), r, files[0], strings.Join(files, ", "))
}

// ggufOf returns the GGUF file among the chosen ones, "" where they are safetensors.
func ggufOf(chosen []string) string {
	if len(chosen) == 1 && filepath.Ext(chosen[0]) == ".gguf" {
		return chosen[0]
	}
	return ""
}
