//go:build cgo && !nocgo

package gguf

import (
	fsggml "github.com/ollama/ollama/fs/ggml"
	"github.com/ollama/ollama/ml/backend/ggml"
)

// decodable and encodable list the types that ggml converts: it panics or aborts on others.
func decodable(t Type) bool {
	switch t {
	case F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, MXFP4:
		return true
	default: // nothing for the others
	}
	return false
}

func encodable(t Type) bool {
	switch t {
	case F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K:
		return true
	default: // nothing for the others
	}
	return false
}

func decode(t Type, data []byte, n int) []float32 {
	return ggml.ConvertToF32(data, uint32(t), uint64(n))
}

func encode(t Type, values []float32, width int) []byte {
	return ggml.Quantize(fsggml.TensorType(t), values, []uint64{uint64(width), uint64(len(values) / width)})
}
