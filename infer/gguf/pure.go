package gguf

import (
	"encoding/binary"
	"math"
)

// decodePure converts the simple types in Go: those of a build without cgo, and the reference for ggml's conversion in tests.
func decodePure(t Type, data []byte, n int) []float32 {
	values := make([]float32, n)
	switch t {
	case F16:
		for i := range values {
			values[i] = halfToFloat(binary.LittleEndian.Uint16(data[2*i:]))
		}
	case BF16:
		for i := range values {
			values[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(data[2*i:])) << 16)
		}
	case Q8_0:
		for b := range n / 32 {
			block := data[34*b:]
			d := halfToFloat(binary.LittleEndian.Uint16(block))
			for i := range 32 {
				values[32*b+i] = d * float32(int8(block[2+i]))
			}
		}
	case Q4_0:
		for b := range n / 32 {
			block := data[18*b:]
			d := halfToFloat(binary.LittleEndian.Uint16(block))
			for i := range 16 {
				values[32*b+i] = d * float32(int(block[2+i]&15)-8)
				values[32*b+16+i] = d * float32(int(block[2+i]>>4)-8)
			}
		}
	case Q4_1:
		for b := range n / 32 {
			block := data[20*b:]
			d, m := halfToFloat(binary.LittleEndian.Uint16(block)), halfToFloat(binary.LittleEndian.Uint16(block[2:]))
			for i := range 16 {
				values[32*b+i] = d*float32(block[4+i]&15) + m
				values[32*b+16+i] = d*float32(block[4+i]>>4) + m
			}
		}
	default: // nothing for the others
	}
	return values
}

// encodePure stores numbers as F16, BF16 or Q8_0.
func encodePure(t Type, values []float32) []byte {
	var data []byte
	switch t {
	case F16:
		for _, v := range values {
			data = binary.LittleEndian.AppendUint16(data, floatToHalf(v))
		}
	case BF16:
		for _, v := range values {
			data = binary.LittleEndian.AppendUint16(data, floatToBrain(v))
		}
	case Q8_0:
		for b := 0; b < len(values); b += 32 {
			block := values[b : b+32]
			var top float32
			for _, v := range block {
				top = max(top, float32(math.Abs(float64(v))))
			}
			d := top / 127
			var inverse float32
			if d != 0 {
				inverse = 1 / d
			}
			data = binary.LittleEndian.AppendUint16(data, floatToHalf(d))
			for _, v := range block {
				data = append(data, byte(int8(math.Round(float64(v*inverse)))))
			}
		}
	default: // nothing for the others
	}
	return data
}

// halfToFloat converts an IEEE 754 half, exactly.
func halfToFloat(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch exp {
	case 0:
		v := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// floatToHalf rounds to the nearest half, ties to even; values out of range become infinite.
func floatToHalf(v float32) uint16 {
	b := math.Float32bits(v)
	sign, mag := uint16(b>>16)&0x8000, b&0x7fffffff
	switch {
	case mag > 0x7f800000:
		return sign | 0x7e00
	case mag >= 0x477ff000: // 65520 and more round to infinity
		return sign | 0x7c00
	case mag < 0x38800000: // below the smallest normal half: steps of 2^-24
		step := math.RoundToEven(float64(math.Float32frombits(mag)) * (1 << 24))
		return sign | uint16(step)
	}
	mag += 0xfff + mag>>13&1
	return sign | uint16((mag-112<<23)>>13)
}

// floatToBrain rounds to the nearest bfloat16, ties to even.
func floatToBrain(v float32) uint16 {
	b := math.Float32bits(v)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 64
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
