//go:build cgo && !nocgo && !unix

package llamacpp

import (
	"fmt"
	"path/filepath"
)

// openLibrary makes the devices of a GPU library available.
func openLibrary(path string) error {
	return fmt.Errorf("%s: GPU libraries are not loaded on this system", filepath.Base(path))
}
