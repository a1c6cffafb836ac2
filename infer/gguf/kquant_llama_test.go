//go:build cgo && !nocgo

package gguf_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// wide is a model whose rows are whole blocks of every type.
func wide() gguftest.Model {
	m := gguftest.Tiny("llama")
	m.Hidden, m.HeadDim, m.Type = 256, 64, gguf.F32
	m.Layers = []subnet.LayerGeometry{{Heads: 4, KVHeads: 2, FFN: 512}, {Heads: 4, KVHeads: 2, FFN: 512}}
	return m
}

// writableTypes are the types of which files are shown to run.
func writableTypes() []string {
	return []string{"F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S"}
}

// halfOfLayerOne keeps every second MLP channel of one of two layers.
func halfOfLayerOne(t *testing.T, f *gguf.File) subnet.Masks {
	t.Helper()
	return everySecondChannel(subnet.Dense(geometryOf(t, f)), 1, 0)
}

// A cut stored in any type runs, takes the bytes the masks promise and computes what the same numbers, written out in full, compute.
func TestCutInEveryType(t *testing.T) {
	f := gguftest.Open(t, wide())
	m := halfOfLayerOne(t, f)
	tokens := randomTokens(48, 320)
	exact, _ := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{Type: "F32"})
	reference := perplexity(runtimeLogProbs(t, exact.Path(), tokens))
	for _, typ := range writableTypes() {
		t.Run(typ, func(t *testing.T) {
			out, report := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{Type: typ})
			if len(report.Fallbacks) != 0 || report.TensorBytes != m.GGUFBytes(typ) {
				t.Errorf("%d bytes of tensors, the masks promise %d; fallbacks %+v", report.TensorBytes, m.GGUFBytes(typ), report.Fallbacks)
			}
			for _, tensor := range out.Tensors() {
				if len(tensor.Dims) == 2 && tensor.Type.String() != typ {
					t.Errorf("%s is %s", tensor.Name, tensor.Type)
				}
			}
			full, _ := write(t, out, gguf.Subnet{Masks: subnet.Dense(geometryOf(t, out))}, gguf.WriteOptions{Type: "F32"})
			got, same := perplexity(runtimeLogProbs(t, out.Path(), tokens)), perplexity(runtimeLogProbs(t, full.Path(), tokens))
			t.Logf("perplexity %.3f, of the same numbers as F32 %.3f, of the source as F32 %.3f", got, same, reference)
			// llama.cpp rounds activations to eight bits before it multiplies blocks: that is all that may differ.
			if math.Abs(math.Log(got/same)) > 0.02 || math.IsNaN(got) {
				t.Errorf("perplexity %v, of the same numbers as F32 %v", got, same)
			}
			v, err := gguf.Verify(context.Background(), out, gguf.VerifyOptions{Source: f})
			if err != nil || !v.OK() || v.Exact != len(out.Tensors()) {
				t.Errorf("%+v, error %v", v, err)
			}
		})
	}
}

// Rows that are not whole blocks of a K-quant fall back as in llama.cpp's quantiser, tensor by tensor, and run.
func TestKQuantsFallBack(t *testing.T) {
	for _, test := range []struct{ typ, of32, ofAny string }{{"Q4_K", "Q5_0", "F16"}, {"Q5_K", "Q5_1", "F16"}, {"Q6_K", "Q8_0", "F16"}} {
		t.Run(test.typ, func(t *testing.T) {
			f := gguftest.Open(t, wide())
			m := set(subnet.Dense(geometryOf(t, f)), 0, func(l *subnet.Layer) { l.Channels = subnet.Range(512, 0, 160) })
			m = set(m, 1, func(l *subnet.Layer) { l.Channels = subnet.Range(512, 0, 250); l.Heads = subnet.Of(4, 0, 1) })
			out, report := write(t, f, gguf.Subnet{Masks: m}, gguf.WriteOptions{Type: test.typ})
			reason := func(n, block int) string { return fmt.Sprintf("rows of %d are not a multiple of %d", n, block) }
			want := []gguf.Fallback{
				{Tensor: "blk.0.ffn_down.weight", Want: test.typ, Got: test.of32, Reason: reason(160, 256)},
				{Tensor: "blk.1.attn_output.weight", Want: test.typ, Got: test.of32, Reason: reason(128, 256)},
				{Tensor: "blk.1.ffn_down.weight", Want: test.typ, Got: test.ofAny, Reason: reason(250, 32)},
			}
			if diff := cmp.Diff(want, report.Fallbacks); diff != "" {
				t.Error(diff)
			}
			if want := m.GGUFBytes(test.typ); report.TensorBytes != want {
				t.Errorf("%d bytes of tensors, the masks promise %d", report.TensorBytes, want)
			}
			full := filepath.Join(t.TempDir(), "full.gguf")
			if _, err := gguf.WriteSubnet(context.Background(), out, full, gguf.Subnet{Masks: subnet.Dense(geometryOf(t, out))}, gguf.WriteOptions{Type: "F32"}); err != nil {
				t.Fatal(err)
			}
			tokens := randomTokens(48, 320)
			got, same := perplexity(runtimeLogProbs(t, out.Path(), tokens)), perplexity(runtimeLogProbs(t, full, tokens))
			if math.Abs(math.Log(got/same)) > 0.02 || math.IsNaN(got) {
				t.Errorf("perplexity %v, of the same numbers as F32 %v", got, same)
			}
		})
	}
}

// A mixture is called by the name that its maker gave it, whatever type most of its numbers have.
func TestTypeNameOfMixture(t *testing.T) {
	m := gguftest.Tiny("llama")
	m.Hidden, m.Type = 256, gguf.Q4_K
	m.Edit = func(kv *gguf.KV) { _ = kv.Set("general.file_type", uint32(15)) }
	if got := gguftest.Open(t, m).TypeName(); got != "Q4_K_M" {
		t.Errorf("%q", got)
	}
}
