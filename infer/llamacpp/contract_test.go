//go:build cgo && !nocgo

package llamacpp

import (
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/gguf/gguftest"
	"github.com/lathe-llm/lathe/infer/infertest"
)

// TestContract runs on models with a vocabulary of SentencePiece's kind and one of byte pairs.
func TestContract(t *testing.T) {
	for _, family := range []string{"llama", "qwen2"} {
		t.Run(family, func(t *testing.T) {
			infertest.Run(t, infertest.Subject{
				Engine: func(t testing.TB) infer.Engine { return newEngine(t) },
				Model:  gguftest.Write(t, gguftest.Tiny(family)),
			})
		})
	}
}
