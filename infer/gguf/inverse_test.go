package gguf_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestReadSubnetInvertsWriteSubnet writes what was read from a file: both files must be the same to the last byte.
func TestReadSubnetInvertsWriteSubnet(t *testing.T) {
	for _, family := range gguftest.Families() {
		if uneven(family) {
			continue // other counts than the cases are made for
		}
		for i, c := range cutCases() {
			t.Run(family.Name+"/"+c.name, func(t *testing.T) {
				f := gguftest.Open(t, family.Model)
				masks := c.masks(subnet.Dense(geometryOf(t, f)))
				s := gguf.Subnet{Masks: masks}
				if family.Name == "llama" || i%2 == 0 {
					s.Refit = randomRefit(t, f, masks, holdsBiases(family))
				}
				first, _ := write(t, f, s, gguf.WriteOptions{})
				read, err := gguf.ReadSubnet(t.Context(), f, first)
				if err != nil {
					t.Fatal(err)
				}
				if !read.Masks.Equal(masks) {
					t.Error("other masks were read than written")
				}
				second, _ := write(t, f, read, gguf.WriteOptions{})
				if !bytes.Equal(content(t, first), content(t, second)) {
					t.Error("the subnet that was read makes another file")
				}
			})
		}
	}
}

func content(t *testing.T, f *gguf.File) []byte {
	t.Helper()
	b, err := os.ReadFile(f.Path())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReadSubnetOfZeroedFile reads a file that has zeros where units were dropped.
func TestReadSubnetOfZeroedFile(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	masks := keepHeads(everySecondChannel(subnet.Dense(geometryOf(t, f)), 1, 0), 2, 2, 3)
	s := gguf.Subnet{Masks: masks, Refit: randomRefit(t, f, masks, false)}
	zeroed, _ := write(t, f, s, gguf.WriteOptions{Zeroed: true})
	compact, _ := write(t, f, s, gguf.WriteOptions{})
	a, err := gguf.ReadSubnet(t.Context(), f, zeroed)
	if err != nil {
		t.Fatal(err)
	}
	b, err := gguf.ReadSubnet(t.Context(), f, compact)
	if err != nil {
		t.Fatal(err)
	}
	for i := range a.Refit {
		if !slices.Equal(a.Refit[i].WO, b.Refit[i].WO) || !slices.Equal(a.Refit[i].WD, b.Refit[i].WD) || !slices.Equal(a.Refit[i].WU, b.Refit[i].WU) ||
			!slices.Equal(a.Refit[i].GA, b.Refit[i].GA) || !slices.Equal(a.Refit[i].GM, b.Refit[i].GM) {
			t.Errorf("layer %d differs from that of the compact file", i)
		}
	}
}

func TestReadSubnetRefuses(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	other := gguftest.Tiny("llama")
	other.Seed = 7
	o := gguftest.Open(t, other)
	cut, _ := write(t, o, gguf.Subnet{Masks: subnet.Dense(geometryOf(t, o))}, gguf.WriteOptions{})
	quantised, _ := write(t, f, gguf.Subnet{Masks: subnet.Dense(geometryOf(t, f))}, gguf.WriteOptions{Type: "Q8_0"})
	wide := gguftest.Tiny("llama")
	wide.HeadDim = 32
	for name, c := range map[string]struct {
		file *gguf.File
		text string
	}{
		"cut from another model": {cut, "it was cut from llama.gguf with hash"},
		"another model":          {o, "row 0 is not one of its rows"},
		"another type":           {anonymous(t, quantised), "row 0 is not one of its rows"},
		"another head size":      {gguftest.Open(t, wide), "hidden size 64 with heads of 32"},
	} {
		if _, err := gguf.ReadSubnet(t.Context(), f, c.file); !errors.Is(err, gguf.ErrSource) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReadSubnetRecognises reads files that do not name their source and masks.
func TestReadSubnetRecognises(t *testing.T) {
	for _, arch := range []string{"llama", "opt"} {
		f := gguftest.Open(t, gguftest.Tiny(arch))
		dense := subnet.Dense(geometryOf(t, f))
		for name, want := range map[string]subnet.Masks{
			"dense":        dense,
			"channels":     set(dense, 1, func(l *subnet.Layer) { l.Channels = subnet.Range(128, 32, 96) }),
			"group":        keepHeads(dense, 0, 2, 3),
			"no attention": dropAttention(dense, 2),
			"no layer":     dropLayer(dense, 1),
		} {
			t.Run(arch+"/"+name, func(t *testing.T) {
				cut, _ := write(t, f, gguf.Subnet{Masks: want}, gguf.WriteOptions{})
				got, err := gguf.ReadSubnet(t.Context(), f, anonymous(t, cut))
				if err != nil {
					t.Fatal(err)
				}
				if !got.Masks.Equal(want) {
					text, _ := got.Masks.MarshalText()
					t.Errorf("recognised\n%s", text)
				}
			})
		}
	}
}

// anonymous copies a model file without its provenance.
func anonymous(t *testing.T, f *gguf.File) *gguf.File {
	t.Helper()
	kv := f.KV().Clone()
	for _, key := range f.KV().Keys() {
		if strings.HasPrefix(key, "general.lathe.") {
			kv.Delete(key)
		}
	}
	path := filepath.Join(t.TempDir(), "anonymous.gguf")
	w, err := gguf.Create(path, kv, f.Tensors())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, tensor := range f.Tensors() {
		data, err := f.Read(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Append(tensor.Name, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	out, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return out
}

func TestCarry(t *testing.T) {
	f := gguftest.Open(t, gguftest.Tiny("llama"))
	dense := subnet.Dense(geometryOf(t, f))
	hidden := dense.Geometry().Hidden
	from := dense.With(1, subnet.Layer{Channels: subnet.Range(128, 0, 32), Heads: subnet.Range(4, 0, 2)})
	to := dense.With(1, subnet.Layer{Channels: subnet.Of(128, 0, 5, 100), Heads: subnet.Full(4)})
	counting := func(n int) []float32 {
		list := make([]float32, n)
		for i := range list {
			list[i] = float32(i)
		}
		return list
	}
	refit := make([]gguf.Refit, 3)
	refit[1] = gguf.Refit{WD: counting(hidden * 32), WU: counting(32 * hidden), WO: make([]float32, hidden*32), BD: make([]float32, hidden)}
	got, err := gguf.Carry(t.Context(), f, gguf.Subnet{Masks: from, Refit: refit}, to)
	if err != nil {
		t.Fatal(err)
	}
	down := tensorOf(t, f, "blk.1.ffn_down.weight")
	for r := range hidden {
		want := []float32{float32(r * 32), float32(r*32 + 5), down[r*128+100]}
		if !slices.Equal(got.Refit[1].WD[r*3:r*3+3], want) {
			t.Fatalf("row %d of W_D: %v, want %v", r, got.Refit[1].WD[r*3:r*3+3], want)
		}
	}
	up := tensorOf(t, f, "blk.1.ffn_up.weight")
	all := counting(32 * hidden)
	if want := slices.Concat(all[:hidden], all[5*hidden:6*hidden], up[100*hidden:101*hidden]); !slices.Equal(got.Refit[1].WU, want) {
		t.Errorf("W_U: %v, want %v", got.Refit[1].WU, want)
	}
	output := tensorOf(t, f, "blk.1.attn_output.weight")
	if wo := got.Refit[1].WO; len(wo) != hidden*64 || wo[0] != 0 || wo[40] != output[40] || got.Refit[1].BD == nil {
		t.Error("attention columns")
	}
	if got.Refit[0].WD != nil || !got.Masks.Equal(to) {
		t.Error("layers without re-fitted weights got some")
	}
	less := to.With(1, subnet.Layer{Channels: subnet.Of(128, 5), Heads: subnet.Empty(4)})
	if got, err = gguf.Carry(t.Context(), f, got, less); err != nil || len(got.Refit[1].WO) != 0 || len(got.Refit[1].WD) != hidden || got.Refit[1].WD[1] != 32+5 {
		t.Errorf("fewer units: %v, %d and %d numbers", err, len(got.Refit[1].WO), len(got.Refit[1].WD))
	}
}

func tensorOf(t *testing.T, f *gguf.File, name string) []float32 {
	t.Helper()
	data, _, err := f.Float32(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
