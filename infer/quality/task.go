package quality

import (
	"context"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/lathe-llm/lathe/infer"
)

// Task is a set of multiple-choice questions.
type Task struct {
	Name  string
	Items []Item
	// Norm reports whether the harness also reports accuracy by likelihood per character (acc_norm).
	Norm bool
}

// Item is one question: which of the choices is correct?
type Item struct {
	Choices []Choice
	Gold    int // index of the correct one
}

// Choice is a text whose likelihood given a context is measured.
type Choice struct {
	Context      string
	Continuation string
	Length       int // divisor of acc_norm: characters of the answer, without the space before it
}

// Check reports a task that cannot be evaluated: one without questions, or a question without choices or without a correct one.
func (t Task) Check() error {
	if len(t.Items) == 0 {
		return fmt.Errorf("task %.40q has no questions", t.Name)
	}
	for i, item := range t.Items {
		if item.Gold < 0 || item.Gold >= len(item.Choices) {
			return fmt.Errorf("question %d of task %.40q: choice %d of %d is correct", i+1, t.Name, item.Gold, len(item.Choices))
		}
	}
	return nil
}

// EvalOptions select the questions of a task and how they are asked.
type EvalOptions struct {
	Limit int // maximum number of questions, from the start; 0 means all

	// BOS is BOSAuto, also for "", which is what the harness does, BOSEvery or BOSNone: whether each text begins with the model's
	// start token.
	BOS string

	// Progress receives questions done out of all questions.
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
	Truncated  int      `json:"truncated,omitempty"` // texts whose beginning was cut off, being longer than the context
	BOS        bool     `json:"bos"`                 // texts begin with the start token
}

// Evaluate scores a task: an answer is correct if the right choice has the highest log-likelihood (acc), or the highest
// log-likelihood per character (acc_norm). Of equal choices the first counts.
func Evaluate(ctx context.Context, m infer.Model, t Task, o EvalOptions) (EvalResult, error) {
	items := t.Items
	if o.Limit > 0 && o.Limit < len(items) {
		items = items[:o.Limit]
	}
	r := EvalResult{Task: t.Name}
	switch info := m.Info(); o.BOS {
	case "", BOSAuto:
		r.BOS = info.AddBOS
	case BOSEvery:
		if r.BOS = true; info.BOS < 0 {
			return r, fmt.Errorf("quality: the model has no start token: %w", infer.ErrInvalid)
		}
	case BOSNone:
	default:
		return r, fmt.Errorf("quality: start tokens %q: not %s, %s or %s: %w", o.BOS, BOSAuto, BOSEvery, BOSNone, infer.ErrInvalid)
	}
	if len(items) == 0 {
		return r, fmt.Errorf("quality: %s: no questions", t.Name)
	}
	e := evaluator{model: m, bos: r.BOS}
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

// score returns 1 if the first of the largest is the right one, else 0.
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

// likelihoods returns the log-likelihoods of the choices of one question.
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
		for at, p := range window {
			out[i] -= float64(p.NLL)
			if math.IsNaN(out[i]) || math.IsInf(out[i], 0) {
				return nil, fmt.Errorf("choice %d: the log-likelihood of token %d of the text is %v: %w", i+1, from[i]+at, -p.NLL, infer.ErrNotFinite)
			}
		}
	}
	return out, nil
}

// encode tokenizes a choice as the harness does: white space at the end of the context belongs to the continuation, both are
// tokenized as one text, and the continuation starts after as many tokens as the context alone has. The beginning of a text
// that is longer than the model's context is cut off.
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

// simple returns an item whose choices follow one context after a space.
func simple(context string, answers []string, gold int) Item {
	item := Item{Gold: gold}
	for _, a := range answers {
		item.Choices = append(item.Choices, Choice{Context: context, Continuation: " " + a, Length: utf8.RuneCountInString(a)})
	}
	return item
}
