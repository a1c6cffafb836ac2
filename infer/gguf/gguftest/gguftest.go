// Package gguftest writes tiny random models of every family, so that tests run on small files without a download.
//
// A [Model] describes a model; [Write] writes its file. Equal descriptions give equal bytes. The files are complete: llama.cpp loads them,
// their vocabulary can spell any text byte by byte, and they have a chat template.
//
//	m := gguftest.Tiny("llama")
//	m.Layers[1].FFN = 64
//	f, err := gguf.Open(gguftest.Write(t, m))
package gguftest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Model describes a random model.
type Model struct {
	// Arch is one of [subnet.Architectures].
	Arch                              string
	Hidden, HeadDim, Vocab, Context   int
	Layers                            []subnet.LayerGeometry
	Tied, QKVBias, OutBias, RopeFreqs bool
	// Type is that of the matrices; norms and biases are always F32. A matrix whose rows do not fit is F16.
	Type     gguf.Type
	RopeBase float64
	Seed     uint64
	// Window is the sliding window of the layers that have one, in tokens.
	Window int
	// Shuffle writes the tensors in random order.
	Shuffle bool
	// NoTokenizer leaves out the tokens, so that Vocab may be small. llama.cpp does not load such a file.
	NoTokenizer bool
	// Edit changes the metadata before it is written; nil for no change.
	Edit func(kv *gguf.KV)
	// Values changes the numbers of a tensor before they are encoded; nil for no change.
	Values func(name string, values []float32)
}

// Tiny returns a model of the family with three layers, grouped queries and F16 matrices: hidden size 64, four heads of 16, two KV heads, 128
// MLP channels. A family with sliding windows has as many layers as it takes to have both kinds. The output is tied where the family usually
// has it tied.
func Tiny(arch string) Model {
	m := Model{
		Arch: arch, Hidden: 64, HeadDim: 16, Vocab: 320, Context: 512,
		Layers: slices.Repeat([]subnet.LayerGeometry{{Heads: 4, KVHeads: 2, FFN: 128}}, 3),
		Type:   gguf.F16, RopeBase: 10000, Seed: 1,
	}
	f := m.family()
	m.QKVBias = f.RequiredBias
	m.Tied = f.TiedOnly || f.Tied
	if f.LearnedPositions {
		m.OutBias = true
		for i := range m.Layers {
			m.Layers[i].KVHeads = m.Layers[i].Heads
		}
	}
	if period := f.Window.Period; period > 0 {
		m.Window = 9
		m.Layers = slices.Repeat(m.Layers[:1], max(3, period+1)) // at least one of them without a window
	}
	if f.Folder.RopeBase > 0 {
		m.RopeBase = f.Folder.RopeBase
	}
	return m
}

// family returns the facts of the architecture.
func (m Model) family() subnet.Family {
	f, _ := subnet.FamilyOf(m.Arch)
	return f
}

// Named is a model with a name for a subtest.
type Named struct {
	Name  string
	Model Model
}

// Families returns models of all families, with grouped and ungrouped queries, tied and separate outputs, biases, rotary factors, and layers
// of unequal counts.
func Families() []Named {
	list := []Named{{"llama", Tiny("llama")}, {"llama tied", Tiny("llama")}, {"llama mha", Tiny("llama")}, {"llama rope_freqs", Tiny("llama")},
		{"llama biases", Tiny("llama")}, {"deci", Tiny("deci")}, {"qwen2", Tiny("qwen2")}, {"qwen2 tied", Tiny("qwen2")},
		{"qwen3", Tiny("qwen3")}, {"qwen3 tied", Tiny("qwen3")}, {"openelm", Tiny("openelm")},
		{"gemma2", Tiny("gemma2")}, {"gemma3", Tiny("gemma3")}, {"opt", Tiny("opt")}, {"opt uneven", Tiny("opt")}}
	for i := range list {
		m := &list[i].Model
		switch list[i].Name {
		case "llama tied", "qwen2 tied", "qwen3 tied":
			m.Tied = true
		case "llama mha":
			for l := range m.Layers {
				m.Layers[l].KVHeads = m.Layers[l].Heads
			}
		case "llama rope_freqs":
			m.RopeFreqs, m.RopeBase = true, 500000
		case "llama biases":
			m.QKVBias, m.OutBias = true, true
		case "deci":
			m.Layers = []subnet.LayerGeometry{{Heads: 2, KVHeads: 2, FFN: 96}, {Heads: 0, KVHeads: 0, FFN: 128}, {Heads: 4, KVHeads: 2, FFN: 32}}
		case "opt uneven":
			m.Layers = []subnet.LayerGeometry{{Heads: 3, KVHeads: 3, FFN: 96}, {Heads: 0, KVHeads: 0, FFN: 128}, {Heads: 4, KVHeads: 4, FFN: 32}}
		case "openelm":
			m.Layers = []subnet.LayerGeometry{{Heads: 4, KVHeads: 2, FFN: 96}, {Heads: 2, KVHeads: 1, FFN: 128}, {Heads: 6, KVHeads: 3, FFN: 32}}
		}
	}
	return list
}

// Runnable returns the models of [Families] that llama.cpp has a runtime for.
func Runnable() []Named {
	return slices.DeleteFunc(Families(), func(f Named) bool { return !f.Model.family().Runs })
}

// Write writes the file of m in a temporary folder of the test and returns its path.
func Write(tb testing.TB, m Model) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), m.Arch+".gguf")
	if err := m.Write(path); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Open writes the file of m and opens it until the test ends.
func Open(tb testing.TB, m Model) *gguf.File {
	tb.Helper()
	f, err := gguf.Open(Write(tb, m))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return f
}

// Write writes the file of m at path.
func (m Model) Write(path string) error {
	kv, err := m.metadata()
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(m.Seed, 0))
	type filled struct {
		gguf.Tensor
		data []byte
	}
	var list []filled
	for _, t := range m.tensors() {
		values := make([]float32, t.Elements())
		for i := range values {
			values[i] = t.mean + t.spread*float32(rng.NormFloat64())
		}
		if t.mean > 1 { // rotary factors increase from 1 on, as Llama 3's do
			for i := range values {
				values[i] = 1 + 7*float32(i)/float32(len(values))
			}
		}
		if m.Values != nil {
			m.Values(t.Name, values)
		}
		data, err := gguf.Encode(t.Type, values, t.Dims[len(t.Dims)-1])
		if err != nil {
			return fmt.Errorf("gguftest: tensor %q: %w", t.Name, err)
		}
		list = append(list, filled{t.Tensor, data})
	}
	if m.Shuffle {
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	tensors := make([]gguf.Tensor, len(list))
	for i, t := range list {
		tensors[i] = t.Tensor
	}
	w, err := gguf.Create(path, kv, tensors)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, t := range list {
		if err := w.Append(t.Name, t.data); err != nil {
			return err
		}
	}
	return w.Commit()
}

// Outlier is the tensor with the number that [WriteOutlier] sets.
const Outlier = "blk.1.ffn_down.weight"

// WriteOutlier writes a tiny Llama model of F32 matrices whose first number of [Outlier] is value.
func WriteOutlier(path string, value float32) error {
	m := Tiny("llama")
	m.Type = gguf.F32
	if err := m.Write(path); err != nil {
		return err
	}
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	t, _ := f.Tensor(Outlier)
	if err := f.Close(); err != nil {
		return err
	}
	to, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = to.WriteAt(binary.LittleEndian.AppendUint32(nil, math.Float32bits(value)), t.Offset)
	return errors.Join(err, to.Close())
}

// random is a tensor with the mean and standard deviation of its numbers.
type random struct {
	gguf.Tensor
	mean, spread float32
}

// tensors lists the tensors. Matrices keep the variance of their input, so that every layer matters to the output.
func (m Model) tensors() []random {
	var list []random
	f := m.family()
	matrix := func(name string, out, in int) {
		t := m.Type
		if _, ok := t.RowSize(in); !ok {
			t = gguf.F16
		}
		list = append(list, random{gguf.Tensor{Name: name, Type: t, Dims: []int{out, in}}, 0, 1 / float32(math.Sqrt(float64(in)))})
	}
	vector := func(name string, n int, mean, spread float32) {
		list = append(list, random{gguf.Tensor{Name: name, Type: gguf.F32, Dims: []int{n}}, mean, spread})
	}
	matrix("token_embd.weight", m.Vocab, m.Hidden)
	norm := func(name string) {
		vector(name+".weight", m.Hidden, 1, 0.1)
		if f.LayerNorm {
			vector(name+".bias", m.Hidden, 0, 0.1)
		}
	}
	if f.LearnedPositions {
		matrix("position_embd.weight", m.Context, m.Hidden)
	}
	norm("output_norm")
	if !m.Tied {
		matrix("output.weight", m.Vocab, m.Hidden)
	}
	if m.RopeFreqs {
		vector("rope_freqs.weight", m.HeadDim/2, 2, 0)
	}
	for i, l := range m.Layers {
		name := func(rest string) string { return fmt.Sprintf("blk.%d.%s", i, rest) }
		q, kv := l.Heads*m.HeadDim, l.KVHeads*m.HeadDim
		if l.Heads > 0 {
			norm(name("attn_norm"))
			if f.FusedQKV {
				matrix(name("attn_qkv.weight"), q+2*kv, m.Hidden)
			} else {
				matrix(name("attn_q.weight"), q, m.Hidden)
				matrix(name("attn_k.weight"), kv, m.Hidden)
				matrix(name("attn_v.weight"), kv, m.Hidden)
			}
			if f.QKNorm {
				vector(name("attn_q_norm.weight"), m.HeadDim, 1, 0.1)
				vector(name("attn_k_norm.weight"), m.HeadDim, 1, 0.1)
			}
			matrix(name("attn_output.weight"), m.Hidden, q)
			if f.PostNorms {
				vector(name("post_attention_norm.weight"), m.Hidden, 1, 0.1)
			}
		}
		if m.QKVBias && l.Heads > 0 {
			vector(name("attn_q.bias"), q, 0, 0.3)
			vector(name("attn_k.bias"), kv, 0, 0.3)
			vector(name("attn_v.bias"), kv, 0, 0.3)
		}
		if m.OutBias && l.Heads > 0 {
			vector(name("attn_output.bias"), m.Hidden, 0, 0.1)
		}
		norm(name("ffn_norm"))
		if f.Ungated {
			vector(name("ffn_up.bias"), l.FFN, 0, 0.3)
		} else {
			matrix(name("ffn_gate.weight"), l.FFN, m.Hidden)
		}
		matrix(name("ffn_up.weight"), l.FFN, m.Hidden)
		matrix(name("ffn_down.weight"), m.Hidden, l.FFN)
		if m.OutBias {
			vector(name("ffn_down.bias"), m.Hidden, 0, 0.1)
		}
		if f.PostNorms {
			vector(name("post_ffw_norm.weight"), m.Hidden, 1, 0.1)
		}
	}
	return list
}
