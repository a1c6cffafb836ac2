//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && arm64)) && !noxla

package decoder

import (
	"fmt"
	"os"
	"strings"

	"github.com/gomlx/compute"
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
	var dev compute.Backend
	if kind == "cuda" {
		restore := quiet()
		prepareCUDA(path)
		dev, err = xla.New(config)
		restore()
	} else {
		dev, err = xla.New(config)
	}
	if err != nil {
		return nil, fmt.Errorf("decoder: open %s: %w", path, err)
	}
	b = NewDevice(dev, kind, path)
	b.heap = h
	return b, nil
}

// prepareCUDA sets what XLA reads from the environment while a plugin for CUDA loads: the folder of NVIDIA's compiler, unless the
// user names one.
func prepareCUDA(plugin string) {
	const flags, dataFlag = "XLA_FLAGS", "--xla_gpu_cuda_data_dir"
	_ = os.Setenv("GOPJRT_CUDA_CHECKS", "0") // a warning of GoMLX's that expects another layout
	if data := cudaData(plugin); data != "" && !strings.Contains(os.Getenv(flags), dataFlag) {
		_ = os.Setenv(flags, strings.TrimSpace(os.Getenv(flags)+" "+dataFlag+"="+data)) // fails for malformed names only
	}
}
