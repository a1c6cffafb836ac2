package corpus

import (
	"cmp"
	"math"
	"slices"
)

// Apportion divides n windows among texts by their shares, which add up to 1, by the method of largest remainders. fit returns how
// many windows a text has, up to a number; what a text lacks the others provide. The counts add up to fewer than n where all texts
// together have fewer.
func Apportion(shares []float64, n int, fit func(text, n int) (int, error)) ([]int, error) {
	counts := make([]int, len(shares))
	limited := make([]bool, len(shares))
	for {
		left, open := n, 0.0
		for i, share := range shares {
			if limited[i] {
				left -= counts[i]
			} else {
				open += share
			}
		}
		divide(counts, limited, shares, left, open)
		changed := false
		for i := range shares {
			if limited[i] {
				continue
			}
			most, err := fit(i, counts[i])
			if err != nil {
				return nil, err
			}
			if most < counts[i] {
				counts[i], limited[i], changed = most, true, true
			}
		}
		if !changed {
			return counts, nil
		}
	}
}

// divide sets the counts of the texts that are not limited, whose shares add up to open.
func divide(counts []int, limited []bool, shares []float64, n int, open float64) {
	var order []int
	rest := make([]float64, len(shares))
	given := 0
	for i, share := range shares {
		if limited[i] {
			continue
		}
		exact := float64(n) * share / open
		counts[i] = int(math.Floor(exact + 1e-9))
		rest[i], given, order = exact-float64(counts[i]), given+counts[i], append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rest[b], rest[a]) })
	for _, i := range order[:max(0, min(n-given, len(order)))] {
		counts[i]++
	}
}

// tailShare and maxTail bound the last windows of an order, which searches score on: they are a mix of their own.
const (
	tailShare = 4
	maxTail   = 8
)

// Order returns the text of each window so that every beginning of the order, and its last quarter, is a mix by the shares as far as
// the counts allow.
func Order(counts []int, shares []float64) []int {
	n := 0
	first, last := make([]int, len(counts)), make([]int, len(counts))
	for i, count := range counts {
		n += count
		last[i] = (count + tailShare - 1) / tailShare
	}
	end := alternate(last, shares, min(n/tailShare, maxTail))
	copy(first, counts)
	for _, i := range end {
		first[i]--
	}
	return append(alternate(first, shares, n-len(end)), end...)
}

// alternate returns the texts of n windows: each time the one that is furthest behind its share, of those with windows left.
func alternate(counts []int, shares []float64, n int) []int {
	used := make([]int, len(counts))
	var order []int
	for len(order) < n {
		best, behind := -1, 0.0
		for i, share := range shares {
			if lag := share*float64(len(order)+1) - float64(used[i]); used[i] < counts[i] && (best < 0 || lag > behind+1e-9) {
				best, behind = i, lag
			}
		}
		if best < 0 {
			break
		}
		used[best]++
		order = append(order, best)
	}
	return order
}
