//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64)) && !noxla

package decoder

import (
	"fmt"

	"github.com/gomlx/go-xla/compute/xla"
)

// openXLA loads the plugin at an absolute path; options are those of GoMLX's XLA backend, separated by commas.
func openXLA(kind, path, options string) (b *Device, err error) {
	defer func() {
		if r := recover(); r != nil {
			b, err = nil, fmt.Errorf("decoder: open %s: %v", path, r)
		}
	}()
	config := path
	if options != "" {
		config += "," + options
	}
	var h *heap
	if kind == "xla" {
		h = keepFreedMemory()
	}
	dev, err := xla.New(config)
	if err != nil {
		return nil, fmt.Errorf("decoder: open %s: %w", path, err)
	}
	b = newDevice(dev, kind, path)
	b.heap = h
	return b, nil
}
