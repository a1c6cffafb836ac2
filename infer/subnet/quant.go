package subnet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrType is wrapped when a storage type is not known.
var ErrType = errors.New("mask: unknown storage type")

// storage is how ggml lays out one type: bytes for each block of elements of a
// row, and the type that stands in where a row is not made of whole blocks.
type storage struct {
	block, bytes int
	fallback     string
}

func storageOf(name string) (storage, bool) {
	switch name {
	case "F32":
		return storage{1, 4, ""}, true
	case "F16", "BF16":
		return storage{1, 2, ""}, true
	case "Q4_0":
		return storage{32, 18, "F16"}, true
	case "Q4_1":
		return storage{32, 20, "F16"}, true
	case "Q5_0":
		return storage{32, 22, "F16"}, true
	case "Q5_1":
		return storage{32, 24, "F16"}, true
	case "Q8_0":
		return storage{32, 34, "F16"}, true
	case "Q4_K":
		return storage{256, 144, "Q5_0"}, true
	case "Q5_K":
		return storage{256, 176, "Q5_1"}, true
	case "Q6_K":
		return storage{256, 210, "Q8_0"}, true
	}
	return storage{}, false
}

// TensorType returns the type in which a matrix with rows of n elements is
// stored when the given one is asked for: that type where rows are whole blocks,
// otherwise the nearest that fits, as llama.cpp's quantiser falls back. Names
// are ggml's, in any case; an unknown one wraps [ErrType].
func TensorType(name string, n int) (string, error) {
	for name = strings.ToUpper(name); ; {
		s, ok := storageOf(name)
		if !ok {
			return "", fmt.Errorf("%w %.20q", ErrType, name)
		}
		if n%s.block == 0 {
			return name, nil
		}
		name = s.fallback
	}
}

// RowBytes returns the bytes of a row of n elements stored as [TensorType] says.
func RowBytes(name string, n int) (int64, error) {
	name, err := TensorType(name, n)
	if err != nil {
		return 0, err
	}
	s, _ := storageOf(name)
	return int64(n/s.block) * int64(s.bytes), nil
}

// Bytes returns the bytes of the tensor when matrices are asked for in the given
// type; vectors are F32.
func (t Tensor) Bytes(name string) (int64, error) {
	if t.Vector {
		name = "F32"
	}
	row, err := RowBytes(name, t.Cols)
	return row * int64(t.Rows), err
}

func blockPrefix(layer int) string { return "blk." + strconv.Itoa(layer) + "." }
