package oneshot

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
)

// TestAllocateAgainstAllChoices compares choices with the best of all that fit: within a seventh of the range of losses, and never above the
// budget.
func TestAllocateAgainstAllChoices(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		items := make([][]option, 9)
		for i := range items {
			for range 2 + rng.IntN(3) {
				size := 1 + rng.Float64()
				items[i] = append(items[i], option{math.Exp(-2*size) * rng.Float64(), int64(1000 * size)})
			}
		}
		least, most := sizeOf(items, cheapest(items, math.Inf(1))), sizeOf(items, cheapest(items, 0))
		budget := least + int64(rng.Float64()*float64(most-least))
		got, err := allocate(items, budget)
		if err != nil {
			t.Fatal(err)
		}
		if size := sizeOf(items, got); size > budget {
			t.Fatalf("%d bytes, %d are allowed", size, budget)
		}
		best, worst := math.Inf(1), 0.0
		each(items, func(chosen []int) {
			if sizeOf(items, chosen) <= budget {
				best = min(best, lossOf(items, chosen))
			}
			worst = max(worst, lossOf(items, chosen))
		})
		if loss := lossOf(items, got); loss > best+0.15*(worst-best) {
			t.Errorf("loss %g, the best is %g, the worst %g", loss, best, worst)
		}
		if _, err := allocate(items, least-1); !errors.As(err, new(tooLargeError)) {
			t.Errorf("a budget below the smallest: %v", err)
		}
	}
}

// each calls f with every choice.
func each(items [][]option, f func([]int)) {
	chosen := make([]int, len(items))
	var at func(i int)
	at = func(i int) {
		if i == len(items) {
			f(chosen)
			return
		}
		for chosen[i] = range items[i] {
			at(i + 1)
		}
	}
	at(0)
}
