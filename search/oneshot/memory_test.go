package oneshot_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/decoder/decodertest"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/oneshot"
	"github.com/lathe-llm/lathe/search/oneshot/preset"
)

// TestMemoryLimits cuts with everything in memory, and with room for one block's weights and one window's states: the
// subnets are the same to the last bit, and the weights take what MemoryOf estimates.
func TestMemoryLimits(t *testing.T) {
	recipe := gguftest.Tiny("llama")
	for range 5 {
		recipe.Layers = append(recipe.Layers, recipe.Layers[0])
	}
	be, err := decoder.OpenDevice("go")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	f := gguftest.Open(t, recipe)
	const ratio, count, tokens = 0.7, 6, 32
	windows := decodertest.Windows(1, count, tokens, recipe.Vocab)
	state := int64(4 * tokens * recipe.Hidden)
	refitsUp := oneshot.Recipe{Refit: reform.Recipe{UpSteps: 2, Relative: true, Solve: reform.Options{Pull: true, Lambdas: []float64{0.03}}}}
	for name, config := range map[string]oneshot.Config{
		"allocated": {}, "flap": {Preset: preset.FLAP}, "taylor": {Preset: preset.Taylor}, "depth": {Preset: preset.Depth}, "W_U": {Recipe: &refitsUp},
	} {
		config.Granularity = 8
		t.Run(name, func(t *testing.T) {
			var want gguf.Subnet
			var whole int64
			for _, limits := range []oneshot.Limits{{States: decoder.DefaultMemory}, {States: state, Weights: 1}} {
				m, err := decoder.Load(t.Context(), be, f, decoder.WithMemory(limits.States, t.TempDir()), decoder.WithWeights(limits.Weights))
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				s, _, err := oneshot.OneShot(t.Context(), m, windows, ratio, config)
				if err != nil {
					t.Fatal(err)
				}
				_, most := m.ResidentBytes()
				estimate := oneshot.MemoryOf(m.Geometry(), ratio, count, tokens, limits).Weights
				if most > estimate || name == "allocated" && most < estimate*2/3 {
					t.Errorf("limit %d: weights took %d bytes, %d were estimated", limits.Weights, most, estimate)
				}
				if limits.Weights == 0 {
					want, whole = s, most
					continue
				}
				if most > whole/3 {
					t.Errorf("weights took %d bytes, %d without a limit", most, whole)
				}
				if !s.Masks.Equal(want.Masks) || !reflect.DeepEqual(s.Refit, want.Refit) {
					t.Error("another subnet than without limits")
				}
			}
		})
	}
}

// Llama's 7B, calibrated on 24 windows of 2048 tokens: with everything in memory, and with limits for weights and states.
func ExampleMemoryOf() {
	g := &subnet.Geometry{
		Arch: "llama", Hidden: 4096, Vocab: 32000, HeadDim: 128,
		Layers: slices.Repeat([]subnet.LayerGeometry{{Heads: 32, KVHeads: 32, FFN: 11008}}, 32),
	}
	for _, limits := range []oneshot.Limits{{States: decoder.DefaultMemory}, {States: decoder.DefaultMemory, Weights: 1 << 30}, {States: 1 << 30, Weights: 1 << 30}} {
		m := oneshot.MemoryOf(g, 0.8, 24, 2048, limits)
		fmt.Printf("%.0f GB, %.0f of them weights\n", float64(m.Total())/1e9, float64(m.Weights)/1e9)
	}
	// Output:
	// 52 GB, 30 of them weights
	// 24 GB, 1 of them weights
	// 22 GB, 1 of them weights
}
