package gguf

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// ErrRange is wrapped by errors about a finite number that would become infinite in the type it is to be stored as.
var ErrRange = errors.New("number out of range")

// maxHalf is the largest finite F16.
const maxHalf = 65504

// limit returns the magnitude up to which every number has a finite form in a type: that of its scales, which are halves, in types
// that store blocks.
func limit(t Type) float32 {
	switch t {
	case F32:
		return math.MaxFloat32
	case BF16:
		return math.Float32frombits(0x7f7f7fff) // what is larger rounds to infinity
	case F16:
		return math.Nextafter32(maxHalf+16, 0)
	case Q4_0:
		return 8 * maxHalf
	case Q5_0:
		return 16 * maxHalf
	case Q8_0:
		return 127 * maxHalf
	default: // nothing for the others
	}
	return maxHalf
}

// CheckRange returns an error where numbers cannot be stored as a type. It wraps [ErrRange] where a finite number would become infinite.
// Blocks hold neither NaN nor infinite numbers; the other types keep both.
func CheckRange(t Type, values []float32) error {
	if t == F32 {
		return nil
	}
	bound := limit(t)
	for _, v := range values {
		if v <= bound && v >= -bound {
			continue
		}
		switch finite := v-v == 0; {
		case finite:
			return fmt.Errorf("%w: %v would be infinite as %s", ErrRange, v, t)
		case t.Block() > 1:
			return fmt.Errorf("%v cannot be stored as %s", v, t)
		}
	}
	return nil
}

// WiderType returns the type to store a tensor of a type in, where another type lacks the range: one with the range of the tensor.
func WiderType(src Type) Type {
	if src == BF16 {
		return BF16
	}
	return F32
}

// FileType returns the value of general.file_type for tensors: that of the type of most numbers in matrices. ok is false where there
// is none.
func FileType(tensors []Tensor) (value uint32, ok bool) {
	count := make(map[Type]int64)
	for _, t := range tensors {
		if len(t.Dims) > 1 {
			count[t.Type] += t.Elements()
		}
	}
	var most Type
	found := false
	for t, n := range count {
		if !found || n > count[most] || n == count[most] && t < most {
			most, found = t, true
		}
	}
	return most.FileType(), found && (most == F32 || most.FileType() != 0)
}

// QuantizationVersion is the value of general.quantization_version: that of the layouts of blocks.
const QuantizationVersion = 2

// IsQuantized reports whether a tensor is stored in blocks.
func IsQuantized(tensors []Tensor) bool {
	return slices.ContainsFunc(tensors, func(t Tensor) bool { return t.Type.Block() > 1 })
}
