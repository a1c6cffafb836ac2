package infer

import (
	"fmt"
	"strconv"
)

// Words for a number of layers on the GPU, beside numbers.
const (
	GPUOff  = "off"  // none: 0
	GPUAuto = "auto" // as many as fit: AllLayers
)

// ParseGPU returns the value of [LoadOptions].GPULayers that a text means: off, auto or a number. "" means auto. Its error
// wraps ErrInvalid.
func ParseGPU(text string) (layers int, err error) {
	switch text {
	case GPUOff:
		return 0, nil
	case GPUAuto, "":
		return AllLayers, nil
	}
	const most = 1 << 20
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%q is not %s, %s or a number of layers: %w", text, GPUOff, GPUAuto, ErrInvalid)
	}
	return n, nil
}

// FormatGPU returns the text that [ParseGPU] reads as layers.
func FormatGPU(layers int) string {
	switch {
	case layers < 0:
		return GPUAuto
	case layers == 0:
		return GPUOff
	}
	return strconv.Itoa(layers)
}
