package subnets

import (
	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// costContext is the context, in tokens, at which operations per token are counted.
const costContext = 2048

// A Cost is what a subnet costs. Computing it takes as long as drawing the rest of a frame.
type Cost struct {
	Size    subnet.Size
	Bytes   int64   // of the file in the model's types
	FLOPs   float64 // per token generated at a context of 2048 tokens
	Prefill float64 // per token of a prompt of as many, on average
	masks   subnet.Masks
}

// Costs caches the costs of the masks last asked for. The zero Costs is empty.
type Costs struct{ known []Cost }

// Of returns the cost of masks of a model.
func (c *Costs) Of(masks subnet.Masks, m *explorer.ModelInfo) Cost {
	for _, k := range c.known {
		if k.masks.Equal(masks) {
			return k
		}
	}
	k := Cost{masks: masks, Size: masks.Size(), Bytes: m.FileSize(masks, "").File}
	k.Prefill, k.FLOPs = masks.FLOPs(costContext)
	const remembered = 8
	if len(c.known) == remembered {
		c.known = c.known[1:]
	}
	c.known = append(c.known, k)
	return k
}
