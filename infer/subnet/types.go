package subnet

import (
	"errors"
	"fmt"
	"strings"
)

// ErrType is wrapped by errors about a storage type that is unknown or that cannot be converted.
var ErrType = errors.New("unsupported tensor type")

// Type is a storage type of ggml, by its number in files.
type Type uint32

// The types that have a name here, spelled as in ggml.
//
//nolint:staticcheck // underscores are part of the names
const (
	F32     Type = 0
	F16     Type = 1
	Q4_0    Type = 2
	Q4_1    Type = 3
	Q5_0    Type = 6
	Q5_1    Type = 7
	Q8_0    Type = 8
	Q8_1    Type = 9
	Q2_K    Type = 10
	Q3_K    Type = 11
	Q4_K    Type = 12
	Q5_K    Type = 13
	Q6_K    Type = 14
	Q8_K    Type = 15
	IQ2_XXS Type = 16
	IQ2_XS  Type = 17
	IQ3_XXS Type = 18
	IQ1_S   Type = 19
	IQ4_NL  Type = 20
	IQ3_S   Type = 21
	IQ2_S   Type = 22
	IQ4_XS  Type = 23
	I8      Type = 24
	I16     Type = 25
	I32     Type = 26
	I64     Type = 27
	F64     Type = 28
	IQ1_M   Type = 29
	BF16    Type = 30
	TQ1_0   Type = 34
	TQ2_0   Type = 35
	MXFP4   Type = 39
)

// layout describes one type: a row is made of blocks of elements that take some bytes each. fallback is the type to try where a
// row is not a whole number of blocks, as in llama.cpp's quantiser, and file its number of a file whose matrices have the type.
type layout struct {
	name         string
	block, bytes int
	fallback     Type
	file         uint32
}

// types is the table, by number. It is never changed.
var types = [...]layout{
	F32:     {"F32", 1, 4, F16, 0},
	F16:     {"F16", 1, 2, F16, 1},
	Q4_0:    {"Q4_0", 32, 18, F16, 2},
	Q4_1:    {"Q4_1", 32, 20, F16, 3},
	Q5_0:    {"Q5_0", 32, 22, F16, 8},
	Q5_1:    {"Q5_1", 32, 24, F16, 9},
	Q8_0:    {"Q8_0", 32, 34, F16, 7},
	Q8_1:    {"Q8_1", 32, 36, F16, 0},
	Q2_K:    {"Q2_K", 256, 84, Q4_0, 10},
	Q3_K:    {"Q3_K", 256, 110, Q4_0, 11},
	Q4_K:    {"Q4_K", 256, 144, Q5_0, 14},
	Q5_K:    {"Q5_K", 256, 176, Q5_1, 16},
	Q6_K:    {"Q6_K", 256, 210, Q8_0, 18},
	Q8_K:    {"Q8_K", 256, 292, F16, 0},
	IQ2_XXS: {"IQ2_XXS", 256, 66, F16, 0},
	IQ2_XS:  {"IQ2_XS", 256, 74, F16, 0},
	IQ3_XXS: {"IQ3_XXS", 256, 98, IQ4_NL, 23},
	IQ1_S:   {"IQ1_S", 256, 50, F16, 0},
	IQ4_NL:  {"IQ4_NL", 32, 18, F16, 25},
	IQ3_S:   {"IQ3_S", 256, 110, IQ4_NL, 26},
	IQ2_S:   {"IQ2_S", 256, 82, IQ4_NL, 28},
	IQ4_XS:  {"IQ4_XS", 256, 136, IQ4_NL, 30},
	I8:      {"I8", 1, 1, F16, 0},
	I16:     {"I16", 1, 2, F16, 0},
	I32:     {"I32", 1, 4, F16, 0},
	I64:     {"I64", 1, 8, F16, 0},
	F64:     {"F64", 1, 8, F16, 0},
	IQ1_M:   {"IQ1_M", 256, 56, F16, 0},
	BF16:    {"BF16", 1, 2, F16, 32},
	TQ1_0:   {"TQ1_0", 256, 54, F16, 0},
	TQ2_0:   {"TQ2_0", 256, 66, F16, 0},
	MXFP4:   {"MXFP4", 32, 17, Q8_0, 0},
}

// layout returns the row of t in the table, one without a name for an unknown type.
func (t Type) layout() layout {
	if int(t) >= len(types) {
		return layout{}
	}
	return types[t]
}

// Known reports whether the table has the type.
func (t Type) Known() bool { return t.layout().block > 0 }

// String returns ggml's name of the type, or its number.
func (t Type) String() string {
	if !t.Known() {
		return fmt.Sprintf("type %d", uint32(t))
	}
	return t.layout().name
}

// Block returns how many consecutive elements of a row are stored together, 0 for an unknown type.
func (t Type) Block() int { return t.layout().block }

// BlockBytes returns the bytes of one block, 0 for an unknown type.
func (t Type) BlockBytes() int { return t.layout().bytes }

// RowSize returns the bytes that a row of n elements takes, and false when n is not a multiple of the type's block.
func (t Type) RowSize(n int) (int64, bool) {
	l := t.layout()
	if l.block == 0 || n < 0 || n%l.block != 0 {
		return 0, false
	}
	return int64(n/l.block) * int64(l.bytes), true
}

// Fallback returns the type to try where rows are not whole blocks of t.
func (t Type) Fallback() Type { return t.layout().fallback }

// FileType returns the value of general.file_type for files whose matrices have the type, 0 where there is none.
func (t Type) FileType() uint32 { return t.layout().file }

// ParseType returns the type of a name, in upper or lower case. It wraps [ErrType] when there is no such type.
func ParseType(name string) (Type, error) {
	for t := range types {
		l := &types[t]
		if l.block > 0 && strings.EqualFold(l.name, name) {
			return Type(t), nil
		}
	}
	return 0, fmt.Errorf("%w: no type is named %.20q", ErrType, name)
}

// Fit returns t where rows of n elements are whole blocks of it, otherwise the first fallback that fits them.
func (t Type) Fit(n int) Type {
	for t.Known() && n%t.Block() != 0 {
		t = t.Fallback()
	}
	return t
}
