package infer_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

// nllOf works with any engine. It loads a file and returns the mean negative log-likelihood of a text under it.
func nllOf(ctx context.Context, engine infer.Engine, path, text string) (nats float64, err error) {
	model, err := engine.Load(ctx, infer.Defaults(path), nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	tokens, err := model.Tokenize(ctx, text, true)
	if err != nil {
		return 0, err
	}
	nll, err := model.Score(ctx, [][]int32{tokens}, nil)
	if err != nil {
		return 0, err
	}
	for _, v := range nll[0] {
		nats += float64(v)
	}
	return nats / float64(len(nll[0])), nil
}

func ExampleModel_Score() {
	engine := fake.New(fake.Options{})
	defer engine.Close()
	for _, text := range []string{"a smaller tool that does the same work", "zxq jkv wpf"} {
		nll, err := nllOf(context.Background(), engine, "toy.gguf", text)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%.1f nats per token: %s\n", nll, text)
	}
	// Output:
	// 0.2 nats per token: a smaller tool that does the same work
	// 5.7 nats per token: zxq jkv wpf
}

// Callers distinguish errors by the sentinels of the package.
func ExampleModel_Generate_errors() {
	ctx := context.Background()
	engine := fake.New(fake.Options{})
	model, err := engine.Load(ctx, infer.Defaults("toy.gguf"), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = model.Generate(ctx, make([]int32, model.Info().Context), infer.Sampling{}, nil)
	fmt.Println(errors.Is(err, infer.ErrContextFull))
	engine.Close()
	_, err = model.Generate(ctx, []int32{1}, infer.Sampling{}, nil)
	fmt.Println(errors.Is(err, infer.ErrClosed))
	// Output:
	// true
	// true
}

func ExampleBenchOptions_Tests() {
	tests, err := infer.BenchOptions{Prompt: []int{512}, Gen: []int{128}, Depth: 1024}.Tests(4096)
	fmt.Println(tests, err)
	// Output: [pp512@d1024 tg128@d1024] <nil>
}
