package fake

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/lathe-llm/lathe/infer"
)

func load(t *testing.T, o Options) infer.Model {
	t.Helper()
	m, err := New(o).Load(context.Background(), infer.Defaults("toy.gguf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestGenerate(t *testing.T) {
	ctx := context.Background()
	m := load(t, Options{})
	prompt, _ := m.Tokenize(ctx, "A model is a t", true)
	var b strings.Builder
	stats, err := m.Generate(ctx, prompt, infer.Sampling{Stop: []string{","}, LogProbs: true}, func(t infer.Token) error {
		b.WriteString(t.Text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != "ool" || stats.Stop != infer.StopString {
		t.Errorf("generated %q, stop %q; want the text learned up to the comma", b.String(), stats.Stop)
	}
	stats, _ = m.Generate(ctx, prompt, infer.Sampling{MaxTokens: 5}, nil)
	if stats.Tokens != 5 || stats.Stop != infer.StopLength || stats.ReusedTokens != len(prompt)-1 {
		t.Errorf("stats %+v", stats)
	}
}

func TestScore(t *testing.T) {
	ctx := context.Background()
	m := load(t, Options{})
	learned, _ := m.Tokenize(ctx, DefaultText[:60], true)
	foreign, _ := m.Tokenize(ctx, strings.Repeat("Zq7#", 15), true)
	nll, err := m.Score(ctx, [][]int32{learned, foreign}, nil)
	if err != nil {
		t.Fatal(err)
	}
	mean := func(x []float32) float64 {
		sum := 0.0
		for _, v := range x {
			sum += float64(v)
		}
		return sum / float64(len(x))
	}
	if len(nll[0]) != len(learned)-1 || mean(nll[0]) > 1 || mean(nll[1]) < 5 {
		t.Errorf("learned text %.2f nats, foreign %.2f", mean(nll[0]), mean(nll[1]))
	}
	positions, err := m.Distributions(ctx, [][]int32{foreign}, infer.DistributionOptions{Top: infer.MaxTop})
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, p := range positions[0][0].TopProbs {
		sum += math.Exp(float64(p))
	}
	if math.Abs(sum-1) > 1e-5 {
		t.Errorf("probabilities add up to %v", sum)
	}
}

func TestGateAndCancel(t *testing.T) {
	steps := make(chan string)
	m := load(t, Options{Gate: func(ctx context.Context, step string) error {
		if step == "load" {
			return nil
		}
		select {
		case steps <- step:
		case <-ctx.Done():
		}
		return ctx.Err()
	}})
	ctx, cancel := context.WithCancel(context.Background())
	prompt, _ := m.Tokenize(ctx, "A", true)
	done := make(chan error)
	tokens := 0
	go func() {
		_, err := m.Generate(ctx, prompt, infer.Sampling{}, func(infer.Token) error { tokens++; return nil })
		done <- err
	}()
	for _, want := range []string{"prompt", "token", "token"} {
		if got := <-steps; got != want {
			t.Fatalf("step %q, want %q", got, want)
		}
	}
	if s := m.Queue(); s.Running != "generate" {
		t.Errorf("queue %+v while generating", s)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || tokens == 0 || tokens > 2 {
		t.Errorf("cancelled after %d tokens with %v", tokens, err)
	}

	go func() {
		_, err := m.Generate(context.Background(), prompt, infer.Sampling{}, nil)
		done <- err
	}()
	<-steps
	m.Close()
	if err := <-done; !errors.Is(err, infer.ErrClosed) {
		t.Errorf("closed in mid-generation: %v", err)
	}
	if _, err := m.Tokenize(context.Background(), "x", false); !errors.Is(err, infer.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	m := load(t, Options{Fail: func(call string) error {
		if call == "score" {
			return broken
		}
		return nil
	}})
	if _, err := m.Score(context.Background(), [][]int32{{1, 2}}, nil); !errors.Is(err, broken) {
		t.Errorf("score: %v", err)
	}
	if _, err := m.Generate(context.Background(), []int32{1}, infer.Sampling{MaxTokens: 1}, nil); err != nil {
		t.Errorf("a call that does not fail: %v", err)
	}
	e := New(Options{Files: []string{"a.gguf"}})
	defer e.Close()
	if _, err := e.Load(context.Background(), infer.Defaults("fake_test.go"), nil); !errors.Is(err, infer.ErrBadModel) {
		t.Errorf("unknown file: %v", err)
	}
	if _, err := e.Load(context.Background(), infer.Defaults("a.gguf"), nil); err != nil {
		t.Errorf("known file: %v", err)
	}
}
