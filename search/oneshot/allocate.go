package oneshot

import (
	"fmt"
	"math"
)

// option is one way to store a part of a model: what it costs the model, in nats per token, and how many bytes it takes.
type option struct {
	loss  float64
	bytes int64
}

// bisections is how often the price of a byte is halved.
const bisections = 100

// allocate chooses one option of each item, so that the sum of bytes is at most the budget and the sum of losses small. It is the solution of
// the Lagrangian relaxation, which is optimal for its own size, after which what is left of the budget is spent where it gains most per byte
// (Shoham and Gersho, 1988). Without such a choice it returns an error with the least number of bytes.
func allocate(items [][]option, budget int64) ([]int, error) {
	least := cheapest(items, math.Inf(1))
	if size := sizeOf(items, least); size > budget {
		return nil, tooLargeError{size, budget}
	}
	best := cheapest(items, 0)
	if sizeOf(items, best) > budget {
		low, high := 0.0, 1e-12 // nats per byte: too low, high enough
		for sizeOf(items, cheapest(items, high)) > budget {
			low, high = high, 2*high
		}
		for range bisections {
			price := (low + high) / 2
			if sizeOf(items, cheapest(items, price)) > budget {
				low = price
			} else {
				high = price
			}
		}
		best = cheapest(items, high)
	}
	spend(items, best, budget-sizeOf(items, best))
	return best, nil
}

// tooLargeError reports that the smallest choice is larger than a budget.
type tooLargeError struct{ least, budget int64 }

func (e tooLargeError) Error() string {
	return fmt.Sprintf("%d bytes at least, %d are allowed", e.least, e.budget)
}

// cheapest returns the option of each item with the least loss at a price of bytes; for an infinite price, the smallest.
func cheapest(items [][]option, price float64) []int {
	chosen := make([]int, len(items))
	for i, options := range items {
		at := func(o option) (first, second float64) {
			if math.IsInf(price, 1) {
				return float64(o.bytes), o.loss
			}
			return o.loss + price*float64(o.bytes), float64(o.bytes)
		}
		first, second := math.Inf(1), math.Inf(1)
		for j, o := range options {
			if a, b := at(o); a < first || a == first && b < second {
				chosen[i], first, second = j, a, b
			}
		}
	}
	return chosen
}

func sizeOf(items [][]option, chosen []int) int64 {
	var n int64
	for i, options := range items {
		n += options[chosen[i]].bytes
	}
	return n
}

func lossOf(items [][]option, chosen []int) float64 {
	var sum float64
	for i, options := range items {
		sum += options[chosen[i]].loss
	}
	return sum
}

// spend improves a choice by at most some bytes more, each time where a byte gains most.
func spend(items [][]option, chosen []int, left int64) {
	for {
		item, to, rate := -1, 0, 0.0
		for i, options := range items {
			have := options[chosen[i]]
			for j, o := range options {
				more, gain := o.bytes-have.bytes, have.loss-o.loss
				if gain <= 0 || more > left {
					continue
				}
				if r := gain / float64(max(more, 1)); r > rate {
					item, to, rate = i, j, r
				}
			}
		}
		if item < 0 {
			return
		}
		left -= items[item][to].bytes - items[item][chosen[item]].bytes
		chosen[item] = to
	}
}
