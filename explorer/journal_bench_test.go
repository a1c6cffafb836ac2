package explorer_test

import (
	"testing"

	"github.com/lathe-llm/lathe/explorer/draft"

	"github.com/lathe-llm/lathe/explorer"
	"github.com/lathe-llm/lathe/explorer/explorertest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// BenchmarkOpen opens a workspace of 100 subnets whose journal holds 1000 edits and as many undone ones.
func BenchmarkOpen(b *testing.B) {
	backend, dir := explorertest.New(), b.TempDir()
	e := explorertest.Open(b, backend, dir)
	text, err := subnet.Dense(explorertest.Geometry()).MarshalText()
	if err != nil {
		b.Fatal(err)
	}
	for range 100 {
		explorertest.Do(b, e, explorer.AddSubnet{Masks: string(text)})
	}
	for i := range 1000 {
		explorertest.Do(b, e, explorer.Edit{Mutations: []draft.Mutation{draft.SetChannels{Layer: i % 30, Set: subnet.Range(1536, 0, 32+i)}}})
	}
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		e, err := explorer.Open(b.Context(), explorer.Options{Model: "m.gguf", Workspace: dir, Backend: backend, ReadOnly: true})
		if err != nil {
			b.Fatal(err)
		}
		if err := e.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEdit is one edit with a workspace on the disk: the delay between a key and its effect.
func BenchmarkEdit(b *testing.B) {
	e := explorertest.Open(b, explorertest.New(), b.TempDir())
	for i := 0; b.Loop(); i++ {
		explorertest.Do(b, e, explorer.Edit{Mutations: []draft.Mutation{draft.SetChannels{Layer: i % 30, Set: subnet.Range(1536, 0, 32+i/30%1000)}}})
	}
}
