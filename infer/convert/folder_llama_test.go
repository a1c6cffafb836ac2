//go:build cgo && !nocgo

package convert_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer/convert"
	"github.com/lathe-llm/lathe/infer/convert/converttest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// cutFile writes a subnet of a tiny model whose layers change keeps, and opens it.
func cutFile(t *testing.T, m gguftest.Model, kind string, change func(i int, l *subnet.Layer)) *gguf.File {
	t.Helper()
	source := gguftest.Open(t, m)
	c, err := source.Config()
	if err != nil {
		t.Fatal(err)
	}
	g := c.Geometry()
	var layers []subnet.Layer
	for i, lg := range g.Layers {
		l := subnet.DenseLayer(lg)
		change(i, &l)
		layers = append(layers, l)
	}
	masks, err := subnet.New(&g, layers)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cut.gguf")
	if _, err := gguf.WriteSubnet(t.Context(), source, path, gguf.Subnet{Masks: masks}, gguf.WriteOptions{Type: kind}); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func keep(n int, heads ...int) subnet.Set { return subnet.Of(n, heads...) }

// TestFoldersOfSubnets writes subnets as folders and reads them back: the logits must be those of the file, and of the
// reference on the folder.
func TestFoldersOfSubnets(t *testing.T) {
	four := func(m *gguftest.Model) { m.Layers = append(m.Layers, m.Layers[0]) }
	for _, test := range []struct {
		name, kind, class string
		edit              func(*gguftest.Model)
		layers            int
		change            func(i int, l *subnet.Layer)
	}{
		{"dense", "F32", "LlamaForCausalLM", nil, 3, func(int, *subnet.Layer) {}},
		{"equal widths", "F16", "LlamaForCausalLM", nil, 3, func(_ int, l *subnet.Layer) { l.Channels, l.Heads = subnet.Range(128, 32, 96), keep(4, 2, 3) }},
		{"widths", "F32", "DeciLMForCausalLM", nil, 3, func(i int, l *subnet.Layer) { l.Channels = subnet.Range(128, 0, 128-32*i) }},
		{"tied", "BF16", "DeciLMForCausalLM", func(m *gguftest.Model) { m.Tied = true }, 3, func(i int, l *subnet.Layer) { l.Channels = subnet.Range(128, 0, 96-32*i) }},
		{"blocks", "F32", "DeciLMForCausalLM", four, 4, func(i int, l *subnet.Layer) {
			switch i {
			case 0, 2:
				l.Heads = subnet.Empty(4)
			case 1:
				l.Channels = subnet.Empty(128)
			}
		}},
		{"layers", "F16", "DeciLMForCausalLM", four, 3, func(i int, l *subnet.Layer) {
			if i == 1 {
				l.Heads, l.Channels = subnet.Empty(4), subnet.Empty(128)
			}
			if i == 3 {
				l.Channels = subnet.Range(128, 0, 32)
			}
		}},
		{"one group", "F32", "DeciLMForCausalLM", nil, 3, func(i int, l *subnet.Layer) {
			l.Heads = keep(4, 0, 1)
			if i == 2 {
				l.Heads = keep(4, 0, 3) // a head of each group: as many heads, in more groups
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := cutFile(t, tiny("llama", test.edit), test.kind, test.change)
			dir := filepath.Join(t.TempDir(), "folder")
			r, err := convert.WriteFolder(t.Context(), f, dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Class != test.class || r.Layers != test.layers || r.Path != dir || r.Bytes == 0 {
				t.Errorf("%+v", r)
			}
			back := folderToFile(t, dir, convert.Options{})
			want, got := logits(t, f.Path(), someTokens()), logits(t, back.Path(), someTokens())
			reference := newReference(t, dir).logits(someTokens())
			precise := logits(t, folderToFile(t, dir, convert.Options{Type: "F32"}).Path(), someTokens())
			for i := range want {
				if want[i] != got[i] {
					t.Fatalf("logit %d is %v of the folder and %v of the file", i, got[i], want[i])
				}
				if d := math.Abs(float64(precise[i]) - reference[len(reference)-1][i]); !(d < 0.02) {
					t.Fatalf("logit %d is %v, of the reference %v", i, precise[i], reference[len(reference)-1][i])
				}
			}
			for _, key := range []string{"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.bos_token_id",
				"tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_bos_token", "tokenizer.chat_template"} {
				sameValue(t, key, f.KV(), back.KV())
			}
		})
	}
}

// Of Llama 3's rotary scaling a file has the factors only, from which the parameters are found again.
func TestFolderOfLlama3(t *testing.T) {
	for _, p := range [][4]float64{ // factor, low, high, original context
		{8, 1, 4, 8192}, {8, 1, 4, 64}, {32, 1, 4, 8192}, {8, 1, 4, 131072}, {4, 1, 4, 1024}, {8, 2, 8, 1000}, {16, 1.5, 40, 5000},
	} {
		folder := folders()["llama3"]
		folder.Edit = func(c map[string]any) {
			c["rope_scaling"] = map[string]any{"rope_type": "llama3", "factor": p[0], "low_freq_factor": p[1], "high_freq_factor": p[2], "original_max_position_embeddings": p[3]}
		}
		dir, _ := converttest.Open(t, folder)
		f := folderToFile(t, dir, convert.Options{})
		again := filepath.Join(t.TempDir(), "folder")
		if _, err := convert.WriteFolder(t.Context(), f, again, nil); err != nil {
			t.Errorf("%v: %v", p, err)
			continue
		}
		a, err := f.Config()
		if err != nil {
			t.Fatal(err)
		}
		b, err := folderToFile(t, again, convert.Options{}).Config()
		if err != nil || len(b.RopeFactors) != len(a.RopeFactors) {
			t.Fatalf("%v: %d factors of %d, error %v", p, len(b.RopeFactors), len(a.RopeFactors), err)
		}
		for i, want := range a.RopeFactors {
			if d := math.Abs(float64(b.RopeFactors[i]/want) - 1); !(d < 2e-5) {
				t.Errorf("%v: factor %d is %v, want %v", p, i, b.RopeFactors[i], want)
			}
		}
	}
}

func TestWriteFolderRefuses(t *testing.T) {
	widths := func(i int, l *subnet.Layer) { l.Channels = subnet.Range(128, 0, 128-32*i) }
	for _, test := range []struct {
		name   string
		file   *gguf.File
		want   error
		reason string
	}{
		{"another network", gguftest.Open(t, tiny("qwen3", nil)), convert.ErrUnsupported, "not qwen3"},
		{"biases", gguftest.Open(t, tiny("llama", func(m *gguftest.Model) { m.QKVBias = true })), convert.ErrUnsupported, "biases on Q, K and V"},
		{"output biases", gguftest.Open(t, tiny("llama", func(m *gguftest.Model) { m.OutBias = true })), convert.ErrUnsupported, "output biases"},
		{"some channels of heads", cutFile(t, tiny("llama", nil), "F16", func(i int, l *subnet.Layer) {
			if i == 1 {
				l.Heads = keep(4, 0, 1)
			}
		}), convert.ErrUnsupported, "layer 0 has 4 query heads and layer 1 2"},
		{"inside heads", cutFile(t, tiny("llama", nil), "F16", func(_ int, l *subnet.Layer) {
			half := subnet.Range(16, 0, 8)
			l.QK, l.VO = []subnet.Set{half, half}, []subnet.Set{half, half}
		}), convert.ErrUnsupported, "cut inside"},
		{"factors of nobody", gguftest.Open(t, tiny("llama", func(m *gguftest.Model) { m.RopeFreqs = true })), convert.ErrUnsupported, "rotary factors"},
		{"quantised", cutFile(t, tiny("llama", nil), "Q8_0", widths), gguf.ErrType, "safetensors hold F32, F16 and BF16"},
		{"another pre-tokenizer", gguftest.Open(t, tiny("llama", func(m *gguftest.Model) {
			m.Edit = func(kv *gguf.KV) { _ = kv.Set("tokenizer.ggml.model", "t5") }
		})), convert.ErrUnsupported, `"t5"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			to := t.TempDir()
			_, err := convert.WriteFolder(t.Context(), test.file, filepath.Join(to, "folder"), nil)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.reason) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v", err)
			}
			alone(t, to)
		})
	}
	to := t.TempDir()
	f := cutFile(t, tiny("llama", nil), "F16", widths)
	put(t, to, "precious", []byte("x"))
	if _, err := convert.WriteFolder(t.Context(), f, to, nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("into a folder in use: %v", err)
	}
	alone(t, to, "precious")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := convert.WriteFolder(ctx, f, filepath.Join(to, "folder"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	alone(t, to, "precious")
}
