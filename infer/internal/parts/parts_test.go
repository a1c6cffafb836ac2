package parts

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestWeights(t *testing.T) {
	index := `{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}`
	for _, test := range []struct {
		name        string
		names, want []string
	}{
		{"indexed", []string{"model.safetensors", Index, "x.safetensors"}, []string{"model-1.safetensors", "model-2.safetensors"}},
		{"single", []string{"consolidated.safetensors", "model.safetensors"}, []string{"model.safetensors"}},
		{"all", []string{"b.safetensors", "a.safetensors", "a.bin"}, []string{"a.safetensors", "b.safetensors"}},
		{"none", []string{"pytorch_model.bin"}, nil},
	} {
		got, err := Weights(test.names, func(string) ([]byte, error) { return []byte(index), nil })
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, error %v", test.name, got, err)
		}
	}
	for _, index := range []string{"", "[]", "{}", `{"weight_map":{"a":"../x.safetensors"}}`, `{"weight_map":{"a":"x.bin"}}`} {
		if list, err := ParseIndex([]byte(index)); !errors.Is(err, ErrIndex) {
			t.Errorf("%s: %q, error %v", index, list, err)
		}
	}
}

// The files of an index are in its folder.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"x.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x.safetensors"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseIndex(b)
		if err != nil {
			if !errors.Is(err, ErrIndex) {
				t.Errorf("error %v", err)
			}
			return
		}
		for _, name := range list {
			if strings.Contains(name, "/") || !strings.HasSuffix(name, ".safetensors") {
				t.Errorf("file %q", name)
			}
		}
	})
}
