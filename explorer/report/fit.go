package report

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/format"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// A Fit is a subnet that fits into a given memory.
type Fit struct {
	Subnet    explorer.SubnetID // of the library, or explorer.DenseID; "" when it is a candidate of the search's front
	Candidate int               // of the search's front; 0 when it is a subnet
	Name      string
	Memory    int64   // bytes it needs at that context
	Relative  float64 // perplexity relative to the dense model, as last measured; 0 if it was not
	Share     float64 // of the block parameters
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

// MemoryFor is the memory, in bytes, that running masks takes at a context length: weights in the source's types, an F16
// KV cache and the engine's working memory.
func MemoryFor(m explorer.ModelInfo, masks subnet.Masks, context int) int64 {
	return m.FileSize(masks, "").Tensors + masks.Size().KVBytes(context) + computeBytes(m.Geometry)
}

// FitMachine picks, among the dense model, the library and the front of the newest search, the one of lowest perplexity
// that runs in memory bytes with a context of that many tokens. Its error wraps explorer.ErrUnsupported when none does and names
// the smallest.
func FitMachine(s *explorer.Snapshot, memory int64, context int) (Fit, error) {
	if memory <= 0 || context <= 0 {
		return Fit{}, fmt.Errorf("%w: %d bytes of memory, %d tokens of context", explorer.ErrInvalid, memory, context)
	}
	dense := subnet.Dense(s.Model.Geometry)
	all := []Fit{{Subnet: explorer.DenseID, Name: "dense", Memory: MemoryFor(s.Model, dense, context), Relative: 1, Share: 1}}
	for _, n := range s.Subnets {
		all = append(all, Fit{Subnet: n.ID, Name: n.Name, Memory: MemoryFor(s.Model, n.Masks, context), Relative: n.Figure().Relative, Share: n.Size.Ratio})
	}
	for _, c := range s.Search.Front {
		f := Fit{Candidate: c.ID, Name: fmt.Sprintf("#%d", c.ID), Memory: MemoryFor(s.Model, c.Masks, context), Share: c.Ratio}
		if s.Search.DensePerplexity > 0 {
			f.Relative = c.Score.Perplexity() / s.Search.DensePerplexity
		}
		all = append(all, f)
	}
	smallest := slices.MinFunc(all, func(a, b Fit) int { return cmp.Compare(a.Memory, b.Memory) })
	fitting := slices.DeleteFunc(all, func(f Fit) bool { return f.Memory > memory })
	if len(fitting) == 0 {
		return Fit{}, fmt.Errorf("%w: nothing found so far runs in %s with %d tokens of context; the smallest, %s, needs %s",
			explorer.ErrUnsupported, format.Bytes(memory), context, smallest.Name, format.Bytes(smallest.Memory))
	}
	// The dense model, where it fits, is the best there is. Others that were not measured count as worse than those that
	// were, and the larger of them as the better.
	return slices.MinFunc(fitting, func(a, b Fit) int {
		rank := func(f Fit) int {
			switch {
			case f.Subnet == explorer.DenseID:
				return 0
			case f.Relative > 0:
				return 1
			}
			return 2
		}
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if rank(a) == 1 && a.Relative != b.Relative {
			return cmp.Compare(a.Relative, b.Relative)
		}
		return cmp.Compare(b.Share, a.Share)
	}), nil
}
