package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Readable reports whether this build can convert numbers of a type to float32. A build without cgo converts fewer types.
func Readable(t Type) bool {
	return t == F32 || decodable(t)
}

// Writable reports whether this build can store float32 numbers as a type. Types that need an importance matrix never can.
func Writable(t Type) bool {
	return t == F32 || encodable(t)
}

// WritableNames returns the names of the types that this build can store, the largest first.
func WritableNames() []string {
	var types []Type
	for t := range Type(256) {
		if t.Known() && Writable(t) {
			types = append(types, t)
		}
	}
	bits := func(t Type) int { return 8192 * t.BlockBytes() / t.Block() }
	slices.SortStableFunc(types, func(a, b Type) int { return bits(b) - bits(a) })
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.String()
	}
	return names
}

// Decode converts whole stored blocks to numbers. It wraps [ErrType] for a type that this build cannot convert.
func Decode(t Type, data []byte) ([]float32, error) {
	if !Readable(t) {
		return nil, fmt.Errorf("%w: %s cannot be converted", ErrType, t)
	}
	if len(data)%t.BlockBytes() != 0 {
		return nil, fmt.Errorf("%d bytes are not a whole number of blocks of %s", len(data), t)
	}
	n := len(data) / t.BlockBytes() * t.Block()
	if n == 0 {
		return nil, nil
	}
	if t == F32 {
		values := make([]float32, n)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		return values, nil
	}
	return decode(t, data, n), nil
}

// Encode converts rows of width numbers to their stored form. It wraps [ErrType] for a type that this build cannot write or whose blocks do not
// divide the width, and [ErrRange] for a number that would become infinite.
func Encode(t Type, values []float32, width int) ([]byte, error) {
	return EncodeWeighted(t, values, width, nil)
}

// EncodeWeighted is [Encode] where a squared error in column i counts importance[i] times, in the types for which this build has such a
// rounding. Columns of no importance count a little. A nil importance is that of Encode.
func EncodeWeighted(t Type, values []float32, width int, importance []float32) ([]byte, error) {
	if !Writable(t) {
		return nil, fmt.Errorf("%w: %s cannot be written", ErrType, t)
	}
	if width <= 0 || len(values)%width != 0 {
		return nil, fmt.Errorf("%d numbers are not rows of %d", len(values), width)
	}
	if width%t.Block() != 0 {
		return nil, fmt.Errorf("%w: rows of %d are not a multiple of the %d that %s stores together", ErrType, width, t.Block(), t)
	}
	if len(values) == 0 {
		return nil, nil
	}
	if err := CheckRange(t, values); err != nil {
		return nil, err
	}
	weights, err := positive(importance, width)
	if err != nil {
		return nil, err
	}
	if t == F32 {
		data := make([]byte, 0, 4*len(values))
		for _, v := range values {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		return data, nil
	}
	return encode(t, values, width, weights), nil
}

// leastImportance is the least importance of a column, as a share of the mean: ggml divides by sums of them.
const leastImportance = 1e-6

// positive returns the importance of width columns with small and zero numbers raised, nil where there is none.
func positive(importance []float32, width int) ([]float32, error) {
	if importance == nil {
		return nil, nil
	}
	if len(importance) != width {
		return nil, fmt.Errorf("importance of %d columns, the rows have %d", len(importance), width)
	}
	var mean float64
	for i, v := range importance {
		if !(v >= 0) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("the importance of column %d is %v", i, v)
		}
		mean += float64(v) / float64(width)
	}
	if mean == 0 {
		return nil, nil
	}
	weights := make([]float32, width)
	for i, v := range importance {
		weights[i] = max(v/float32(mean), leastImportance)
	}
	return weights, nil
}

// Round returns what numbers become when they are stored as a type and read back, as [EncodeWeighted] and [Decode] do.
func Round(t Type, values []float32, width int, importance []float32) ([]float32, error) {
	data, err := EncodeWeighted(t, values, width, importance)
	if err != nil {
		return nil, err
	}
	return Decode(t, data)
}
