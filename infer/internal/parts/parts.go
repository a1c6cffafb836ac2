// Package parts knows which files of a folder that Hugging Face's transformers library wrote make up a model: its weights as
// safetensors and what belongs to them. Weights may be there in several forms; one of them is the model.
package parts

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// Index is the file that says which files hold the weights, where they are more than one.
const Index = "model.safetensors.index.json"

const single = "model.safetensors"

// MaxFiles bounds the files of one model.
const MaxFiles = 4096

// ErrIndex is wrapped where an index is none.
var ErrIndex = errors.New("not an index of safetensors files")

// Sidecars are the files other than weights that a conversion reads; not every model has all.
func Sidecars() []string {
	return []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
		"added_tokens.json", "special_tokens_map.json", "chat_template.jinja"}
}

// Vocabulary are the files that hold a vocabulary of byte pairs where there is no tokenizer.json.
func Vocabulary() []string { return []string{"vocab.json", "merges.txt"} }

// Weights picks the safetensors files of the model from the names of a folder: those that the index names, or else the one
// of the usual name, or else all there are, in alphabetical order. read gives the content of the index. What an index names
// may be missing among the names.
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

// ParseIndex lists the files of an index, each once. They lie beside it, whatever it says.
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
