package fake_test

import (
	"context"
	"fmt"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

// Code that takes an infer.Engine runs on the fake as it does on a real one.
func Example() {
	ctx := context.Background()
	engine := fake.New(fake.Options{})
	defer engine.Close()
	model, err := engine.Load(ctx, infer.Defaults("toy.gguf"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	prompt, err := model.Tokenize(ctx, "A model is", true)
	if err != nil {
		fmt.Println(err)
		return
	}
	stats, err := model.Generate(ctx, prompt, infer.Sampling{MaxTokens: 12}, func(t infer.Token) error {
		fmt.Print(t.Text)
		return nil
	})
	fmt.Println(" …", stats.Stop, err)
	// Output: a tool, and … length <nil>
}
