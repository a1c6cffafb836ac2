// Package parts lists the files that make up a model in a folder written by Hugging Face's transformers library: its weights as
// safetensors, and their sidecars. A folder may hold the weights in several forms, of which one is chosen.
package parts

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// Index is the file that lists the files of the weights where they are more than one.
const Index = "model.safetensors.index.json"

const single = "model.safetensors"

// MaxFiles bounds the files of one model.
const MaxFiles = 4096

// ErrIndex is wrapped where an index is invalid.
var ErrIndex = errors.New("not an index of safetensors files")

// Sidecars returns the files other than weights that a conversion reads; not every model has all of them.
func Sidecars() []string {
	return []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
		"added_tokens.json", "special_tokens_map.json", "chat_template.jinja"}
}

// Vocabulary returns the files of a byte-pair vocabulary, for folders without tokenizer.json.
func Vocabulary() []string { return []string{"vocab.json", "merges.txt"} }

// Weights returns the safetensors files of the model, given the names in a folder: those in the index, or else
// model.safetensors, or else all, sorted. read returns the content of the index. An index may list files that are not among the
// names.
func Weights(names []string, read func(name string) ([]byte, error)) ([]string, error) {
	if slices.Contains(names, Index) {
		b, err := read(Index)
		if err != nil {
			return nil, err
		}
		list, err := ParseIndex(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", Index, err)
		}
		return list, nil
	}
	if slices.Contains(names, single) {
		return []string{single}, nil
	}
	var all []string
	for _, name := range names {
		if filepath.Ext(name) == ".safetensors" {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all, nil
}

// ParseIndex returns the files in an index, each once. Names with a folder are an error.
func ParseIndex(b []byte) ([]string, error) {
	var index struct {
		Files map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIndex, err)
	}
	list := slices.Compact(slices.Sorted(maps.Values(index.Files)))
	for _, name := range list {
		if name != filepath.Base(name) || filepath.Ext(name) != ".safetensors" {
			return nil, fmt.Errorf("%w: it names a file %.60q", ErrIndex, name)
		}
	}
	if len(list) == 0 || len(list) > MaxFiles {
		return nil, fmt.Errorf("%w: weight_map names %d files, not from 1 to %d", ErrIndex, len(list), MaxFiles)
	}
	return list, nil
}
