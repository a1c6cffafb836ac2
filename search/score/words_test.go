package score

import (
	"testing"

	"github.com/lathe-llm/lathe/search/mask"
)

func TestWordsWhereTheHeadIsMuchOfTheWork(t *testing.T) {
	for name, c := range map[string]struct {
		layers, hidden, ffn, heads, kv, dim, vocab int
		want                                       int
	}{
		"SmolLM2-135M":                {30, 576, 1536, 9, 3, 64, 49152, someWords},
		"a 7B of a small vocabulary":  {32, 4096, 11008, 32, 32, 128, 32000, 0},
		"an 8B of a large vocabulary": {32, 4096, 14336, 32, 8, 128, 128256, 0},
		"a vocabulary hardly larger":  {4, 64, 128, 4, 2, 16, 20000, 0},
	} {
		g := &mask.Geometry{Arch: "llama", Hidden: c.hidden, HeadDim: c.dim, Vocab: c.vocab}
		for range c.layers {
			g.Layers = append(g.Layers, mask.LayerGeometry{Heads: c.heads, KVHeads: c.kv, FFN: c.ffn})
		}
		if got := words(g); got != c.want {
			t.Errorf("%s: %d words, want %d", name, got, c.want)
		}
	}
}
