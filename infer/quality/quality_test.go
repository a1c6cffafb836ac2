package quality

import (
	"context"
	"errors"
	"math"
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
	byHand := func(from func(w int) int, windows ...[]int32) (ppl, err float64, scored int) {
		var x []float64
		for w, window := range windows {
			nll, err := m.Score(t.Context(), [][]int32{window}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range nll[0][from(w)-1:] {
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
	check := func(name string, o PerplexityOptions, from func(int) int, windows ...[]int32) {
		t.Helper()
		got, err := Perplexity(t.Context(), m, tokens, o)
		if err != nil {
			t.Fatal(err)
		}
		ppl, stderr, scored := byHand(from, windows...)
		near(t, name, got.Perplexity, ppl, 1e-9*ppl)
		near(t, name+", error", got.Err, stderr, 1e-9*ppl)
		if got.Tokens != scored || got.Windows != len(windows) || len(got.ByWindow) != len(windows) {
			t.Errorf("%s: %+v, want %d tokens of %d windows", name, got, scored, len(windows))
		}
	}
	one := func(int) int { return 1 }
	check("two windows", PerplexityOptions{Length: n, Windows: 2}, one, tokens[:n], tokens[n:2*n])
	bos := m.Info().BOS
	check("start token", PerplexityOptions{Length: n, Windows: 1, BOS: true}, one, append([]int32{bos}, tokens[:n]...))
	overlap := func(w int) int {
		if w == 0 {
			return 1
		}
		return n - 20
	}
	check("stride", PerplexityOptions{Length: n, Stride: 20, Windows: 3}, overlap, tokens[:n], tokens[20:20+n], tokens[40:40+n])
	// Start token, then 50 tokens of which the last 20 are new: positions 31 to 50.
	check("stride and start token", PerplexityOptions{Length: n, Stride: 20, Windows: 2, BOS: true}, func(w int) int { return max(1, 31*w) },
		append([]int32{bos}, tokens[:n]...), append([]int32{bos}, tokens[20:20+n]...))

	all, err := Perplexity(t.Context(), m, tokens, PerplexityOptions{Length: n})
	if err != nil || all.Windows != len(tokens)/n || all.Stride != n {
		t.Errorf("whole text: %+v, %v", all, err)
	}
	for _, o := range []PerplexityOptions{{Length: 1}, {Length: len(tokens) + 1}, {Length: n, Stride: n + 1}, {Length: n, Stride: -1}} {
		if _, err := Perplexity(t.Context(), m, tokens, o); err == nil {
			t.Errorf("%+v was measured", o)
		}
	}
}

// TestCompare has two models of 259 tokens, all of which the reference may keep: then KL is exact.
func TestCompare(t *testing.T) {
	a, b := model(t, ""), model(t, "Another text makes another model of the same kind. The lathe is not in it, or hardly.")
	windows := [][]int32{tokenize(t, a, fake.DefaultText[:80]), tokenize(t, a, "The blade and the model.")}
	ref, err := NewReference(t.Context(), a, windows, infer.MaxTop, nil)
	if err != nil {
		t.Fatal(err)
	}
	same, err := ref.Compare(t.Context(), a, nil)
	if err != nil || same.KL > 1e-6 || same.Agreement != 1 || same.AgreementErr != 0 || same.Perplexity != same.ReferencePerplexity {
		t.Errorf("with itself: %+v, %v", same, err)
	}
	got, err := ref.Compare(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]int32, a.Info().Vocab)
	for i := range all {
		all[i] = int32(i)
	}
	kl, agree, n := 0.0, 0.0, 0
	for _, w := range windows {
		at := make([][]int32, len(w)-1)
		for i := range at {
			at[i] = all
		}
		p, err1 := a.Distributions(t.Context(), [][]int32{w}, infer.DistributionOptions{At: [][][]int32{at}, Top: 1})
		q, err2 := b.Distributions(t.Context(), [][]int32{w}, infer.DistributionOptions{At: [][][]int32{at}, Top: 1})
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		for i := range p[0] {
			for id := range all {
				lp, lq := float64(p[0][i].At[id]), float64(q[0][i].At[id])
				kl += math.Exp(lp) * (lp - lq)
			}
			if p[0][i].Top[0] == q[0][i].Top[0] {
				agree++
			}
			n++
		}
	}
	near(t, "KL", got.KL, kl/float64(n), 1e-5)
	near(t, "agreement", got.Agreement, agree/float64(n), 1e-12)
	if got.Tokens != n || !(got.KLErr > 0) || !(got.Perplexity > got.ReferencePerplexity) {
		t.Errorf("comparison %+v", got)
	}
	few, err := NewReference(t.Context(), a, windows, 4, nil)
	if err != nil {
		t.Fatal(err)
	}
	rough, err := few.Compare(t.Context(), b, nil)
	if err != nil || rough.KL > got.KL+1e-6 || rough.KL < got.KL/2 {
		t.Errorf("KL over the 4 most likely tokens and the rest %v, over all %v; %v", rough.KL, got.KL, err)
	}
}

func TestDivergence(t *testing.T) {
	logs := func(p ...float64) []float32 {
		out := make([]float32, len(p))
		for i := range p {
			out[i] = float32(math.Log(p[i]))
		}
		return out
	}
	near(t, "two tokens and a rest", divergence(logs(0.5, 0.3), logs(0.25, 0.25)), 0.5*math.Log(2)+0.3*math.Log(1.2)+0.2*math.Log(0.4), 1e-6)
	near(t, "equal", divergence(logs(0.5, 0.3), logs(0.5, 0.3)), 0, 1e-7)
	near(t, "nothing kept", divergence(nil, nil), 0, 0)
	if d := divergence(logs(0.5), logs(1)); math.IsInf(d, 0) || d < 1 {
		t.Errorf("a rest without probability: %v", d)
	}
}

// TestEvaluate asks a model of bytes questions whose answers it has learned, or not.
func TestEvaluate(t *testing.T) {
	m := model(t, "Question: what turns?\nAnswer: the lathe. Question: what cuts?\nAnswer: the blade. ")
	task := Task{Name: "toy", Norm: true, Items: []Item{
		item(0, "Question: what turns?\nAnswer:", "the lathe.", "Zq#"),
		item(1, "Question: what cuts?\nAnswer:", "zzzzzzzzzzzzz", "the blade."),
		item(1, "Question: what turns?\nAnswer:", "the lathe.", "xqxqxqxqxqxqx"), // the model does not know better
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

	// One odd letter is likelier than a long answer with some, but not for each character: only acc_norm prefers the latter.
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

func TestProbes(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Probes() {
		if p.Name == "" || p.Text == "" || p.Look == "" || seen[p.Name] {
			t.Errorf("probe %+v", p)
		}
		seen[p.Name] = true
	}
}
