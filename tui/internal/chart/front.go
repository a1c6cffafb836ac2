package chart

import (
	"cmp"
	"math"
	"slices"
)

// Front returns the points that no other is below at the same x or to the left of it, from left to right, so that a line through
// them never runs above a point that is better.
func Front(points []Point) []Point {
	sorted := slices.Clone(points)
	slices.SortFunc(sorted, func(a, b Point) int { return cmp.Or(cmp.Compare(a.X, b.X), cmp.Compare(a.Y, b.Y)) })
	var front []Point
	least := math.Inf(1)
	for _, p := range sorted {
		if p.Y < least && !math.IsNaN(p.X) {
			front = append(front, p)
			least = p.Y
		}
	}
	return front
}
