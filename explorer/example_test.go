package explorer_test

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
)

// A viewer gives commands and reads snapshots. Jobs run by themselves.
func Example() {
	ctx := context.Background()
	e, err := explorer.Open(ctx, explorer.Options{Model: "model.gguf", Backend: explorertest.New()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()
	ada := explorer.Actor{Name: "ada", Role: explorer.RoleEditor}

	started, err := e.Do(ctx, ada, explorer.Cut{Target: 0.8, Name: "first"})
	if err != nil {
		fmt.Println(err)
		return
	}
	s, err := e.Until(ctx, func(s *explorer.Snapshot) bool {
		job, _ := s.Job(started.Job)
		return job.State.Ended()
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, n := range s.Subnets {
		fmt.Printf("%s %s: %.2f of the block parameters\n", n.ID, n.Name, n.Size.Ratio)
	}

	edited, err := e.Do(ctx, ada, explorer.Edit{Mutations: []draft.Mutation{draft.DropAttention{Layers: []int{14}}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = e.Do(ctx, ada, explorer.Undo{Version: edited.Version - 1})
	fmt.Println(err)
	// Output:
	// s1 first: 0.80 of the block parameters
	// the draft changed since it was read: by ada (version 2, yours is 1)
}
