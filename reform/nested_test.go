package reform

import (
	"math/rand/v2"
	"testing"
)

func TestSolveNestedIsSolve(t *testing.T) {
	const in, out = 30, 5
	rng := rand.New(rand.NewPCG(8, 8))
	p := Problem{Name: "test", W: weights(rng, out*in), Out: out, In: in, Fit: newSample(rng, 200, in).target()}
	order := rng.Perm(in)
	keep := []int{30, 20, 7, 1, 0}
	// Without a ridge its scale does not matter.
	for _, pull := range []bool{false, true} {
		got, results, err := SolveNested(p, order, keep, 0, pull)
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range keep {
			want, r, err := Solve(p, order[:k], Options{Lambdas: []float64{0}, Pull: pull})
			if err != nil {
				t.Fatal(err)
			}
			for j := range want {
				near(t, "weight", float64(got[i][j]), float64(want[j]), 1e-4)
			}
			near(t, "error before", results[i].ErrBefore, r.ErrBefore, 1e-9)
			near(t, "error after", results[i].ErrAfter, r.ErrAfter, 1e-6)
		}
	}
	if _, _, err := SolveNested(p, order[:3], keep, 0, false); err == nil {
		t.Error("an order of some columns: no error")
	}
}
