package quality

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/fake"
)

func model(t *testing.T, text string) infer.Model {
	t.Helper()
	e := fake.New(fake.Options{Text: text})
	t.Cleanup(func() { e.Close() })
	m, err := e.Load(t.Context(), infer.Defaults("toy.gguf"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func tokenize(t *testing.T, m infer.Model, text string) []int32 {
	t.Helper()
	ids, err := m.Tokenize(t.Context(), text, false)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s: %v, want %v ± %v", what, got, want, tolerance)
	}
}

// TestPerplexity sums up the same windows by hand.
func TestPerplexity(t *testing.T) {
	m := model(t, "")
	tokens := tokenize(t, m, fake.DefaultText+"Quite another text follows the one that was learned.")
	const n = 50
	byHand := func(from []int, windows ...[]int32) (ppl, err float64, scored int) {
		var x []float64
		for w, window := range windows {
			nll, err := m.Score(t.Context(), [][]int32{window}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range nll[0][from[w]-1:] {
				x = append(x, float64(v))
			}
		}
		sum, squares := 0.0, 0.0
		for _, v := range x {
			sum += v
		}
		mean := sum / float64(len(x))
		for _, v := range x {
			squares += (v - mean) * (v - mean)
		}
		return math.Exp(mean), math.Exp(mean) * math.Sqrt(squares/float64(len(x)-1)/float64(len(x))), len(x)
	}
	check := func(name string, o WindowOptions, from []int, want ...[]int32) {
		t.Helper()
		windows, err := Windows(tokens, o)
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range windows {
			if i >= len(want) || w.From != from[i] || !slices.Equal(w.Tokens, want[i]) {
				t.Fatalf("%s: window %d: %+v, want %v from %d", name, i, w, want, from)
			}
		}
		gates, last := 0, infer.Progress{}
		got, err := Perplexity(t.Context(), windows, ModelScorer(m), PerplexityOptions{
			Gate: func(context.Context) error { gates++; return nil },
			Progress: func(p infer.Progress) {
				if p.Done < last.Done || p.Done > p.Total {
					t.Errorf("%s: progress %+v after %+v", name, p, last)
				}
				last = p
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ppl, stderr, scored := byHand(from, want...)
		near(t, name, got.Perplexity, ppl, 1e-9*ppl)
		near(t, name+", error", got.Err, stderr, 1e-9*ppl)
		near(t, name+", mean", got.NLL, math.Log(ppl), 1e-9)
		if got.Tokens != scored || gates != len(want) || last.Done != last.Total || last.Total == 0 {
			t.Errorf("%s: %+v, want %d tokens; %d gates for %d windows, progress ends at %+v", name, got, scored, gates, len(want), last)
		}
	}
	bos := m.Info().BOS
	start := func(window []int32) []int32 { return append([]int32{bos}, window...) }
	check("two windows", WindowOptions{Length: n, Limit: 2}, []int{1, 1}, tokens[:n], tokens[n:2*n])
	check("from the end", WindowOptions{Length: n, Limit: 2, FromEnd: true}, []int{1, 1},
		tokens[len(tokens)-2*n:len(tokens)-n], tokens[len(tokens)-n:])
	check("start token", WindowOptions{Length: n, Limit: 2, BOS: true, Start: bos}, []int{1, 1}, start(tokens[:n-1]), start(tokens[n-1:2*n-2]))
	check("start token, from the end", WindowOptions{Length: n, Limit: 1, BOS: true, Start: bos, FromEnd: true}, []int{1},
		start(tokens[len(tokens)-n+1:]))
	check("stride", WindowOptions{Length: n, Stride: 20, Limit: 3}, []int{1, n - 20, n - 20},
		tokens[:n], tokens[20:20+n], tokens[40:40+n])
	// Start token, then 49 tokens of which the last 20 are new: positions 30 to 49.
	check("stride and start token", WindowOptions{Length: n, Stride: 20, Limit: 2, BOS: true, Start: bos}, []int{1, n - 20},
		start(tokens[:n-1]), start(tokens[20:20+n-1]))

	if all, err := Windows(tokens, WindowOptions{Length: n}); err != nil || len(all) != len(tokens)/n {
		t.Errorf("whole text: %d windows, %v", len(all), err)
	}
	for _, o := range []WindowOptions{{Length: 1}, {Length: len(tokens) + 1}, {Length: n, Stride: n + 1}, {Length: n, Stride: n, BOS: true}, {Length: n, Stride: -1}, {Length: n, Limit: -1}} {
		if _, err := Windows(tokens, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// TestPerplexityRefuses: what a scorer or gate returns that is not a likelihood ends the measurement.
func TestPerplexityRefuses(t *testing.T) {
	windows := []Window{{Tokens: make([]int32, 4), From: 1}, {Tokens: make([]int32, 4), From: 1}}
	broken := errors.New("broken")
	values := func(x ...float32) Scorer {
		return func(context.Context, Window, func(int)) ([]float32, error) { return x, nil }
	}
	for name, tt := range map[string]struct {
		windows []Window
		score   Scorer
		gate    func(context.Context) error
		want    error
	}{
		"no windows":       {nil, values(), nil, nil},
		"nothing to score": {[]Window{{Tokens: make([]int32, 1), From: 1}}, values(), nil, nil},
		"NaN":              {windows, values(1, float32(math.NaN()), 1), nil, nil},
		"infinite":         {windows, values(1, float32(math.Inf(1)), 1), nil, nil},
		"too few":          {windows, values(1, 1), nil, nil},
		"failure":          {windows, func(context.Context, Window, func(int)) ([]float32, error) { return nil, broken }, nil, broken},
		"gate":             {windows, values(1, 1, 1), func(context.Context) error { return broken }, broken},
	} {
		_, err := Perplexity(t.Context(), tt.windows, tt.score, PerplexityOptions{Gate: tt.gate})
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEvaluate asks a model of bytes questions whose answers were in its text, or not.
func TestEvaluate(t *testing.T) {
	m := model(t, "Question: what turns?\nAnswer: the lathe. Question: what cuts?\nAnswer: the blade. ")
	task := Task{Name: "toy", Norm: true, Items: []Item{
		item(0, "Question: what turns?\nAnswer:", "the lathe.", "Zq#"),
		item(1, "Question: what cuts?\nAnswer:", "zzzzzzzzzzzzz", "the blade."),
		item(1, "Question: what turns?\nAnswer:", "the lathe.", "xqxqxqxqxqxqx"), // the model gets this one wrong
	}}
	done := -1
	got, err := Evaluate(t.Context(), m, task, EvalOptions{Progress: func(p infer.Progress) {
		if p.Done != done+1 || p.Total != 3 {
			t.Errorf("progress %+v after %d", p, done)
		}
		done = p.Done
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Questions != 3 || done != 3 || got.Truncated != 0 || got.AccNorm == nil {
		t.Errorf("result %+v after %d", got, done)
	}
	near(t, "acc", got.Acc, 2.0/3, 1e-12)
	near(t, "its error", got.AccErr, math.Sqrt((2.0/3)*(1.0/3)*3/2/3), 1e-12)

	// One odd letter is likelier than a long answer with some, but not per character: only acc_norm prefers the latter.
	one := Task{Name: "toy", Norm: true, Items: []Item{item(1, "Question: what cuts?\nAnswer:", "q", "the blade!!")}}
	got, err = Evaluate(t.Context(), m, one, EvalOptions{Limit: 5})
	if err != nil || got.Acc != 0 || *got.AccNorm != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	one.Norm = false
	if got, err = Evaluate(t.Context(), m, one, EvalOptions{}); err != nil || got.AccNorm != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Evaluate(t.Context(), m, Task{Name: "none"}, EvalOptions{}); err == nil {
		t.Error("a task without questions was scored")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Evaluate(ctx, m, one, EvalOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestEncode(t *testing.T) {
	m := model(t, "")
	text := func(window []int32, from int) (string, string) {
		a, err1 := m.Detokenize(t.Context(), window[:from])
		b, err2 := m.Detokenize(t.Context(), window[from:])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return a, b
	}
	long := make([]byte, m.Info().Context)
	for i := range long {
		long[i] = byte('a' + i%26)
	}
	tests := []struct {
		name      string
		bos       bool
		c         Choice
		head      string
		rest      string
		truncated int
	}{
		{"plain", false, Choice{Context: "Answer:", Continuation: " yes"}, "Answer:", " yes", 0},
		{"space moves over", false, Choice{Context: "Answer: \n", Continuation: "yes"}, "Answer:", " \nyes", 0},
		{"start token", true, Choice{Context: "Answer:", Continuation: " yes"}, "<|start|>Answer:", " yes", 0},
		{"no context", false, Choice{Continuation: "yes"}, "<|start|>", "yes", 0},
		{"no continuation", false, Choice{Context: "yes"}, "ye", "s", 0},
		{"longer than the context", false, Choice{Context: string(long), Continuation: " yes"}, string(long[4:]), " yes", 1},
		{"continuation longer than the context", false, Choice{Context: "x", Continuation: string(long)}, string(long[:1]), string(long[1:]), 1},
	}
	for _, tt := range tests {
		e := evaluator{model: m, bos: tt.bos}
		window, from, err := e.encode(t.Context(), tt.c)
		if err != nil {
			t.Fatal(err)
		}
		if head, rest := text(window, from); head != tt.head || rest != tt.rest || e.truncated != tt.truncated {
			t.Errorf("%s: %q + %q, %d truncated; want %q + %q, %d", tt.name, head, rest, e.truncated, tt.head, tt.rest, tt.truncated)
		}
	}
}
