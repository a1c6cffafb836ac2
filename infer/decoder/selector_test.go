package decoder

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSelector(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 10, 100, 1000} {
		s := newSelector(n)
		for range 200 {
			row := make([]float32, n)
			for i := range row {
				row[i] = float32(r.IntN(n)) // with equals
			}
			k := r.IntN(n + 1)
			want := make([]int32, n)
			for i := range want {
				want[i] = int32(i)
			}
			slices.SortStableFunc(want, func(a, b int32) int { return int(row[b] - row[a]) })
			want = want[:k]
			slices.Sort(want)
			if got := s.largest(row, k); !slices.Equal(got, want) {
				t.Fatalf("largest %d of %v: %v, want %v", k, row, got, want)
			}
		}
	}
}
