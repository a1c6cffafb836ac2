package engine

import (
	"errors"
	"math"
	"path/filepath"
	"testing"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/quality"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// TestEveryTypeComputesItsNumbers separates what a quantised file computes from how llama.cpp computes it. The numbers of a file of any
// type, written out as F32, have in llama.cpp the perplexity that the graphs find on the file itself, within 0.1 %. On the file itself
// llama.cpp rounds activations to eight bits, which is bounded apart.
func TestEveryTypeComputesItsNumbers(t *testing.T) {
	recipe := gguftest.Tiny("llama")
	recipe.Hidden, recipe.HeadDim, recipe.Type = 256, 64, gguf.F32
	recipe.Layers = []subnet.LayerGeometry{{Heads: 4, KVHeads: 2, FFN: 512}, {Heads: 4, KVHeads: 2, FFN: 512}}
	b := newEngine(t)
	m, mon, ctx := open(t, b, recipe), &quiet{}, t.Context()
	p, err := m.passage(ctx, b.options.Text, take{seq: 128, windows: 1})
	if err != nil {
		t.Fatal(err)
	}
	masks := subnet.Dense(m.geometry())
	l := masks.Layer(1)
	l.Channels = subnet.Range(512, 0, 256)
	cut := gguf.Subnet{Masks: masks.With(1, l)}
	for _, typ := range []string{"F32", "F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"} {
		t.Run(typ, func(t *testing.T) {
			dir := t.TempDir()
			path, full := filepath.Join(dir, "cut.gguf"), filepath.Join(dir, "full.gguf")
			_, err := m.Write(ctx, cut, path, typ, mon)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := b.Open(ctx, path)
			if err != nil {
				t.Fatal(err)
			}
			whole := gguf.Subnet{Masks: subnet.Dense(opened.Info().Geometry)}
			_, err = opened.Write(ctx, whole, full, "F32", mon)
			if err := errors.Join(err, opened.Close()); err != nil {
				t.Fatal(err)
			}
			compare := func(path string) (d *quality.Comparison) {
				t.Helper()
				err := m.withCut(ctx, filepath.Join(dir, "cut.gguf"), nil, func(file *decoder.Model, dense *decoder.Subnet) error {
					return m.withFile(ctx, path, p, mon, func(engine infer.Model) error {
						var err error
						_, d, err = distance(ctx, p, graphPredictor(file, dense), quality.ModelPredictor(engine), explorer.Monitor(mon))
						return err
					})
				})
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			numbers, file := compare(full), compare(path)
			t.Logf("llama.cpp on the numbers as F32: perplexity %+.4f %%, divergence %.2g; on the file: %+.4f %%, %.2g",
				100*(numbers.Relative-1), numbers.KL, 100*(file.Relative-1), file.KL)
			if math.Abs(numbers.Relative-1) > 1e-3 || numbers.KL > verifyGraphs {
				t.Errorf("the numbers as F32 in llama.cpp: perplexity %.6f × the graphs', divergence %g", numbers.Relative, numbers.KL)
			}
			if file.KL > verifyQuantised {
				t.Errorf("the file in llama.cpp: divergence %g", file.KL)
			}
		})
	}
}
