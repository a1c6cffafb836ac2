//go:build cgo && !nocgo

package gguf_test

import (
	"context"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestEncodeWeighted compares rounding by importance with plain rounding: the weighted error must be less, in every type that has such a
// rounding, and the same bytes must come where all columns are alike to a type without one.
func TestEncodeWeighted(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	const width, rows = 512, 24
	values, importance := make([]float32, rows*width), make([]float32, width)
	for i := range values {
		values[i] = float32(rng.NormFloat64())
	}
	for i := range importance {
		importance[i] = float32(math.Exp(2 * rng.NormFloat64()))
	}
	importance[3] = 0
	weighted := func(back []float32) (sum float64) {
		for i, v := range values {
			sum += float64(importance[i%width]) * math.Pow(float64(v)-float64(back[i]), 2)
		}
		return sum
	}
	for _, typ := range []gguf.Type{
		gguf.Q4_0, gguf.Q4_1, gguf.Q5_0, gguf.Q5_1, gguf.Q2_K, gguf.Q3_K, gguf.Q4_K, gguf.Q5_K, gguf.Q6_K,
		subnet.IQ4_NL, subnet.IQ4_XS, subnet.IQ3_S, subnet.IQ3_XXS, subnet.IQ2_S,
	} {
		plain, err := gguf.Round(typ, values, width, nil)
		if err != nil {
			t.Fatal(err)
		}
		own, err := gguf.Round(typ, values, width, importance)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := weighted(own), weighted(plain); !(a < b) {
			t.Errorf("%v: weighted error %g, %g without importance", typ, a, b)
		}
	}
	for name, bad := range map[string][]float32{"short": importance[:8], "negative": append([]float32{-1}, importance[1:]...), "NaN": append([]float32{float32(math.NaN())}, importance[1:]...)} {
		if _, err := gguf.EncodeWeighted(gguf.Q4_0, values, width, bad); err == nil {
			t.Errorf("%s importance was taken", name)
		}
	}
}

// mixedTypes gives matrices of the model of wide types of their own, with importance of some.
func mixedTypes(f *gguf.File) (types map[string]gguf.Type, importance map[string][]float32) {
	types = map[string]gguf.Type{
		"token_embd.weight": gguf.Q8_0, "blk.0.attn_q.weight": subnet.IQ4_NL, "blk.0.attn_output.weight": gguf.Q4_0, "blk.0.ffn_up.weight": gguf.Q4_1,
		"blk.0.ffn_down.weight": subnet.IQ3_S, "blk.1.ffn_gate.weight": gguf.Q4_K, "blk.1.ffn_down.weight": gguf.Q3_K,
	}
	importance = make(map[string][]float32)
	for name := range types {
		tensor, _ := f.Tensor(name)
		of := make([]float32, tensor.Dims[1])
		for i := range of {
			of[i] = 1 + float32(i%7)
		}
		importance[name] = of
	}
	delete(importance, "token_embd.weight")
	return types, importance
}

// TestWriteMixedTypes writes subnets whose matrices have types of their own: the file has them, of the promised size, passes verification, is
// read back with its types, and holds the numbers that rounding by importance gives.
func TestWriteMixedTypes(t *testing.T) {
	f := gguftest.Open(t, wide())
	dense := subnet.Dense(geometryOf(t, f))
	sizes, err := gguf.NewSizes(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, masks := range map[string]subnet.Masks{"dense": dense, "half": everySecondChannel(dense, 1, 0)} {
		for _, refitted := range []bool{false, true} {
			s := gguf.Subnet{Masks: masks}
			s.Types, s.Importance = mixedTypes(f)
			if refitted {
				s.Refit = randomRefit(t, f, masks, false)
			}
			out, report := write(t, f, s, gguf.WriteOptions{})
			for tensor, typ := range s.Types {
				if got, _ := out.Tensor(tensor); got.Type != typ {
					t.Errorf("%s: %s is %v, not %v", name, tensor, got.Type, typ)
				}
			}
			promised, err := sizes.OfTypes(masks, refittedOf(s.Refit), s.Types)
			if err != nil || promised.File != report.Bytes {
				t.Errorf("%s: %d bytes, promised %d (%v)", name, report.Bytes, promised.File, err)
			}
			v, err := gguf.Verify(context.Background(), out, gguf.VerifyOptions{Source: f})
			if err := errors.Join(err, v.Err()); err != nil {
				t.Errorf("%s, re-fitted %v: %v", name, refitted, err)
			}
			read, err := gguf.ReadSubnet(t.Context(), f, out)
			if err != nil || !maps.Equal(read.Types, s.Types) {
				t.Errorf("%s: types %v were read (%v)", name, read.Types, err)
			}
			if plain, _ := write(t, f, s, gguf.WriteOptions{Type: "Q8_0"}); func() bool { got, _ := plain.Tensor("blk.0.attn_q.weight"); return got.Type != gguf.Q8_0 }() {
				t.Error("a type that was asked for does not replace those of the subnet")
			}
		}
	}
	s := gguf.Subnet{Masks: dense}
	s.Types, s.Importance = mixedTypes(f)
	out, _ := write(t, f, s, gguf.WriteOptions{})
	exact, dims, err := f.Float32("blk.0.ffn_down.weight")
	if err != nil {
		t.Fatal(err)
	}
	want, err := gguf.Round(subnet.IQ3_S, exact, dims[1], s.Importance["blk.0.ffn_down.weight"])
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := out.Float32("blk.0.ffn_down.weight")
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if want[i] != got[i] {
			t.Fatalf("number %d is %v, want %v", i, got[i], want[i])
		}
	}
}

// TestVerifyFindsWrongMixedTypes changes a matrix of a file of mixed types: rounding by importance does not explain it.
func TestVerifyFindsWrongMixedTypes(t *testing.T) {
	f := gguftest.Open(t, wide())
	s := gguf.Subnet{Masks: subnet.Dense(geometryOf(t, f))}
	s.Types, s.Importance = mixedTypes(f)
	out, _ := write(t, f, s, gguf.WriteOptions{})
	wrong := rewrite(t, out, func(*gguf.KV) {}, func(name string, data []byte) {
		if name == "blk.0.attn_q.weight" {
			clear(data[len(data)/2:])
		}
	})
	v, err := gguf.Verify(context.Background(), wrong, gguf.VerifyOptions{Source: f})
	if err != nil {
		t.Fatal(err)
	}
	if v.Err() == nil {
		t.Error("a half-empty matrix passed")
	}
}

// TestMixedTypesAreChecked refuses types of tensors that the model does not have, types that are not written, and importance of another width.
func TestMixedTypesAreChecked(t *testing.T) {
	f := gguftest.Open(t, wide())
	sizes, err := gguf.NewSizes(f)
	if err != nil {
		t.Fatal(err)
	}
	dense := subnet.Dense(geometryOf(t, f))
	for name, s := range map[string]gguf.Subnet{
		"tensor":     {Masks: dense, Types: map[string]gguf.Type{"blk.9.ffn_up.weight": gguf.Q4_0}},
		"norm":       {Masks: dense, Types: map[string]gguf.Type{"blk.0.ffn_norm.weight": gguf.Q4_0}},
		"type":       {Masks: dense, Types: map[string]gguf.Type{"blk.0.ffn_up.weight": subnet.IQ1_S}},
		"importance": {Masks: dense, Types: map[string]gguf.Type{"blk.0.ffn_up.weight": gguf.Q4_0}, Importance: map[string][]float32{"blk.0.ffn_up.weight": make([]float32, 3)}},
	} {
		if _, err := gguf.WriteSubnet(t.Context(), f, t.TempDir()+"/out.gguf", s, gguf.WriteOptions{}); !errors.Is(err, gguf.ErrSubnet) && !errors.Is(err, gguf.ErrType) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := sizes.OfTypes(dense, gguf.Refitted{}, nil); err != nil {
		t.Error(err)
	}
}
