// Package infertest tests implementations of [infer.Engine] and [infer.Model] against the contract in their comments.
// Every engine runs it in a test of its own package:
//
//	func TestContract(t *testing.T) {
//		infertest.Run(t, infertest.Subject{
//			Engine: func(t testing.TB) infer.Engine { return fake.New(fake.Options{Files: []string{"toy.gguf"}}) },
//			Model:  "toy.gguf",
//		})
//	}
//
// The suite knows nothing of the model's text or vocabulary, so a small random model does. It never checks how long
// something takes.
package infertest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lathe-llm/lathe/infer"
)

// Subject is what Run tests.
type Subject struct {
	// Engine returns a new engine; Run closes it.
	Engine func(t testing.TB) infer.Engine

	// Model is the path of a file that the engine loads with a context of 256 tokens.
	Model string

	// Except holds the tests that do not apply to the engine, subtests of Run or cases of "load", with the reasons.
	Except map[string]string
}

// Run tests the engine and its models, in a subtest for each part of the contract.
func Run(t *testing.T, s Subject) {
	t.Run("engine", s.engine)
	t.Run("load", s.load)
	shared := &suite{Subject: s, ctx: t.Context()}
	shared.model = s.open(t)
	for _, test := range []struct {
		name string
		run  func(*suite, *testing.T)
	}{
		{"info", (*suite).info},
		{"tokens", (*suite).tokens},
		{"prompt", (*suite).prompt},
		{"generate", (*suite).generate},
		{"seeds", (*suite).seeds},
		{"log-probabilities", (*suite).logProbs},
		{"reuse", (*suite).reuse},
		{"stop", (*suite).stop},
		{"chat", (*suite).chat},
		{"interrupt", (*suite).interrupt},
		{"score", (*suite).score},
		{"distributions", (*suite).distributions},
		{"bench", (*suite).bench},
		{"memory", (*suite).memory},
		{"threads", (*suite).threads},
		{"refused", (*suite).refused},
		{"cancelled", (*suite).cancelled},
		{"queue", (*suite).queue},
		{"concurrent", (*suite).concurrent},
	} {
		t.Run(test.name, func(t *testing.T) {
			if why := s.Except[test.name]; why != "" {
				t.Skip(why)
			}
			test.run(shared, t)
		})
	}
	t.Run("close", s.closing)
}

// contextSize is the context that models are loaded with.
const contextSize = 256

// tolerance is how far log-probabilities of the same token may differ between two ways to compute them, in nats: batches
// of other sizes and 16-bit caches round differently.
const tolerance = 0.02

// suite is one loaded model, which its tests share.
type suite struct {
	Subject
	ctx   context.Context
	model infer.Model
}

func (s Subject) options() infer.LoadOptions {
	o := infer.Defaults(s.Model)
	o.Context, o.Batch, o.Threads = contextSize, 32, 1
	return o
}

// open loads the model in an engine that is closed with the test.
func (s Subject) open(t *testing.T) infer.Model {
	t.Helper()
	e := s.Engine(t)
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	m, err := e.Load(t.Context(), s.options(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// expect fails the test unless err is one line that wraps want.
func expect(t *testing.T, what string, err, want error) {
	t.Helper()
	switch {
	case !errors.Is(err, want):
		t.Errorf("%s: error %v, want %v", what, err, want)
	case err != nil && strings.Contains(err.Error(), "\n"):
		t.Errorf("%s: error of several lines: %q", what, err)
	}
}

// eventually waits for a condition that nothing reports.
func eventually(t *testing.T, what string, is func() bool) bool {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for !is() {
		select {
		case <-deadline:
			t.Errorf("still waiting for %s", what)
			return false
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

// output is what one generation emitted.
type output struct {
	ids   []int32
	text  string
	all   []infer.Token
	stats infer.GenStats
}

// run generates and fails the test on an error. Without a limit on the number of tokens it sets one.
func (s *suite) run(t *testing.T, prompt []int32, o infer.Sampling) output {
	t.Helper()
	var out output
	var err error
	out.stats, err = s.model.Generate(s.ctx, prompt, o, func(token infer.Token) error {
		out.all = append(out.all, token)
		out.ids = append(out.ids, token.ID)
		out.text += token.Text
		return nil
	})
	if err != nil {
		t.Fatalf("generate: %v", err)
	}
	return out
}

// openEnded returns a prompt that the model continues greedily for at least n tokens.
func (s *suite) openEnded(t *testing.T, n int) []int32 {
	t.Helper()
	for _, text := range []string{"A model is", "The lathe turns", "Hello", "1 2 3", "x"} {
		prompt := s.tokenize(t, text, true)
		if out := s.run(t, prompt, infer.Sampling{MaxTokens: n}); out.stats.Stop == infer.StopLength {
			return prompt
		}
	}
	t.Fatalf("the model ends every answer before %d tokens", n)
	return nil
}

func (s *suite) tokenize(t *testing.T, text string, special bool) []int32 {
	t.Helper()
	ids, err := s.model.Tokenize(s.ctx, text, special)
	if err != nil {
		t.Fatalf("tokenize %q: %v", text, err)
	}
	return ids
}

// window returns n tokens, all of the vocabulary.
func (s *suite) window(n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32((i*i*7 + 3) % s.model.Info().Vocab)
	}
	return out
}
