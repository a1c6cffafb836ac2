package hub

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/lathe-llm/lathe/infer/internal/parts"
)

// choose returns the files of a repository to download, given the names of all: the GGUF file that r names, or the safetensors
// and their sidecars, or the only GGUF file. read returns the content of a file. An index may name files that are missing.
func choose(r Repo, names []string, read func(name string) ([]byte, error)) ([]string, error) {
	if isPart(r.File) {
		return nil, partsError(r, r.File)
	}
	if r.File != "" {
		return []string{r.File}, nil
	}
	top := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return strings.Contains(name, "/") })
	weights, err := parts.Weights(top, read)
	if errors.Is(err, parts.ErrIndex) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, err
	}
	if len(weights) > 0 {
		also := append(parts.Sidecars(), parts.Index)
		if !slices.Contains(top, "tokenizer.json") {
			also = append(also, parts.Vocabulary()...)
		}
		chosen := slices.DeleteFunc(also, func(name string) bool { return !slices.Contains(names, name) })
		return append(chosen, weights...), nil
	}
	var files, others, nested []string
	for _, name := range names {
		switch {
		case filepath.Ext(name) == ".safetensors":
			nested = append(nested, name)
		case filepath.Ext(name) != ".gguf":
		case isModel(name):
			files = append(files, name)
		default:
			others = append(others, name)
		}
	}
	slices.Sort(files)
	switch whole := slices.DeleteFunc(slices.Clone(files), isPart); {
	case len(whole) == 1:
		return whole, nil
	case len(whole) > 1:
		return nil, fmt.Errorf("%w: %d GGUF files, so one must be named, as %s/%s: %s", ErrAmbiguous, len(whole), r, whole[0], list(whole))
	case len(files) > 0:
		return nil, partsError(r, files[0])
	case len(others) > 0:
		return nil, fmt.Errorf("%w: a model: the GGUF files are projectors or importance matrices: %s", ErrNotFound, list(others))
	case len(nested) > 0:
		return nil, fmt.Errorf("%w: safetensors files at the top: they are in folders, which can be downloaded and converted by themselves: %s", ErrNotFound, list(nested))
	}
	return nil, fmt.Errorf("%w: neither safetensors nor GGUF files", ErrNotFound)
}

// list returns names in one line, the first ones where there are many.
func list(names []string) string {
	const most = 20
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

var (
	part  = regexp.MustCompile(`-(\d{5})-of-(\d{5})\.gguf$`)
	quant = regexp.MustCompile(`(?i)(^|[-._])(i?q\d|tq\d|bf16|f16|f32|fp16|mxfp4)`)
)

// isPart reports whether a file is one of several parts of a model, by its name.
func isPart(name string) bool {
	m := part.FindStringSubmatch(name)
	return len(m) > 2 && m[2] != "00001"
}

// isModel reports whether a GGUF file has the weights of a language model, by its name: projectors of images and importance
// matrices have names of their own.
func isModel(name string) bool {
	base := strings.ToLower(path.Base(name))
	return !strings.Contains(base, "mmproj") && (!strings.Contains(base, "imatrix") || quant.MatchString(base))
}

// partsError returns the error of a model in several parts, of which name is one.
func partsError(r Repo, name string) error {
	at := part.FindStringSubmatchIndex(name)
	stem, count := name[:at[0]], name[at[4]:at[5]]
	first := stem + "-00001-of-" + count + ".gguf"
	return fmt.Errorf("%w: %s has the model in %s parts: download them with `hf download %s --include '%s-*.gguf' --local-dir DIR` and join them with `llama-gguf-split --merge DIR/%s joined.gguf`",
		ErrParts, first, strings.TrimLeft(count, "0"), r.ID(), stem, first)
}

// ggufOf returns the GGUF file among the chosen ones, "" where they are safetensors.
func ggufOf(chosen []string) string {
	if len(chosen) == 1 && filepath.Ext(chosen[0]) == ".gguf" {
		return chosen[0]
	}
	return ""
}
