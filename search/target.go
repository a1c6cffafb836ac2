package search

import (
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/space"
)

// Measure is the quantity that a target bounds.
type Measure string

// The measures.
const (
	// Params: the inheriting ratio, the share of the block matrices' parameters
	// that is kept.
	Params Measure = "params"
	// Bytes: the size of the GGUF file's tensors.
	Bytes Measure = "bytes"
	// Memory: that plus an F16 KV cache of Target.Context tokens.
	Memory Measure = "memory"
	// Latency: seconds per token, as measured when the levels were made.
	Latency Measure = "latency"
)

// Target is the highest cost of a subnet.
type Target struct {
	Measure Measure
	Value   float64
	Type    string // storage type of the matrices, for Bytes and Memory
	Context int    // tokens in the cache, for Memory
}

// Ratio returns the target of an inheriting ratio.
func Ratio(share float64) Target { return Target{Measure: Params, Value: share} }

// String describes the target for people.
func (t Target) String() string {
	switch t.Measure {
	case Bytes:
		return fmt.Sprintf("%.4g MB as %s", t.Value/1e6, t.Type)
	case Memory:
		return fmt.Sprintf("%.4g MB as %s with %d tokens of context", t.Value/1e6, t.Type, t.Context)
	case Latency:
		return fmt.Sprintf("%.4g ms per token", t.Value*1e3)
	default: // nothing for the others
	}
	return fmt.Sprintf("%.4g of the parameters", t.Value)
}

// check returns an error for a target that is not valid.
func (t Target) check() error {
	switch t.Measure {
	case Params:
		if !(t.Value > 0 && t.Value <= 1) {
			return fmt.Errorf("%w: a share of %v of the parameters is not in (0, 1]", ErrConfig, t.Value)
		}
	case Bytes, Memory:
		if _, err := subnet.ParseType(t.Type); err != nil {
			return fmt.Errorf("%w: %w", ErrConfig, err)
		}
		if t.Context < 0 {
			return fmt.Errorf("%w: a context of %d tokens", ErrConfig, t.Context)
		}
	case Latency:
	default:
		return fmt.Errorf("%w: unknown measure %q", ErrConfig, t.Measure)
	}
	if !(t.Value > 0) || math.IsInf(t.Value, 0) {
		return fmt.Errorf("%w: a target of %v", ErrConfig, t.Value)
	}
	return nil
}

// cost returns the cost of a candidate in the unit of the target. The latency of
// masks that are no choice of levels is infinite.
func (t Target) cost(c Candidate, levels *space.Levels) float64 {
	g := c.Masks.Geometry()
	switch t.Measure {
	case Bytes:
		return float64(c.Masks.GGUFBytes(t.Type))
	case Memory:
		cache := c.Masks.Size().KVBytesPerToken * int64(t.Context)
		return float64(c.Masks.GGUFBytes(t.Type) + cache)
	case Latency:
		if c.Choice == nil {
			return math.Inf(1)
		}
		var seconds float64
		for s := range c.Choice {
			seconds += levels.Level(c.Choice, s).Seconds
		}
		return seconds
	default: // nothing for the others
	}
	return float64(c.Masks.BlockParams()) / float64(g.BlockParams())
}

// unreachable returns the error for a target below the smallest subnet.
func (t Target) unreachable(smallest float64) error {
	least := t
	least.Value = smallest
	return fmt.Errorf("%w: the target is %v, the smallest subnet of this space takes %v", ErrTarget, t, least)
}
