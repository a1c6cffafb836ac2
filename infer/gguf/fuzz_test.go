package gguf_test

import (
	"os"
	"testing"

	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/vocab"
)

// FuzzOpen runs all readers on arbitrary files: they return an error or what the header describes.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(valid()))
	f.Add([]byte(start(3, 0, 0)))
	for _, family := range gguftest.Families() {
		m := family.Model
		m.Hidden, m.HeadDim, m.Vocab, m.NoTokenizer, m.Layers = 8, 2, 4, true, m.Layers[:1] // small: the fuzzer copies its inputs often
		m.Layers[0].FFN = 8
		b, err := os.ReadFile(gguftest.Write(f, m))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, arch := range []string{"llama", "qwen2"} { // with their vocabularies
		m := gguftest.Tiny(arch)
		m.Hidden, m.HeadDim, m.Layers = 8, 2, m.Layers[:1]
		m.Layers[0].FFN = 8
		b, err := os.ReadFile(gguftest.Write(f, m))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := gguf.NewFile(b)
		if err != nil {
			return
		}
		if v, err := file.Vocabulary(); err == nil {
			r, err := v.Rank(vocab.Request{Counts: make([]float64, v.Len())})
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{r.Least(true), r.Least(false), v.Len()} {
				if err := v.Check(r.Kept(n)); err != nil {
					t.Errorf("%d of %d entries: %v", n, v.Len(), err)
				}
			}
			v.Scripts(nil)
		}
		if c, err := file.Config(); err == nil {
			g := c.Geometry()
			if err := g.Validate(); err != nil {
				t.Errorf("a configuration with a geometry that no model has: %v", err)
			}
		}
		for _, tensor := range file.Tensors() {
			values, _, err := file.Float32(tensor.Name)
			if err == nil && int64(len(values)) != tensor.Elements() {
				t.Errorf("%+v gave %d numbers", tensor, len(values))
			}
		}
		for _, key := range file.KV().Keys() {
			file.KV().Int(key)
			file.KV().Uint(key)
			file.KV().Float(key)
			file.KV().Ints(key)
		}
	})
}

// FuzzParseType holds the names of types against their spelling.
func FuzzParseType(f *testing.F) {
	f.Add("F16")
	f.Add("q4_k")
	f.Fuzz(func(t *testing.T, name string) {
		if typ, err := gguf.ParseType(name); err == nil {
			if again, err := gguf.ParseType(typ.String()); err != nil || again != typ {
				t.Errorf("%q is %v, which reads back as %v: %v", name, typ, again, err)
			}
		}
	})
}
