package gguf_test

import (
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

func TestTypeName(t *testing.T) {
	for _, test := range []struct {
		typ  gguf.Type
		file any
		want string
	}{
		{gguf.F16, uint32(1), "F16"}, {gguf.F32, uint32(0), "F32"}, {gguf.BF16, uint32(32), "BF16"}, {gguf.Q8_0, uint32(7), "Q8_0"}, {gguf.F16, nil, ""},
		{gguf.F16, uint32(15), ""}, // no matrix is Q4_K
		{gguf.F16, uint32(999), ""}, {gguf.F16, int64(1), "F16"},
	} {
		m := gguftest.Tiny("llama")
		m.Type = test.typ
		m.Edit = func(kv *gguf.KV) {
			kv.Delete("general.file_type")
			if test.file != nil {
				if err := kv.Set("general.file_type", test.file); err != nil {
					t.Error(err)
				}
			}
		}
		if got := gguftest.Open(t, m).TypeName(); got != test.want {
			t.Errorf("%s with general.file_type %v: %q, want %q", test.typ, test.file, got, test.want)
		}
	}
}
