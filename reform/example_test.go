package reform_test

import (
	"fmt"

	"github.com/lathe-llm/lathe/reform"
)

// The second input is always twice the first, so a larger weight of the first replaces it.
func ExampleSolve() {
	p := reform.Problem{
		Name: "layer 0 mlp", W: []float32{1, 10}, Out: 1, In: 2,
		Fit: reform.Moments{Gram: []float64{1, 2, 2, 4}, Tokens: 1000},
	}
	w, r, err := reform.Solve(p, []int{0}, reform.Options{Lambdas: []float64{0}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("weight %.0f, error %.2f before and %.2f after\n", w[0], r.ErrBefore, r.ErrAfter)
	// Output: weight 21, error 0.91 before and 0.00 after
}
