package quality

import (
	"context"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
)

// Task is a set of multiple-choice questions.
type Task struct {
	Name  string
	Items []Item
	// Norm says that the harness also reports accuracy by likelihood for each character (acc_norm).
	Norm bool
}

// Item is one question: which of the choices is right.
type Item struct {
	Choices []Choice
	Gold    int // index of the right one
}

// Choice is a text whose likelihood is measured, after what comes before it.
type Choice struct {
	Context      string
	Continuation string
	Length       int // characters that acc_norm divides by: those of the answer, without the space before it
}

// EvalOptions says how much of a task to do.
type EvalOptions struct {
	Limit int // the first so many questions; 0 means all

	// BOS puts the model's start token before each text. The harness does not, but for models that demand it.
	BOS bool

	// Progress counts questions.
	Progress func(infer.Progress)
}

// EvalResult is the score of one task.
type EvalResult struct {
	Task      string  `json:"task"`
	Questions int     `json:"questions"`
	Acc       float64 `json:"acc"`
	AccErr    float64 `json:"acc_stderr"`
	// AccNorm and its error are nil for tasks that do not report it.
	AccNorm    *float64 `json:"acc_norm,omitempty"`
	AccNormErr *float64 `json:"acc_norm_stderr,omitempty"`
	Truncated  int      `json:"truncated,omitempty"` // texts that lost their beginning, being longer than the context
	BOS        bool     `json:"bos"`
}

// Evaluate scores a task: a question counts when the right choice has the highest log-likelihood (acc), or the highest for
// each of its characters (acc_norm). Of equals the first is taken.
func Evaluate(ctx context.Context, m infer.Model, t Task, o EvalOptions) (EvalResult, error) {
	items := t.Items
	if o.Limit > 0 && o.Limit < len(items) {
		items = items[:o.Limit]
	}
	r := EvalResult{Task: t.Name, BOS: o.BOS}
	if len(items) == 0 {
		return r, fmt.Errorf("quality: %s: no questions", t.Name)
	}
	e := evaluator{model: m, bos: o.BOS}
	var acc, norm mean
	for i, item := range items {
		if o.Progress != nil {
			o.Progress(infer.Progress{Done: i, Total: len(items)})
		}
		likelihoods, err := e.likelihoods(ctx, item)
		if err != nil {
			return r, fmt.Errorf("quality: %s: question %d: %w", t.Name, i+1, err)
		}
		acc.add(score(likelihoods, item.Gold))
		for c := range likelihoods {
			likelihoods[c] /= float64(max(1, item.Choices[c].Length))
		}
		norm.add(score(likelihoods, item.Gold))
	}
	if o.Progress != nil {
		o.Progress(infer.Progress{Done: len(items), Total: len(items)})
	}
	r.Questions, r.Acc, r.AccErr, r.Truncated = acc.n, acc.mean(), acc.err(), e.truncated
	if t.Norm {
		value, stderr := norm.mean(), norm.err()
		r.AccNorm, r.AccNormErr = &value, &stderr
	}
	return r, nil
}

// score is 1 when the first of the largest is the right one.
func score(x []float64, gold int) float64 {
	best := 0
	for i := range x {
		if x[i] > x[best] {
			best = i
		}
	}
	if best == gold {
		return 1
	}
	return 0
}

type evaluator struct {
	model     infer.Model
	bos       bool
	truncated int
}

// likelihoods are the log-likelihoods of the choices of one question.
func (e *evaluator) likelihoods(ctx context.Context, item Item) ([]float64, error) {
	windows, from := make([][]int32, len(item.Choices)), make([]int, len(item.Choices))
	for i, c := range item.Choices {
		var err error
		if windows[i], from[i], err = e.encode(ctx, c); err != nil {
			return nil, err
		}
	}
	positions, err := e.model.Distributions(ctx, windows, infer.DistributionOptions{From: from})
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(windows))
	for i, window := range positions {
		for _, p := range window {
			out[i] -= float64(p.NLL)
		}
	}
	return out, nil
}

// encode tokenizes a choice as the harness does: white space at the end of the context goes to the continuation, both are
// tokenized as one text, and the continuation is what comes after as many tokens as the context alone has. A text longer
// than the model's context loses its beginning.
func (e *evaluator) encode(ctx context.Context, c Choice) (window []int32, from int, err error) {
	before := strings.TrimRightFunc(c.Context, unicode.IsSpace)
	whole, err := e.model.Tokenize(ctx, c.Context+c.Continuation, false)
	if err != nil {
		return nil, 0, err
	}
	head, err := e.model.Tokenize(ctx, before, false)
	if err != nil {
		return nil, 0, err
	}
	info := e.model.Info()
	switch {
	case e.bos || (len(head) == 0 && info.BOS >= 0):
		whole, head = append([]int32{info.BOS}, whole...), append([]int32{info.BOS}, head...)
	case len(head) == 0:
		whole, head = append([]int32{info.EOS}, whole...), append([]int32{info.EOS}, head...)
	}
	if len(whole) < 2 {
		return nil, 0, fmt.Errorf("a choice without text")
	}
	from = min(len(head), len(whole)-1)
	if over := len(whole) - info.Context; over > 0 {
		whole = whole[over:]
		from = max(1, from-over)
		e.truncated++
	}
	return whole, from, nil
}

// simple makes an item whose choices follow one context after a space.
func simple(context string, answers []string, gold int) Item {
	item := Item{Gold: gold}
	for _, a := range answers {
		item.Choices = append(item.Choices, Choice{Context: context, Continuation: " " + a, Length: utf8.RuneCountInString(a)})
	}
	return item
}
