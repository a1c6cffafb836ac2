package hub

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// Files of a model that say what the weights next to them are.
const (
	indexFile  = "model.safetensors.index.json"
	singleFile = "model.safetensors"
)

// sidecars are the files other than weights that a conversion reads.
var sidecars = [...]string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
	"added_tokens.json", "special_tokens_map.json", "chat_template.jinja"}

// choose picks from the names of a repository those that are wanted: the GGUF file that was asked for, or the safetensors
// with what belongs to them, or the only GGUF file there is. read gives the content of one of them. Some of those wanted
// may not be there: an index can name what is missing.
func choose(r Repo, names []string, read func(name string) ([]byte, error)) ([]string, error) {
	if r.File != "" {
		return []string{r.File}, nil
	}
	weights, err := weightFiles(names, read)
	if err != nil {
		return nil, err
	}
	if len(weights) > 0 {
		var wanted []string
		for _, name := range sidecars {
			if slices.Contains(names, name) {
				wanted = append(wanted, name)
			}
		}
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

// weightFiles are the safetensors that make up the model: those of the index, the one of the usual name, or all.
func weightFiles(names []string, read func(name string) ([]byte, error)) ([]string, error) {
	if slices.Contains(names, indexFile) {
		b, err := read(indexFile)
		if err != nil {
			return nil, err
		}
		list, err := indexed(b)
		if err != nil {
			return nil, err
		}
		return append([]string{indexFile}, list...), nil
	}
	if slices.Contains(names, singleFile) {
		return []string{singleFile}, nil
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

// indexed lists the files of an index, each once.
func indexed(b []byte) ([]string, error) {
	var index struct {
		Files map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", indexFile, ErrDamaged, err)
	}
	list := slices.Compact(slices.Sorted(maps.Values(index.Files)))
	for _, name := range list {
		if name != filepath.Base(name) || filepath.Ext(name) != ".safetensors" {
			return nil, fmt.Errorf("%s: %w: a file %.60q", indexFile, ErrDamaged, name)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: %w: no weight_map", indexFile, ErrDamaged)
	}
	return list, nil
}

// ggufOf is the GGUF file among those wanted, "" where they are safetensors.
func ggufOf(wanted []string) string {
	if len(wanted) == 1 && filepath.Ext(wanted[0]) == ".gguf" {
		return wanted[0]
	}
	return ""
}
