package gguf

import "github.com/lathe-llm/lathe/infer/subnet"

// Type is the storage type of a tensor, see [Readable] and [Writable].
type Type = subnet.Type

// The types that this package converts.
//
//nolint:staticcheck // underscores are part of the names
const (
	F32   = subnet.F32
	F16   = subnet.F16
	BF16  = subnet.BF16
	Q4_0  = subnet.Q4_0
	Q4_1  = subnet.Q4_1
	Q5_0  = subnet.Q5_0
	Q5_1  = subnet.Q5_1
	Q8_0  = subnet.Q8_0
	Q2_K  = subnet.Q2_K
	Q3_K  = subnet.Q3_K
	Q4_K  = subnet.Q4_K
	Q5_K  = subnet.Q5_K
	Q6_K  = subnet.Q6_K
	MXFP4 = subnet.MXFP4
)

// ParseType returns the type of a name, in upper or lower case. It wraps [ErrType] when there is no such type.
func ParseType(name string) (Type, error) { return subnet.ParseType(name) }

// Tensor describes one tensor of a file.
type Tensor struct {
	Name string
	Type Type
	// Dims are the extents, [out, in] for a matrix.
	Dims []int
	// Offset is the position of the first byte in the file.
	Offset int64
	// Size is the length in bytes.
	Size int64
}

// Elements returns the number of numbers in the tensor.
func (t Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Dims {
		n *= int64(d)
	}
	return n
}
