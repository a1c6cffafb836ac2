//go:build !cgo || nocgo

package gguf

func decodable(t Type) bool {
	switch t {
	case F16, BF16, Q4_0, Q4_1, Q8_0:
		return true
	}
	return false
}

func encodable(t Type) bool {
	switch t {
	case F16, BF16, Q8_0:
		return true
	}
	return false
}

func decode(t Type, data []byte, n int) []float32 { return decodePure(t, data, n) }

func encode(t Type, values []float32, _ int, _ []float32) []byte { return encodePure(t, values) }

// weighable reports whether this build rounds to a type by the importance of columns.
func weighable(Type) bool { return false }
