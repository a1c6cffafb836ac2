package explorertest

import (
	"context"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
)

// Owner is an actor who may do everything.
var Owner = explorer.Actor{Name: "ada", Role: explorer.RoleOwner}

// Open opens an exploration over the backend and closes it when the test ends. The workspace is in memory unless given.
func Open(t testing.TB, b *Backend, workspace string) *explorer.Exploration {
	t.Helper()
	e, err := explorer.Open(t.Context(), explorer.Options{
		Model: "models/SmolLM2-135M-Instruct.Q4_1.gguf", Workspace: workspace, Backend: b, Now: b.Clock.Now, Scratch: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// Do gives a command as Owner, waits until the job it started, if any, has ended well, and returns the receipt with the
// subnet the job made.
func Do(t testing.TB, e *explorer.Exploration, c explorer.Command) explorer.Receipt {
	t.Helper()
	receipt, err := e.Do(t.Context(), Owner, c)
	if err != nil {
		t.Fatalf("%T: %v", c, err)
	}
	if receipt.Job == "" {
		return receipt
	}
	job := Ended(t, e, receipt.Job)
	if job.State != explorer.Done {
		t.Fatalf("%T: job %s: %s: %s", c, job.Title, job.State, job.Err)
	}
	receipt.Subnet = job.Result
	return receipt
}

// Ended waits until a job has ended.
func Ended(t testing.TB, e *explorer.Exploration, id explorer.JobID) explorer.Job {
	t.Helper()
	var job explorer.Job
	Until(t, e, "job "+string(id)+" to end", func(s *explorer.Snapshot) bool {
		job, _ = s.Job(id)
		return job.State.Ended()
	})
	return job
}

// Quiet waits until no job runs and no chat is being answered or compared.
func Quiet(t testing.TB, e *explorer.Exploration) *explorer.Snapshot {
	t.Helper()
	return Until(t, e, "quiet", func(s *explorer.Snapshot) bool {
		for _, j := range s.Jobs {
			if !j.State.Ended() {
				return false
			}
		}
		for _, c := range s.Chats {
			if c.Busy || c.Comparing > 0 {
				return false
			}
		}
		return true
	})
}

// Until waits for a snapshot for which done holds, and fails the test if none comes within two minutes.
func Until(t testing.TB, e *explorer.Exploration, what string, done func(*explorer.Snapshot) bool) *explorer.Snapshot {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	s, err := e.Until(ctx, done)
	if err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
	return s
}

// Filled is an exploration in which statistics, a search of 240 candidates, five subnets of every origin, an edited draft
// with steps to undo and to redo, a chat with two columns, a benchmark and a message are there. Nothing runs in it. Its
// clock is b.Clock.
func Filled(t testing.TB, b *Backend) *explorer.Exploration {
	t.Helper()
	e := Open(t, b, "")
	Fill(t, e, b)
	return e
}

// Fill fills an exploration with what Filled describes.
func Fill(t testing.TB, e *explorer.Exploration, b *Backend) {
	t.Helper()
	tick := func() { b.Clock.Advance(41 * time.Second) }
	Do(t, e, explorer.GatherStatistics{})
	tick()
	Do(t, e, explorer.Measure{Subnet: explorer.DenseID, Seq: 2048, Windows: 4})
	cut := Do(t, e, explorer.Cut{Target: 0.8, Name: "first cut"}).Subnet
	tick()
	Do(t, e, explorer.Measure{Subnet: cut, Seq: 2048, Windows: 4})
	tick()
	found := Do(t, e, explorer.StartSearch{Target: search.Ratio(0.8), Seed: 1}).Subnet
	tick()
	Do(t, e, explorer.RenameSubnet{Subnet: found, Name: "evening search"})
	Do(t, e, explorer.Measure{Subnet: found, Seq: 2048, Windows: 4})
	Do(t, e, explorer.Checkout{Subnet: found})
	ffn := e.Snapshot().Model.Geometry.Layers[0].FFN
	for _, m := range []draft.Mutation{
		draft.KeepTop{Layers: []int{12}, Module: draft.MLP, Count: 1088},
		draft.SetHeads{Layer: 11, Set: subnet.Range(9, 0, 6)},
		draft.DropAttention{Layers: []int{14}},
		draft.SetChannels{Layer: 3, Set: subnet.Range(ffn, 0, ffn-64)},
	} {
		tick()
		Do(t, e, explorer.Edit{Mutations: []draft.Mutation{m}})
	}
	Do(t, e, explorer.Undo{})
	Do(t, e, explorer.Measure{Subnet: explorer.DraftID, Seq: 2048, Windows: 4})
	edited := Do(t, e, explorer.SaveDraft{Name: "without L14 attention"}).Subnet
	tick()
	Do(t, e, explorer.Refit{Subnet: edited})
	imported := Do(t, e, explorer.AddSubnet{Name: "from a friend", Masks: masksText(t, e, cut), Note: "mailed"}).Subnet
	Do(t, e, explorer.AnnotateSubnet{Subnet: imported, Note: "mailed on Monday"})
	chat := Do(t, e, explorer.OpenChat{Name: "first words", Subnets: []explorer.SubnetID{explorer.DenseID, cut},
		Sampling: &infer.Sampling{MaxTokens: 160, Seed: 1}}).Chat
	Do(t, e, explorer.Say{Chat: chat, Text: "What is a lathe?"})
	Quiet(t, e)
	tick()
	Do(t, e, explorer.Say{Chat: chat, Text: "And what does it leave?"})
	Quiet(t, e)
	tick()
	Do(t, e, explorer.StartBench{Settings: explorer.BenchSettings{Subnets: []explorer.SubnetID{explorer.DenseID, cut, found}, Depth: []int{0, 2048}}})
	tick()
}

func masksText(t testing.TB, e *explorer.Exploration, id explorer.SubnetID) string {
	t.Helper()
	n, ok := e.Snapshot().Subnet(id)
	if !ok {
		t.Fatalf("no subnet %s", id)
	}
	text, err := n.Masks.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
