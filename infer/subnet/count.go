package subnet

import "math"

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
