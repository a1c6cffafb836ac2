package llamacpp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Bindings is the version of the Go module with llama.cpp. GPU libraries must be of the same version: llama.cpp and they
// exchange structs.
const Bindings = "v0.24.0"

// Commit is the commit of llama.cpp that the module has.
const Commit = "ec98e2002"

// LibrariesEnv is the environment variable that names a folder of GPU libraries, instead of that in the cache; "none" is no
// folder.
const LibrariesEnv = "LATHE_GPU_LIBRARIES"

// noDriver is in the line of a library that loads and finds no device, before the reason that it logs.
const noDriver = "finds no GPU with a driver"

// WithoutDriver reports whether a line that [Engine.Probe] returned is of a library that loads and finds no GPU with a driver.
func WithoutDriver(failed string) bool { return strings.Contains(failed, noDriver) }

// manifestName is the file that describes a folder of GPU libraries; chosenName holds the name of the chosen one of the cache.
const (
	manifestName = "lathe.json"
	chosenName   = "use"
)

// manifest is the content of manifestName, written by `make gpu`.
type manifest struct {
	Bindings string `json:"bindings"` // version of the Go module that the libraries were built from
	Backend  string `json:"backend"`  // "vulkan", "cuda-sm90"
}

// FindLibraries returns the folder of the GPU libraries to use: the one that LATHE_GPU_LIBRARIES names, else the one that
// `make gpu` built last in the cache folder, "" if there is none. The error describes a folder that cannot be used.
func FindLibraries(cache string) (string, error) {
	folder := os.Getenv(LibrariesEnv)
	switch {
	case folder == "none":
		return "", nil
	case folder != "":
		return folder, checkLibraries(folder)
	case cache == "":
		return "", nil
	}
	versions := filepath.Join(cache, "gpu")
	all := filepath.Join(versions, "ollama-"+Bindings)
	name, err := os.ReadFile(filepath.Join(all, chosenName))
	if errors.Is(err, fs.ErrNotExist) {
		if others, _ := filepath.Glob(filepath.Join(versions, "ollama-*", chosenName)); len(others) > 0 {
			return "", fmt.Errorf("%s is of another version of llama.cpp than this program's, %s: run `make gpu`", filepath.Dir(others[len(others)-1]), Bindings)
		}
		return "", nil
	}
	if err != nil {
		return "", err
	}
	chosen := strings.TrimSpace(string(name))
	if chosen == "" || chosen != filepath.Base(chosen) {
		return "", fmt.Errorf("%s: %q is not the name of a folder beside it: run `make gpu`", filepath.Join(all, chosenName), chosen)
	}
	folder = filepath.Join(all, chosen, "lib", "ollama")
	return folder, checkLibraries(folder)
}

// checkLibraries returns an error for a folder without libraries, or of another version than the program's.
func checkLibraries(folder string) error {
	if !filepath.IsAbs(folder) {
		return fmt.Errorf("GPU libraries: %q is not an absolute path", folder)
	}
	const most = 1 << 16
	path := filepath.Join(folder, manifestName)
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("GPU libraries: %w: run `make gpu`", err)
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return fmt.Errorf("%s: not a description of GPU libraries: run `make gpu`", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("GPU libraries: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("%s: %w: run `make gpu`", path, err)
	}
	if m.Bindings != Bindings {
		return fmt.Errorf("%s: bindings: the libraries are of llama.cpp as in ollama %q, this program has that in %s: run `make gpu`", path, m.Bindings, Bindings)
	}
	if len(libraries(folder)) == 0 {
		return fmt.Errorf("%s has no GPU library: run `make gpu`", folder)
	}
	return nil
}

// libraries lists the GPU libraries in a folder, sorted by name.
func libraries(folder string) []string {
	found, err := filepath.Glob(filepath.Join(folder, "libggml-*.so"))
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(found, func(path string) bool {
		name := filepath.Base(path)
		return name == "libggml-base.so" || strings.HasPrefix(name, "libggml-cpu")
	})
}
