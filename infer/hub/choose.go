package hub

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/internal/parts"
)

// choose picks from the names of a repository those that are wanted: the GGUF file that was asked for, or the safetensors
// with what belongs to them, or the only GGUF file there is. read gives the content of one of them. Some of those wanted
// may not be there: an index can name what is missing.
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
		wanted := slices.DeleteFunc(also, func(name string) bool { return !slices.Contains(names, name) })
		return append(wanted, weights...), nil
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

// ggufOf is the GGUF file among those wanted, "" where they are safetensors.
func ggufOf(wanted []string) string {
	if len(wanted) == 1 && filepath.Ext(wanted[0]) == ".gguf" {
		return wanted[0]
	}
	return ""
}
