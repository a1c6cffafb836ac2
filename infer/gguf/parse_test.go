package gguf_test

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lathe-llm/lathe/infer/gguf"
)

// raw builds headers byte by byte, right ones and wrong ones.
type raw []byte

func start(version uint32, tensors, keys uint64) raw {
	return raw("GGUF").u32(version).u64(tensors).u64(keys)
}

func (r raw) u8(v uint8) raw   { return append(r, v) }
func (r raw) u32(v uint32) raw { return binary.LittleEndian.AppendUint32(r, v) }
func (r raw) u64(v uint64) raw { return binary.LittleEndian.AppendUint64(r, v) }
func (r raw) str(s string) raw { return append(r.u64(uint64(len(s))), s...) }
func (r raw) pad(n int) raw    { return append(r, make([]byte, n)...) }

// tensor appends an entry of the tensor table; dims are in the order of the file.
func (r raw) tensor(name string, t gguf.Type, offset uint64, dims ...uint64) raw {
	r = r.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		r = r.u64(d)
	}
	return r.u32(uint32(t)).u64(offset)
}

// aligned pads to the start of the data.
func (r raw) aligned(alignment int) raw { return r.pad((alignment - len(r)%alignment) % alignment) }

// valid is a small file with a key of every kind.
func valid() raw {
	return start(3, 2, 5).
		str("general.architecture").u32(8).str("llama").
		str("general.alignment").u32(4).u32(64).
		str("a.list").u32(9).u32(5).u64(2).u32(1).u32(2).
		str("b.texts").u32(9).u32(8).u64(2).str("x").str("").
		str("c.truth").u32(7).u8(1).
		tensor("one", gguf.F32, 0, 4, 2).tensor("two", gguf.Q8_0, 64, 32).
		aligned(64).pad(64).pad(34)
}

func openBytes(t *testing.T, b []byte) (*gguf.File, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err == nil {
		t.Cleanup(func() { _ = f.Close() })
	} else if !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("not one line that names the file: %q", err)
	}
	return f, err
}

func TestOpen(t *testing.T) {
	f, err := openBytes(t, valid())
	if err != nil {
		t.Fatal(err)
	}
	data := int64(len(valid()) - 64 - 34)
	want := []gguf.Tensor{
		{Name: "one", Type: gguf.F32, Dims: []int{2, 4}, Offset: data, Size: 32},
		{Name: "two", Type: gguf.Q8_0, Dims: []int{32}, Offset: data + 64, Size: 34},
	}
	if diff := cmp.Diff(want, f.Tensors()); diff != "" {
		t.Error(diff)
	}
	kv := f.KV()
	for key, want := range map[string]any{
		"general.architecture": "llama", "general.alignment": uint32(64), "a.list": []int32{1, 2}, "b.texts": []string{"x", ""}, "c.truth": true,
	} {
		got, _ := kv.Value(key)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", key, diff)
		}
	}
	if diff := cmp.Diff([]string{"general.architecture", "general.alignment", "a.list", "b.texts", "c.truth"}, kv.Keys()); diff != "" {
		t.Error(diff)
	}
}

// Each of these files must give an error that names the fault, before memory is allocated for the claimed sizes.
func TestOpenRefuses(t *testing.T) {
	one := func(name string, typ gguf.Type, offset uint64, dims ...uint64) raw {
		return start(3, 1, 0).tensor(name, typ, offset, dims...).aligned(32).pad(256)
	}
	key := func(name string, kind uint32) raw { return start(3, 0, 1).str(name).u32(kind) }
	list := func(kind uint32, n uint64) raw { return key("k", 9).u32(kind).u64(n) }
	for _, test := range []struct {
		name   string
		bytes  raw
		want   error
		reason string
	}{
		{"empty", raw{}, gguf.ErrFormat, "magic: the file ends at byte 0"},
		{"foreign magic", raw("PK\x03\x04").pad(64), gguf.ErrFormat, `magic: "PK\x03\x04" is not "GGUF"`},
		{"old magic", raw("ggjt").pad(64), gguf.ErrFormat, `magic: "ggjt" is not "GGUF"`},
		{"version 1", start(1, 0, 0), gguf.ErrFormat, "version: 1 is not 2 or 3"},
		{"version of the future", start(4, 0, 0), gguf.ErrFormat, "version: 4"},
		{"big-endian", start(3<<24, 0, 0), gguf.ErrFormat, "version: the file is big-endian"},
		{"tensors beyond the file", start(3, 1000, 0).pad(8), gguf.ErrFormat, "tensor count: 1000 items do not fit"},
		{"too many tensors", start(3, math.MaxUint64, 0), gguf.ErrFormat, "tensor count: 18446744073709551615 is more than"},
		{"keys beyond the file", start(3, 0, 1000).pad(8), gguf.ErrFormat, "key count: 1000 items do not fit"},
		{"too many keys", start(3, 0, 1<<40), gguf.ErrFormat, "key count: 1099511627776 is more than"},
		{"long key", start(3, 0, 1).u64(1 << 20).pad(64), gguf.ErrFormat, "key 0: length: 1048576 is more than"},
		{"key beyond the file", start(3, 0, 1).u64(100).pad(64), gguf.ErrFormat, "key 0: length: 100 items do not fit"},
		{"unknown kind", key("k", 13).pad(64), gguf.ErrFormat, `key "k": a value of unknown kind 13`},
		{"unknown kind in a list", list(77, 1).pad(64), gguf.ErrFormat, `key "k": a list of values of unknown kind 77`},
		{"list of lists", list(9, 1).pad(64), gguf.ErrFormat, `key "k": a list of lists`},
		{"list beyond the file", list(4, 100).pad(64), gguf.ErrFormat, `key "k": length: 100 items do not fit`},
		{"huge list", list(0, 1<<62).pad(64), gguf.ErrFormat, `key "k": length: 4611686018427387904 is more than`},
		{"texts beyond the file", list(8, 100).pad(64), gguf.ErrFormat, `key "k": length: 100 items do not fit`},
		{"text beyond the file", list(8, 1).u64(1000).pad(64), gguf.ErrFormat, `key "k": length: 1000 items do not fit`},
		{"neither true nor false", key("k", 7).u8(2).pad(64), gguf.ErrFormat, `key "k": 2 is neither true nor false`},
		{"neither in a list", list(7, 2).u8(1).u8(9).pad(64), gguf.ErrFormat, `key "k": 9 is neither true nor false`},
		{"value cut off", key("k", 10).pad(4), gguf.ErrFormat, `key "k": the file ends at byte`},
		{"key twice", start(3, 0, 2).str("k").u32(0).u8(1).str("k").u32(0).u8(1).pad(64), gguf.ErrFormat, `key "k": occurs twice`},
		{"odd alignment", key("general.alignment", 4).u32(48), gguf.ErrFormat, `key "general.alignment": 48 is not a power of two`},
		{"no alignment", key("general.alignment", 4).u32(0), gguf.ErrFormat, `key "general.alignment": 0`},
		{"negative alignment", key("general.alignment", 5).u32(1 << 31), gguf.ErrFormat, `key "general.alignment"`},
		{"alignment in words", key("general.alignment", 8).str("32"), gguf.ErrFormat, `key "general.alignment"`},
		{"tensor table cut off", start(3, 1, 0).str("t").u32(2).u64(4).u32(9), gguf.ErrFormat, `tensor "t": the file ends`},
		{"long name", one(strings.Repeat("n", 64), gguf.F32, 0, 4), gguf.ErrFormat, "tensor 0: name: length: 64 is more than"},
		{"no dimensions", one("t", gguf.F32, 0), gguf.ErrFormat, `tensor "t": 0 dimensions`},
		{"five dimensions", one("t", gguf.F32, 0, 1, 1, 1, 1, 1), gguf.ErrFormat, `tensor "t": 5 dimensions`},
		{"nothing in it", one("t", gguf.F32, 0, 4, 0), gguf.ErrFormat, `tensor "t": dimension 0`},
		{"product overflows", one("t", gguf.F32, 0, 1<<40, 1<<40), gguf.ErrFormat, `tensor "t": dimension 1099511627776`},
		{"product wraps to little", one("t", gguf.F32, 0, 1<<33, 1<<31), gguf.ErrFormat, `tensor "t": dimension`},
		{"unknown type", one("t", 99, 0, 32), gguf.ErrType, `tensor "t": unsupported tensor type: type 99`},
		{"removed type", one("t", 4, 0, 32), gguf.ErrType, "type 4"},
		{"rows of no whole blocks", one("t", gguf.Q4_K, 0, 32), gguf.ErrFormat, `tensor "t": rows of 32 are not a multiple of the 256 that Q4_K stores together`},
		{"not aligned", one("t", gguf.F32, 4, 4), gguf.ErrFormat, `tensor "t": offset 4 is not a multiple of the alignment 32`},
		{"beyond the file", one("t", gguf.F32, 0, 65), gguf.ErrFormat, `tensor "t": 260 bytes at offset 0 end after the end of the file`},
		{"offset beyond the file", one("t", gguf.F32, 1<<20, 4), gguf.ErrFormat, `tensor "t": 16 bytes at offset 1048576 end after the end of the file`},
		{"offset overflows", one("t", gguf.F32, math.MaxUint64-31, 4), gguf.ErrFormat, `tensor "t": offset 18446744073709551584`},
		{"largest offset", one("t", gguf.F32, math.MaxInt64-31, 4), gguf.ErrFormat, `tensor "t": 16 bytes`},
		{"name twice", start(3, 2, 0).tensor("t", gguf.F32, 0, 4).tensor("t", gguf.F32, 32, 4).aligned(32).pad(64), gguf.ErrFormat, `tensor "t": occurs twice`},
		{"overlap", start(3, 2, 0).tensor("t", gguf.F32, 0, 16).tensor("u", gguf.F32, 32, 4).aligned(32).pad(64), gguf.ErrFormat, `tensor "u": overlaps tensor "t"`},
		{"truncated data", valid()[:len(valid())-1], gguf.ErrFormat, `tensor "two": 34 bytes at offset 64 end after the end of the file`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := openBytes(t, test.bytes)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.reason) {
				t.Errorf("error %v, want %q", err, test.reason)
			}
		})
	}
}

// Wherever a file ends too early it must be an error.
func TestOpenRefusesEveryTruncation(t *testing.T) {
	whole := valid()
	for n := range len(whole) {
		if _, err := openBytes(t, whole[:n]); !errors.Is(err, gguf.ErrFormat) {
			t.Errorf("%d of %d bytes: error %v", n, len(whole), err)
		}
	}
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	if _, err := gguf.Open(t.TempDir()); !errors.Is(err, gguf.ErrFormat) {
		t.Errorf("a folder: error %v", err)
	}
	if _, err := gguf.Open(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an absent file: error %v", err)
	}
}

// Two lists of the greatest length are more than a header may be, in a file that could hold them.
func TestOpenBoundsTheHeader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.gguf")
	list := raw(nil).str("k").u32(9).u32(10).u64(gguf.MaxArrayLength)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	head := append(start(3, 0, 2), list...)
	second := raw(nil).str("l").u32(9).u32(10).u64(gguf.MaxArrayLength)
	for offset, b := range map[int64]raw{0: head, int64(len(head)) + 8*gguf.MaxArrayLength: second} {
		if _, err := f.WriteAt(b, offset); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(3*gguf.MaxHeaderBytes), f.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = gguf.Open(path)
	if !errors.Is(err, gguf.ErrFormat) || !strings.Contains(err.Error(), `key "l": length: 16777216 items do not fit into the rest of the header`) {
		t.Errorf("error %v", err)
	}
}
