package reform

import (
	"math/rand/v2"
	"testing"

	"github.com/lathe-llm/lathe/reform/linalg"
)

func TestSolveNestedIsSolve(t *testing.T) {
	const in, out = 30, 5
	rng := rand.New(rand.NewPCG(8, 8))
	p := Problem{Name: "test", W: weights(rng, out*in), Out: out, In: in, Fit: newSample(rng, 200, in).moments()}
	order := rng.Perm(in)
	keep := []int{30, 20, 7, 1, 0}
	// Without a ridge its scale does not matter.
	for _, pull := range []bool{false, true} {
		got, lost, err := SolveNested(p, order, keep, 0, pull)
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
			near(t, "share lost", lost[i], r.ErrAfter, 1e-6)
		}
	}
	// The lost energy is the error of the weights, with a ridge too.
	whole := p.Fit
	whole.complete(p, linalg.Widen(p.W), false)
	for _, pull := range []bool{false, true} {
		got, lost, err := SolveNested(p, order, keep, 0.1, pull)
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range keep {
			want, err := newNormal(p, whole, order[:k], false).error(linalg.Widen(got[i]))
			if err != nil {
				t.Fatal(err)
			}
			near(t, "share lost", lost[i], want, 1e-6)
		}
	}
	if _, _, err := SolveNested(p, order[:3], keep, 0, false); err == nil {
		t.Error("an order of some columns: no error")
	}
}
