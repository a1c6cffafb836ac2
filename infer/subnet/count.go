package subnet

import (
	"fmt"
	"math"
)

// DefaultGranularity is the usual step of MLP widths: the block of most of
// ggml's quantised types.
const DefaultGranularity = 32

// Count returns how many of n units a ratio keeps: the nearest multiple of the
// granularity, at least one step of it and at most n.
func Count(n int, ratio float64, granularity int) int {
	granularity = max(granularity, 1)
	steps := max(1, int(math.Round(ratio*float64(n)/float64(granularity))))
	return min(n, steps*granularity)
}

// CheckGranularity returns an error that wraps [ErrInvalid] if MLP widths of g
// cannot be multiples of n: it must divide the MLP channels of every layer, and
// leave channels to drop. 0, the default, fits every geometry.
func (g *Geometry) CheckGranularity(n int) error {
	if n < 0 {
		return fmt.Errorf("%w: granularity %d is not in [1, %d]", ErrInvalid, n, g.maxGranularity())
	}
	if n == 0 {
		return nil
	}
	for i, l := range g.Layers {
		switch {
		case l.FFN == 0:
		case n >= l.FFN:
			return fmt.Errorf("%w: granularity %d is too large for the %d MLP channels of layer %d: it is in [1, %d]", ErrInvalid, n, l.FFN, i, g.maxGranularity())
		case l.FFN%n != 0:
			return fmt.Errorf("%w: granularity %d does not divide the %d MLP channels of layer %d", ErrInvalid, n, l.FFN, i)
		}
	}
	return nil
}

// maxGranularity returns half of the channels of the narrowest MLP.
func (g *Geometry) maxGranularity() int {
	most := 0
	for _, l := range g.Layers {
		if l.FFN > 0 && (most == 0 || l.FFN/2 < most) {
			most = l.FFN / 2
		}
	}
	return max(1, most)
}
