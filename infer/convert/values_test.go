package convert_test

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// convertTo converts a folder and opens the result.
func convertTo(t *testing.T, dir, typ string) (convert.Report, *gguf.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.gguf")
	r, err := convert.Folder(t.Context(), dir, path, convert.Options{Type: typ})
	if err != nil {
		t.Fatal(err)
	}
	return r, open(t, path)
}

// open opens a file until the test ends.
func open(t *testing.T, path string) *gguf.File {
	t.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// A head that is stored and differs from the embedding is kept, as in transformers, although config.json has the two tied.
func TestSeparateHeadIsKept(t *testing.T) {
	for _, test := range []struct {
		class, arch   string
		scale         float32 // of the head over the embedding
		missing, tied bool
		want          bool
		err           string
	}{
		{"LlamaForCausalLM", "llama", 2, false, true, true, ""},
		{"LlamaForCausalLM", "llama", 1, false, true, false, ""},
		{"LlamaForCausalLM", "llama", 1, true, true, false, ""},
		{"LlamaForCausalLM", "llama", 1, true, false, false, "lack lm_head.weight"},
		{"Qwen2ForCausalLM", "qwen2", 2, false, true, true, ""},
		{"Qwen3ForCausalLM", "qwen3", 2, false, true, true, ""},
		{"Gemma3ForCausalLM", "gemma3", 2, false, true, true, ""},
		{"Gemma2ForCausalLM", "gemma2", 1, false, true, false, ""},
		{"Gemma2ForCausalLM", "gemma2", 2, false, true, false, `"lm_head.weight" differs from the embedding`},
		{"OPTForCausalLM", "opt", 2, false, true, true, ""},
	} {
		var want []byte
		m := tiny(test.arch, func(m *gguftest.Model) { m.Tied = true })
		dir, _ := converttest.Open(t, converttest.Folder{Model: m, Class: test.class, Single: true,
			Edit: func(c map[string]any) { c["tie_word_embeddings"] = test.tied },
			Change: func(list map[string]converttest.Tensor) {
				e, ok := list["model.embed_tokens.weight"]
				if !ok {
					e = list["model.decoder.embed_tokens.weight"]
				}
				values, err := gguf.Decode(gguf.F16, e.Data)
				if err != nil {
					t.Fatal(err)
				}
				for i := range values {
					values[i] *= test.scale
				}
				if want, err = gguf.Encode(gguf.F16, values, e.Dims[1]); err != nil {
					t.Fatal(err)
				}
				if !test.missing {
					list["lm_head.weight"] = converttest.Tensor{Type: "F16", Dims: e.Dims, Data: want}
				}
			}})
		if test.err != "" {
			_, err := convert.Folder(t.Context(), dir, filepath.Join(t.TempDir(), "x"), convert.Options{})
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want %q", test.class, err, test.err)
			}
			continue
		}
		_, f := convertTo(t, dir, "")
		if f.Has("output.weight") != test.want {
			t.Errorf("%s scaled by %v: output.weight is there: %v", test.class, test.scale, !test.want)
		} else if test.want {
			if got, err := f.Read("output.weight"); err != nil || string(got) != string(want) {
				t.Errorf("%s: another head, error %v", test.class, err)
			}
		}
	}
}

// outlier returns a folder of BF16 or F32 with one number of a matrix replaced.
func outlier(t *testing.T, typ gguf.Type, value float32) string {
	t.Helper()
	m := tiny("llama", func(m *gguftest.Model) { m.Type = typ })
	dir, _ := converttest.Open(t, converttest.Folder{Model: m, Class: "LlamaForCausalLM", Change: func(list map[string]converttest.Tensor) {
		const name = "model.layers.1.mlp.down_proj.weight"
		e, ok := list[name]
		if !ok {
			return
		}
		if bits := math.Float32bits(value); typ == gguf.BF16 {
			binary.LittleEndian.PutUint16(e.Data, uint16(bits>>16))
		} else {
			binary.LittleEndian.PutUint32(e.Data, bits)
		}
	}})
	return dir
}

// infinities counts the numbers of a file that are not finite.
func infinities(t *testing.T, f *gguf.File) int {
	t.Helper()
	n := 0
	for _, tensor := range f.Tensors() {
		values, _, err := f.Float32(tensor.Name)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			if v-v != 0 {
				n++
			}
		}
	}
	return n
}

func TestNumbersBeyondF16(t *testing.T) {
	for _, test := range []struct {
		src       gguf.Type
		asked     string
		value     float32
		want      gguf.Type // of the tensor with the number
		fallbacks int
	}{
		{gguf.BF16, "F16", 99840, gguf.BF16, 1}, {gguf.F32, "F16", 1e5, gguf.F32, 1}, {gguf.F32, "F16", -1e5, gguf.F32, 1},
		{gguf.F32, "F16", 65519, gguf.F16, 0}, {gguf.F32, "F16", 65520, gguf.F32, 1}, {gguf.F32, "BF16", math.MaxFloat32, gguf.F32, 1},
		{gguf.BF16, "Q8_0", 99840, gguf.Q8_0, 0}, {gguf.F32, "Q8_0", 1e8, gguf.F32, 1}, {gguf.BF16, "", 99840, gguf.BF16, 0}, {gguf.F32, "F32", 1e30, gguf.F32, 0},
	} {
		r, f := convertTo(t, outlier(t, test.src, test.value), test.asked)
		tensor, _ := f.Tensor("blk.1.ffn_down.weight")
		if tensor.Type != test.want || len(r.Fallbacks) != test.fallbacks || infinities(t, f) > 0 {
			t.Errorf("%v of %s as %q: stored as %s with %d infinite, %+v", test.value, test.src, test.asked, tensor.Type, infinities(t, f), r.Fallbacks)
			continue
		}
		if test.fallbacks > 0 && (r.Fallbacks[0].Tensor != tensor.Name || r.Fallbacks[0].Want != test.asked || r.Fallbacks[0].Got != test.want.String()) {
			t.Errorf("%v of %s as %q: %+v", test.value, test.src, test.asked, r.Fallbacks)
		}
	}
	nan := float32(math.NaN())
	_, err := convert.Folder(t.Context(), outlier(t, gguf.F32, nan), filepath.Join(t.TempDir(), "x"), convert.Options{Type: "Q8_0"})
	if err == nil || !strings.Contains(err.Error(), "down_proj") || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("NaN as Q8_0: %v", err)
	}
	for _, test := range []struct {
		typ   gguf.Type
		value float32
	}{{gguf.F16, 65520}, {gguf.F16, -1e6}, {gguf.BF16, math.MaxFloat32}, {gguf.Q8_0, 1e8}} {
		if _, err := gguf.Encode(test.typ, append(make([]float32, 31), test.value), 32); !errors.Is(err, gguf.ErrRange) {
			t.Errorf("%v as %s: error %v", test.value, test.typ, err)
		}
	}
}

// A file whose rows do not fit the type asked for has the nearest type that fits, reports it, and describes its types.
func TestTypeFallbacks(t *testing.T) {
	dir, _ := write(t, tiny("llama", func(m *gguftest.Model) { m.Type = gguf.BF16 }), "LlamaForCausalLM", nil)
	for _, test := range []struct {
		asked        string
		want         gguf.Type
		fallbacks    int
		file         uint64
		quantization bool
	}{
		{"", gguf.BF16, 0, 32, false}, {"F16", gguf.F16, 0, 1, false}, {"F32", gguf.F32, 0, 0, false}, {"Q8_0", gguf.Q8_0, 0, 7, true},
		{"Q6_K", gguf.Q8_0, 23, 7, true}, {"Q4_K", gguf.Q5_0, 23, 8, true},
	} {
		if typ, _ := gguf.ParseType(cmp.Or(test.asked, "F32")); !gguf.Writable(typ) || !gguf.Writable(test.want) {
			continue // without cgo
		}
		r, f := convertTo(t, dir, test.asked)
		for _, tensor := range f.Tensors() {
			if len(tensor.Dims) == 2 && tensor.Type != test.want {
				t.Errorf("%q: %s is %s", test.asked, tensor.Name, tensor.Type)
			}
		}
		if len(r.Fallbacks) != test.fallbacks {
			t.Errorf("%q: %d fallbacks: %+v", test.asked, len(r.Fallbacks), r.Fallbacks)
		}
		if n, ok := f.KV().Uint("general.file_type"); !ok || n != test.file {
			t.Errorf("%q: general.file_type is %d, %v", test.asked, n, ok)
		}
		if n, ok := f.KV().Uint("general.quantization_version"); ok != test.quantization || ok && n != 2 {
			t.Errorf("%q: general.quantization_version is %d, %v", test.asked, n, ok)
		}
	}
}
