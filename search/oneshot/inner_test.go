//go:build cgo && !nocgo

package oneshot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/ollama/ollama/llama"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/search/importance"
)

// TestCompensateInnerOfDefaultModel compares the errors of outputs of the default model's first matrices, tr(ΔW·H·ΔWᵀ), in Q4_0, rounded by the importance of
// columns with and without compensation. The second moments H are of text that compensation has not seen: it must take away a tenth at least
// of all, and add to none.
func TestCompensateInnerOfDefaultModel(t *testing.T) {
	cache := os.Getenv("LATHE_CACHE")
	path := filepath.Join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
	text, err := os.ReadFile(filepath.Join(cache, "text", "wiki.utf8"))
	if err != nil {
		t.Skipf("the calibration text is not in LATHE_CACHE (make setup fetches it): %v", err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Skipf("the default model is not in LATHE_CACHE (make setup fetches it): %v", err)
	}
	defer func() { _ = f.Close() }()
	dev, err := decoder.OpenDevice("")
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	m, err := decoder.Load(t.Context(), dev, f)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	vocabulary, err := llama.LoadModelFromFile(path, llama.ModelParams{VocabOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer llama.FreeModel(vocabulary)
	const windows, length = 6, 256
	windowsOf := func(at int) [][]int32 {
		ids, err := vocabulary.Tokenize(string(text[at:at+8*windows*length]), false, false)
		if err != nil || len(ids) < windows*length {
			t.Fatalf("%d tokens, error %v", len(ids), err)
		}
		out := make([][]int32, windows)
		for i := range out {
			for _, id := range ids[i*length : (i+1)*length] {
				out[i] = append(out[i], int32(id))
			}
		}
		return out
	}
	enough := errors.New("enough layers")
	grams := func(windows [][]int32, visit func(layer int, module subnet.Module, b *importance.Block, tokens int)) {
		t.Helper()
		p, err := newPass(t.Context(), m, windows)
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		err = p.run(context.WithoutCancel(t.Context()), visitor{
			needs: importance.Needs{Weights: true, Inputs: true},
			module: func(layer int, module subnet.Module, b *importance.Block) error {
				visit(layer, module, b, p.st.Tokens())
				return nil
			},
			layer: func(layer int, _ float64) error {
				if layer == 1 {
					return enough
				}
				return nil
			},
		})
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
	}
	type key struct {
		layer  int
		module subnet.Module
	}
	held := make(map[key][]float64)
	grams(windowsOf(len(text)/2), func(layer int, module subnet.Module, b *importance.Block, _ int) {
		held[key{layer, module}] = b.In.Gram
	})
	var before, after float64
	grams(windowsOf(0), func(layer int, module subnet.Module, b *importance.Block, tokens int) {
		n := b.In.N
		weights := diagonal(b.In.Gram, n)
		k := &sizing{plan: &plan{g: m.Geometry(), m: m}, types: map[string]subnet.Type{}, size: Size{Losses: &TypeLosses{Importance: map[string][]float32{}}}}
		for _, name := range m.InnerMatrices(module) {
			k.types[tensorName(layer, name)], k.size.Losses.Importance[tensorName(layer, name)] = subnet.Q4_0, weights
		}
		made := make(map[string][]float32)
		if err := k.compensateModule(layer, module, b, tokens, made); err != nil {
			t.Fatal(err)
		}
		var plain, own float64
		for i, name := range m.InnerMatrices(module) {
			w := b.Inner[i]
			errorOf := func(from []float32) float64 {
				back, err := gguf.Round(subnet.Q4_0, from, n, weights)
				if err != nil {
					t.Fatal(err)
				}
				d := make([]float64, len(back))
				for i := range d {
					d[i] = float64(back[i]) - float64(w.Data[i])
				}
				return linalg.Dot(linalg.Product(w.Out, n, n, d, held[key{layer, module}]), d)
			}
			plain, own = plain+errorOf(w.Data), own+errorOf(made[tensorName(layer, name)])
		}
		t.Logf("layer %d %v: %.4g, compensated %.4g", layer, module, plain, own)
		if before, after = before+plain, after+own; !(own < plain) {
			t.Errorf("layer %d %v: error %g, %g without compensation", layer, module, own, plain)
		}
	})
	if !(after < 0.9*before) {
		t.Errorf("error %g, %g without compensation", after, before)
	}
}
