package report

import (
	"fmt"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// A Fit is a subnet that fits into a given memory.
type Fit struct {
	explorer.Fit
	Memory int64 // bytes it needs at that context
}

// computeBytes is the working memory the engine needs besides weights and cache, for a batch of 512 tokens: the logits of
// the batch and the widest activations.
func computeBytes(g *subnet.Geometry) int64 {
	const batch, float = 512, 4
	widest := g.Hidden
	for _, l := range g.Layers {
		widest = max(widest, l.FFN, l.Heads*g.HeadDim)
	}
	return batch * float * int64(g.Vocab+8*widest)
}

// WorkingBytes is the memory that the engine needs besides weights and KV cache.
func WorkingBytes(m explorer.ModelInfo) int64 { return computeBytes(m.Geometry) }

// MemoryFor is the memory, in bytes, that running masks takes at a context length: weights in the source's types, an F16
// KV cache and the engine's working memory.
func MemoryFor(m explorer.ModelInfo, masks subnet.Masks, context int) int64 {
	return m.FileSize(masks, "").Tensors + masks.Size().KVBytes(context) + computeBytes(m.Geometry)
}

// MemoryOf is MemoryFor for a subnet, in its own types.
func MemoryOf(m explorer.ModelInfo, n explorer.Subnet, context int) int64 {
	if n.Types == nil {
		return MemoryFor(m, n.Masks, context)
	}
	return m.SubnetSize(&n).Tensors + n.Masks.Size().KVBytes(context) + computeBytes(m.Geometry)
}

// FitMachine picks, among the dense model, the library and the front of the newest search, the one of lowest perplexity
// that runs in memory bytes with a context of that many tokens. Its error wraps explorer.ErrUnsupported when none does and names
// the smallest.
func FitMachine(s *explorer.Snapshot, memory int64, context int) (Fit, error) {
	if memory <= 0 || context <= 0 {
		return Fit{}, fmt.Errorf("%w: %d bytes of memory, %d tokens of context", explorer.ErrInvalid, memory, context)
	}
	best, least, ok := s.BestWithin(float64(memory), func(n explorer.Subnet) float64 { return float64(MemoryOf(s.Model, n, context)) })
	if !ok {
		return Fit{}, fmt.Errorf("%w: nothing found so far runs in %s with %d tokens of context; the smallest, %s, needs %s",
			explorer.ErrUnsupported, format.Bytes(memory), context, least.Name, format.Bytes(int64(least.Cost)))
	}
	return Fit{best, int64(best.Cost)}, nil
}
