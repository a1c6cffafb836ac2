//go:build cgo && !nocgo

package gguf

/*
#include <stddef.h>
#include <stdint.h>

// Functions of ggml that the Go package does not export with all their arguments, declared by hand: the headers are not on the
// include path of other packages. They take pointers and scalars only; a missing name fails the build.
size_t ggml_quantize_chunk(int type, const float * src, void * dst, int64_t start, int64_t nrows, int64_t n_per_row, const float * imatrix);
void dequantize_row_iq4_nl(const void * x, float * y, int64_t k);
void dequantize_row_iq4_xs(const void * x, float * y, int64_t k);
void dequantize_row_iq3_s(const void * x, float * y, int64_t k);
void dequantize_row_iq3_xxs(const void * x, float * y, int64_t k);
void dequantize_row_iq2_s(const void * x, float * y, int64_t k);
*/
import "C"

import (
	"unsafe"

	"github.com/ollama/ollama/ml/backend/ggml"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// decodable and encodable list the types that ggml converts: it panics or aborts on others.
func decodable(t Type) bool { return encodable(t) || t == MXFP4 }

func encodable(t Type) bool {
	switch t {
	case F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K,
		subnet.IQ4_NL, subnet.IQ4_XS, subnet.IQ3_S, subnet.IQ3_XXS, subnet.IQ2_S:
		return true
	default: // nothing for the others
	}
	return false
}

// weighable reports whether ggml rounds to a type by the importance of columns.
func weighable(t Type) bool { return encodable(t) && t.Block() > 1 && t != Q8_0 }

func decode(t Type, data []byte, n int) []float32 {
	var row func(x unsafe.Pointer, y *C.float, k C.int64_t)
	switch t {
	case subnet.IQ4_NL:
		row = func(x unsafe.Pointer, y *C.float, k C.int64_t) { C.dequantize_row_iq4_nl(x, y, k) }
	case subnet.IQ4_XS:
		row = func(x unsafe.Pointer, y *C.float, k C.int64_t) { C.dequantize_row_iq4_xs(x, y, k) }
	case subnet.IQ3_S:
		row = func(x unsafe.Pointer, y *C.float, k C.int64_t) { C.dequantize_row_iq3_s(x, y, k) }
	case subnet.IQ3_XXS:
		row = func(x unsafe.Pointer, y *C.float, k C.int64_t) { C.dequantize_row_iq3_xxs(x, y, k) }
	case subnet.IQ2_S:
		row = func(x unsafe.Pointer, y *C.float, k C.int64_t) { C.dequantize_row_iq2_s(x, y, k) }
	default:
		return ggml.ConvertToF32(data, uint32(t), uint64(n))
	}
	values := make([]float32, n)
	row(unsafe.Pointer(&data[0]), (*C.float)(&values[0]), C.int64_t(n))
	return values
}

// encode converts rows; importance has a positive number for each column, or is nil.
func encode(t Type, values []float32, width int, importance []float32) []byte {
	rowSize, _ := t.RowSize(width) // the caller has checked that whole blocks fit
	rows := len(values) / width
	data := make([]byte, int64(rows)*rowSize)
	var weights *C.float
	if importance != nil && weighable(t) {
		weights = (*C.float)(&importance[0])
	}
	C.ggml_quantize_chunk(C.int(t), (*C.float)(&values[0]), unsafe.Pointer(&data[0]), 0, C.int64_t(rows), C.int64_t(width), weights)
	return data
}
