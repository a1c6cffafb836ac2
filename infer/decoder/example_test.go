package decoder_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/subnet"
)

// Load a model, here a tiny one with random weights, and score a text with all of it and with half of each MLP.
func Example() {
	dir, err := os.MkdirTemp("", "lathe-example-*")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "tiny.gguf")
	if err := gguftest.Tiny("llama").Write(path); err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	f, err := gguf.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	device, err := decoder.OpenDevice("go") // "" opens the fastest device of the machine
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	model, err := decoder.Load(ctx, device, f)
	if err != nil {
		log.Fatal(err)
	}
	defer model.Close()

	text := [][]int32{{1, 5, 9, 2, 6, 5, 3, 5}} // token IDs, a window each
	masks := subnet.Dense(model.Geometry())
	for i, g := range model.Geometry().Layers {
		layer := masks.Layer(i)
		layer.Channels = subnet.Range(g.FFN, 0, g.FFN/2)
		masks = masks.With(i, layer)
	}
	for _, kept := range []gguf.Subnet{{Masks: subnet.Dense(model.Geometry())}, {Masks: masks}} {
		s, err := model.Subnet(ctx, kept)
		if err != nil {
			log.Fatal(err)
		}
		score, err := model.Score(ctx, s, text)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d parameters: %d tokens scored, perplexity %.1f\n", kept.Masks.Size().Params, score.Tokens, score.Perplexity())
		s.Close()
	}
	// Output:
	// 152000 parameters: 7 tokens scored, perplexity 769.2
	// 115136 parameters: 7 tokens scored, perplexity 397.4
}
