package tui

import (
	"github.com/lathe-llm/lathe/infer/subnet"
)

// costContext is the context, in tokens, that operations per token are counted at.
const costContext = 2048

// A cost is what masks cost. It takes as long to compute as the rest of a frame does to draw.
type cost struct {
	masks subnet.Masks
	size  subnet.Size
	bytes int64   // GGUF tensor bytes in the model's type
	flops float64 // per token generated at costContext
}

// costs remembers the costs of the masks last asked for.
type costs struct{ known []cost }

// of is the cost of masks, whose matrices are of a type.
func (c *costs) of(masks subnet.Masks, typ string) cost {
	for _, k := range c.known {
		if k.masks.Equal(masks) {
			return k
		}
	}
	k := cost{masks: masks, size: masks.Size(), bytes: masks.GGUFBytes(typ)}
	_, k.flops = masks.FLOPs(costContext)
	const remembered = 8
	if len(c.known) == remembered {
		c.known = c.known[1:]
	}
	c.known = append(c.known, k)
	return k
}

// cost is what masks of the model cost.
func (m *Model) cost(masks subnet.Masks) cost { return m.costs.of(masks, m.snap.Model.FileType) }
