//go:build !(cgo && ((linux && (amd64 || arm64)) || (darwin && arm64)) && !noxla)

package decoder

import (
	"fmt"

	"github.com/gomlx/compute"
)

// openXLA fails: XLA is loaded through cgo, which this program was built without.
func openXLA(kind, path, options string) (*Device, error) {
	return nil, fmt.Errorf("%w: this program was built without cgo, so it cannot load %s", ErrNoDevice, path)
}

// clientOf returns nil: there is no XLA.
func clientOf(compute.Backend) client { return nil }
