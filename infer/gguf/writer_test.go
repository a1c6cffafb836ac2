package gguf_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// allKinds has a value of every kind.
func allKinds(t *testing.T) *gguf.KV {
	t.Helper()
	kv := &gguf.KV{}
	for i, v := range []any{
		uint8(255), int8(-128), uint16(65535), int16(-32768), uint32(1 << 31), int32(-1 << 31), float32(1.5), true, false, "text ▁\n", "",
		uint64(1 << 63), int64(-1 << 63), 1e-300, []uint8{1, 2}, []int8{-1}, []uint16{3}, []int16{-4}, []uint32{5, 6}, []int32{-7}, []float32{0.5, -0.5},
		[]bool{true, false, true}, []string{"a", "", "▁c"}, []uint64{8}, []int64{-9}, []float64{2.5}, []uint8{}, []string{},
	} {
		if err := kv.Set(fmt.Sprintf("key.%d", i), v); err != nil {
			t.Fatal(err)
		}
	}
	return kv
}

// A file must read back as it was written, whatever the order of its tensors.
func TestWriterRoundTrip(t *testing.T) {
	kv := allKinds(t)
	tensors := []gguf.Tensor{
		{Name: "a", Type: gguf.F32, Dims: []int{3}}, {Name: "b", Type: gguf.F16, Dims: []int{2, 5}}, {Name: "c", Type: gguf.Q8_0, Dims: []int{3, 64}},
		{Name: "d", Type: subnet.I8, Dims: []int{1}}, {Name: "e", Type: gguf.F32, Dims: []int{2, 2, 2, 2}}, {Name: "f", Type: gguf.Q4_K, Dims: []int{2, 256}},
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, alignment := range []uint32{0, 1, 8, 4096} {
		rng.Shuffle(len(tensors), func(i, j int) { tensors[i], tensors[j] = tensors[j], tensors[i] })
		if alignment > 0 {
			if err := kv.Set("general.alignment", alignment); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(t.TempDir(), "out.gguf")
		w, err := gguf.Create(path, kv, tensors)
		if err != nil {
			t.Fatal(err)
		}
		data := make(map[string][]byte)
		for _, tensor := range w.Tensors() {
			b := make([]byte, tensor.Size)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			data[tensor.Name] = b
			for len(b) > 0 { // in pieces
				n := min(len(b), 7)
				if err := w.Append(tensor.Name, b[:n]); err != nil {
					t.Fatal(err)
				}
				b = b[n:]
			}
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Size() != w.Bytes() {
			t.Errorf("%d bytes, the writer reported %d", f.Size(), w.Bytes())
		}
		if diff := cmp.Diff(w.Tensors(), f.Tensors()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(kv.Keys(), f.KV().Keys()); diff != "" {
			t.Error(diff)
		}
		for _, key := range kv.Keys() {
			want, _ := kv.Value(key)
			got, _ := f.KV().Value(key)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", key, diff)
			}
		}
		for name, want := range data {
			got, err := f.Read(name)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%s: %v %s", name, err, diff)
			}
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	tensor := func(name string, typ gguf.Type, dims ...int) []gguf.Tensor {
		return []gguf.Tensor{{Name: name, Type: typ, Dims: dims}}
	}
	odd := &gguf.KV{}
	if err := odd.Set("general.alignment", uint32(3)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		kv      *gguf.KV
		tensors []gguf.Tensor
		reason  string
	}{
		{"no name", &gguf.KV{}, tensor("", gguf.F32, 1), "the name"},
		{"long name", &gguf.KV{}, tensor(strings.Repeat("x", 64), gguf.F32, 1), "the name"},
		{"same name", &gguf.KV{}, append(tensor("a", gguf.F32, 1), tensor("a", gguf.F32, 1)...), "the name occurs twice"},
		{"no dimensions", &gguf.KV{}, tensor("a", gguf.F32), "extents []"},
		{"no elements", &gguf.KV{}, tensor("a", gguf.F32, 0, 3), "extents [0 3]"},
		{"no whole blocks", &gguf.KV{}, tensor("a", gguf.Q8_0, 3, 31), "rows of 31 cannot be Q8_0"},
		{"odd alignment", odd, nil, "alignment 3"},
	} {
		dir := t.TempDir()
		if _, err := gguf.Create(filepath.Join(dir, "out.gguf"), test.kv, test.tensors); err == nil || !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s: error %v", test.name, err)
		}
		wantEmpty(t, dir)
	}
}

// Until a file is complete nothing is seen of it, and what was there before stays.
func TestWriterIsAtomic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out.gguf")
	if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := gguf.Create(path, &gguf.KV{}, []gguf.Tensor{{Name: "a", Type: gguf.F32, Dims: []int{2}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append("b", make([]byte, 8)); err == nil {
		t.Error("a tensor out of order is accepted")
	}
	if err := w.Append("a", make([]byte, 9)); err == nil {
		t.Error("too many bytes are accepted")
	}
	if err := w.Append("a", make([]byte, 4)); err != nil {
		t.Error(err)
	}
	if err := w.Commit(); err == nil || !strings.Contains(err.Error(), `tensor "a" is not complete`) {
		t.Errorf("error %v", err)
	}
	if err := w.Commit(); err == nil {
		t.Error("a second commit is accepted")
	}
	b, err := os.ReadFile(path)
	if err != nil || string(b) != "before" {
		t.Errorf("%q, error %v", b, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

func TestKV(t *testing.T) {
	kv := allKinds(t)
	if err := kv.Set("n", 7); err != nil {
		t.Fatal(err)
	}
	if err := kv.Set("list", []int{1, -2}); err != nil {
		t.Fatal(err)
	}
	if err := kv.Set("odd", map[string]int{}); err == nil {
		t.Error("a map is accepted")
	}
	if n, ok := kv.Uint("n"); n != 7 || !ok {
		t.Errorf("n is %d %v", n, ok)
	}
	if list, ok := kv.Ints("list"); !ok || !cmp.Equal(list, []int64{1, -2}) {
		t.Errorf("list is %v %v", list, ok)
	}
	if _, ok := kv.Uint("key.1"); ok {
		t.Error("a negative number passes as unsigned")
	}
	if _, ok := kv.Int("key.11"); ok {
		t.Error("2^63 passes as signed")
	}
	if v, ok := kv.Uint("key.11"); v != 1<<63 || !ok {
		t.Errorf("2^63 is %d %v", v, ok)
	}
	if _, ok := kv.String("key.0"); ok {
		t.Error("a number passes as text")
	}
	copied := kv.Clone()
	copied.Delete("n")
	copied.Delete("never there")
	if copied.Has("n") || !kv.Has("n") || copied.Len() != kv.Len()-1 {
		t.Error("a copy shares its keys")
	}
}
