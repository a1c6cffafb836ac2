package gguf_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// pureTypes are those that Go converts itself.
var pureTypes = []gguf.Type{gguf.F16, gguf.BF16, gguf.Q8_0, gguf.Q4_0, gguf.Q4_1}

// The conversions in Go and those in use must agree to the bit on any stored bytes.
func TestDecodeAgreesWithGo(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, typ := range pureTypes {
		size, _ := typ.RowSize(32 * 64)
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		got, err := gguf.Decode(typ, data)
		if err != nil {
			t.Fatal(err)
		}
		want := gguf.DecodePure(typ, data, 32*64)
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) && got[i] != want[i] && got[i] == got[i] {
				t.Fatalf("%v: number %d is %v, in Go %v", typ, i, got[i], want[i])
			}
		}
	}
}

func TestEveryHalf(t *testing.T) {
	for h := range 1 << 16 {
		data := []byte{byte(h), byte(h >> 8)}
		v := gguf.DecodePure(gguf.F16, data, 1)
		if v[0] != v[0] {
			continue
		}
		if back := gguf.EncodePure(gguf.F16, v); !slices.Equal(back, data) {
			t.Fatalf("half %#04x is %v and comes back as %x", h, v[0], back)
		}
	}
}

func TestEncodeAgreesWithGo(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	values := make([]float32, 32*512)
	for i := range values {
		values[i] = float32(rng.NormFloat64() * math.Exp(8*rng.NormFloat64()))
	}
	copy(values, []float32{0, 65504, 65519, 65520, 1e-8, 2.9e-8, 3e-8, -6.1e-5, 6.097e-5, 1e30})
	for typ, limit := range map[gguf.Type]float32{gguf.F16: 65519, gguf.BF16: 1e38, gguf.Q8_0: 127 * 65504} {
		values := slices.Clone(values)
		for i, v := range values {
			values[i] = max(-limit, min(limit, v))
		}
		got, err := gguf.Encode(typ, values, 32)
		if err != nil {
			t.Fatal(err)
		}
		want := gguf.EncodePure(typ, values)
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%v: byte %d of %d is %#x, in Go %#x", typ, i, len(want), got[i], want[i])
			}
		}
	}
}

// What is stored must come back as near as the type's step allows.
func TestEncodeDecode(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	values := make([]float32, 256*8)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	worst := map[gguf.Type]float64{
		gguf.F32: 0, gguf.F16: 0.002, gguf.BF16: 0.02, gguf.Q8_0: 0.02, gguf.Q5_0: 0.2, gguf.Q5_1: 0.15, gguf.Q4_0: 0.4, gguf.Q4_1: 0.3,
		gguf.Q6_K: 0.15, gguf.Q5_K: 0.3, gguf.Q4_K: 0.5, gguf.Q3_K: 1, gguf.Q2_K: 1.5,
		subnet.IQ4_NL: 0.5, subnet.IQ4_XS: 0.5, subnet.IQ3_S: 1.2, subnet.IQ3_XXS: 1.5, subnet.IQ2_S: 2.5,
	}
	for typ, tolerance := range worst {
		if !gguf.Writable(typ) {
			continue
		}
		data, err := gguf.Encode(typ, values, 256)
		if err != nil {
			t.Fatal(err)
		}
		if size, _ := typ.RowSize(256); int64(len(data)) != 8*size {
			t.Errorf("%v: %d bytes, want %d", typ, len(data), 8*size)
		}
		back, err := gguf.Decode(typ, data)
		if err != nil {
			t.Fatal(err)
		}
		for i := range values {
			if d := math.Abs(float64(values[i] - back[i])); d > tolerance {
				t.Errorf("%v: %v came back as %v", typ, values[i], back[i])
				break
			}
		}
	}
}

// No type may reach the C code that it would abort on, and zero bytes are zeros in every type, which the writer relies on.
func TestConversionLimits(t *testing.T) {
	for typ := gguf.Type(0); typ < 64; typ++ {
		size, known := typ.RowSize(256)
		values, err := gguf.Decode(typ, make([]byte, size))
		switch {
		case !known || !gguf.Readable(typ):
			if !errors.Is(err, gguf.ErrType) {
				t.Errorf("%v: error %v", typ, err)
			}
		case err != nil || len(values) != 256 || slices.ContainsFunc(values, func(v float32) bool { return v != 0 }):
			t.Errorf("%v: zero bytes are %v, error %v", typ, values, err)
		}
		if _, err := gguf.Encode(typ, make([]float32, 256), 256); (err == nil) != gguf.Writable(typ) {
			t.Errorf("%v: writable %v, error %v", typ, gguf.Writable(typ), err)
		}
	}
	for _, test := range []struct {
		typ    gguf.Type
		values int
		width  int
	}{{gguf.Q8_0, 48, 48}, {gguf.F16, 10, 4}, {gguf.F16, 10, 0}, {gguf.F32, 10, -1}} {
		if _, err := gguf.Encode(test.typ, make([]float32, test.values), test.width); err == nil {
			t.Errorf("%+v: no error", test)
		}
	}
	if _, err := gguf.Decode(gguf.Q8_0, make([]byte, 33)); err == nil {
		t.Error("a fraction of a block is accepted")
	}
}
