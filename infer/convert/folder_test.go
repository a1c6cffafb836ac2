package convert_test

import (
	"math"
	"testing"

	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
)

// write writes the folder of a random model; edit changes config.json.
func write(t *testing.T, m gguftest.Model, class string, edit func(config map[string]any)) (dir string, source *gguf.File) {
	t.Helper()
	return converttest.Open(t, converttest.Folder{Model: m, Class: class, Edit: edit})
}

// put writes a file of a folder.
func put(t *testing.T, dir, name string, content any) {
	t.Helper()
	if err := converttest.Put(dir, name, content); err != nil {
		t.Fatal(err)
	}
}

// safetensors makes a file of named tensors.
func safetensors(t *testing.T, list map[string]converttest.Tensor) []byte {
	t.Helper()
	b, err := converttest.Safetensors(list)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// llama3 computes the factors as the description of Llama 3.1's rotary scaling has them, from wavelengths.
func llama3(base float64, dim int) []float32 {
	out := make([]float32, dim/2)
	for i := range out {
		wavelength := 2 * math.Pi * math.Pow(base, 2*float64(i)/float64(dim))
		switch {
		case wavelength < 8192.0/4:
			out[i] = 1
		case wavelength > 8192.0/1:
			out[i] = 8
		default:
			smooth := (8192/wavelength - 1) / (4 - 1)
			out[i] = float32(1 / ((1-smooth)/8 + smooth))
		}
	}
	return out
}
