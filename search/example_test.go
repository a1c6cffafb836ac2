package search_test

import (
	"context"
	"fmt"
	"log"

	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/searchtest"
)

// A job searches an artificial landscape of losses for the best subnet with 70 % of the parameters.
func Example() {
	landscape := searchtest.New(searchtest.Options{Seed: 1, Noise: 0.02, Error: 0.5})
	job, err := search.NewJob(search.Options{
		Strategy:  search.DefaultLadder(),
		Problem:   landscape.Problem(search.Ratio(0.7), 1),
		Evaluator: landscape,
		Budget:    search.Budget{Generations: 12},
	})
	if err != nil {
		log.Fatal(err)
	}
	result, err := job.Run(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	first := result.State.History[0]
	fmt.Printf("ratio %.1f\n", result.Best.Ratio)
	fmt.Println("better than every one-shot:", result.Best.Score.Fitness < first.Best)
	fmt.Println(result.Reason)
	// Output:
	// ratio 0.7
	// better than every one-shot: true
	// the budget of 12 generations is spent
}
