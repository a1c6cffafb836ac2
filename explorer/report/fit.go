package report

import (
	"fmt"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// A Fit is a subnet that fits into a given memory.
type Fit struct {
	explorer.Fit
	Memory int64 // bytes it needs at that context
}

// logitBytes is the working memory the engine needs for each entry of the vocabulary: its logits for a batch of 512 tokens.
const logitBytes = 512 * 4

// activationBytes is what it needs besides, for the widest activations of the batch.
func activationBytes(g *subnet.Geometry) int64 {
	widest := g.Hidden
	for _, l := range g.Layers {
		widest = max(widest, l.FFN, l.Heads*g.HeadDim)
	}
	return logitBytes * int64(8*widest)
}

// workingBytes is the memory that the engine needs besides weights and KV cache, with a number of entries of the vocabulary.
func workingBytes(g *subnet.Geometry, entries int) int64 {
	return activationBytes(g) + logitBytes*int64(entries)
}

// MemoryFor is the memory, in bytes, that running masks takes at a context length: weights in the source's types, an F16
// KV cache and the engine's working memory.
func MemoryFor(m explorer.ModelInfo, masks subnet.Masks, context int) int64 {
	return memory(m, masks, m.FileSize(masks, ""), context)
}

// MemoryOf is MemoryFor for a subnet, in its own types.
func MemoryOf(m explorer.ModelInfo, n explorer.Subnet, context int) int64 {
	if n.Types == nil {
		return MemoryFor(m, n.Masks, context)
	}
	return memory(m, n.Masks, m.SubnetSize(&n), context)
}

// memory is MemoryFor in the types that a file of a size has.
func memory(m explorer.ModelInfo, masks subnet.Masks, size gguf.FileSize, context int) int64 {
	return size.Tensors + masks.Size().KVBytes(context) + workingBytes(m.Geometry, masks.VocabLen())
}

// FitMachine picks, among the dense model, the library and the front of the newest search, the one of lowest perplexity
// that runs in limit bytes with a context of that many tokens. Its error wraps explorer.ErrUnsupported when none does and names
// the smallest.
func FitMachine(s *explorer.Snapshot, limit int64, context int) (Fit, error) {
	if limit <= 0 || context <= 0 {
		return Fit{}, fmt.Errorf("%w: %d bytes of memory, %d tokens of context", explorer.ErrInvalid, limit, context)
	}
	best, least, ok := s.BestWithin(float64(limit), func(masks subnet.Masks, own *gguf.FileSize) float64 {
		if own != nil {
			return float64(memory(s.Model, masks, *own, context))
		}
		return float64(MemoryFor(s.Model, masks, context))
	})
	if !ok {
		return Fit{}, fmt.Errorf("%w: nothing found so far runs in %s with %d tokens of context; the smallest, %s, needs %s",
			explorer.ErrUnsupported, format.Bytes(limit), context, least.Name, format.Bytes(int64(least.Cost)))
	}
	return Fit{best, int64(best.Cost)}, nil
}
