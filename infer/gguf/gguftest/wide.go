package gguftest

import (
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Wide returns a model for benchmarks: one layer of the shape of Llama's 7B models and a small vocabulary, 0.4 GB in F16.
func Wide() Model {
	return Model{
		Arch: "llama", Hidden: 4096, HeadDim: 128, Vocab: 320, Context: 4096, Layers: []subnet.LayerGeometry{{Heads: 32, KVHeads: 32, FFN: 11008}},
		Type: gguf.F16, RopeBase: 10000, Seed: 1,
	}
}
