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
	if t == F32 {
		data := make([]byte, 0, 4*len(values))
		for _, v := range values {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		return data, nil
	}
	return encode(t, values, width), nil
}
