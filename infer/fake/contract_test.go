package fake_test

import (
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
	"github.com/lathe-llm/lathe/infer/infertest"
)

func TestContract(t *testing.T) {
	infertest.Run(t, infertest.Subject{
		Engine: func(testing.TB) infer.Engine { return fake.New(fake.Options{Files: []string{"toy.gguf"}}) },
		Model:  "toy.gguf",
	})
}
