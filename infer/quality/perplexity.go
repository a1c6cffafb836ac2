package quality

import (
	"context"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/infer"
)

// DefaultLength is the window of most published perplexities on WikiText-2.
const DefaultLength = 2048

// PerplexityOptions says how a text is cut into windows. The zero value is what papers on pruning and quantisation do:
// consecutive windows of 2048 tokens, the first token of each not scored, a rest too short for a window left out.
type PerplexityOptions struct {
	Length  int // tokens of a window; 0 means DefaultLength
	Stride  int // tokens from one window to the next; 0 means Length. Only tokens that no window before scored count
	Windows int // the first so many windows only; 0 means all

	// BOS puts the model's start token before each window. It is not scored; the window's first token then is.
	BOS bool

	Progress func(infer.Progress)
}

// PerplexityResult is a perplexity with all that is needed to compare it with another.
type PerplexityResult struct {
	Perplexity float64   `json:"perplexity"`
	Err        float64   `json:"standard_error"` // as llama-perplexity gives it: the perplexity times that of the mean NLL
	NLL        float64   `json:"nll"`            // mean over the scored tokens, nats
	Tokens     int       `json:"tokens"`         // scored
	Length     int       `json:"sequence_length"`
	Stride     int       `json:"stride"`
	Windows    int       `json:"windows"`
	BOS        bool      `json:"bos"`
	ByWindow   []float64 `json:"perplexity_by_window"`
}

// Perplexity measures a tokenized text. The model's context must hold a window (and the start token where asked for).
func Perplexity(ctx context.Context, m infer.Model, tokens []int32, o PerplexityOptions) (PerplexityResult, error) {
	if o.Length == 0 {
		o.Length = DefaultLength
	}
	if o.Stride == 0 {
		o.Stride = o.Length
	}
	if o.Length < 2 || o.Stride < 1 || o.Stride > o.Length {
		return PerplexityResult{}, fmt.Errorf("quality: windows of %d tokens every %d", o.Length, o.Stride)
	}
	if len(tokens) < o.Length {
		return PerplexityResult{}, fmt.Errorf("quality: a text of %d tokens has no window of %d", len(tokens), o.Length)
	}
	r := PerplexityResult{Length: o.Length, Stride: o.Stride, BOS: o.BOS}
	bos := 0
	if o.BOS {
		bos = 1
	}
	var windows [][]int32
	var from []int
	for at := 0; at+o.Length <= len(tokens) && (o.Windows == 0 || len(windows) < o.Windows); at += o.Stride {
		window := tokens[at : at+o.Length]
		if o.BOS {
			window = append([]int32{m.Info().BOS}, window...)
		}
		first := 1
		if at > 0 && o.Stride < o.Length {
			first = bos + o.Length - o.Stride
		}
		windows, from = append(windows, window), append(from, first)
	}
	scored, err := m.Distributions(ctx, windows, infer.DistributionOptions{From: from, Progress: o.Progress})
	if err != nil {
		return r, fmt.Errorf("quality: perplexity: %w", err)
	}
	var all mean
	for _, window := range scored {
		var one mean
		for _, p := range window {
			one.add(float64(p.NLL))
			all.add(float64(p.NLL))
		}
		r.ByWindow = append(r.ByWindow, math.Exp(one.mean()))
	}
	r.Windows, r.Tokens, r.NLL = len(windows), all.n, all.mean()
	r.Perplexity = math.Exp(r.NLL)
	r.Err = r.Perplexity * all.err()
	return r, nil
}

// mean accumulates numbers for their mean and its standard error (Welford).
type mean struct {
	n           int
	at, squares float64
}

func (m *mean) add(x float64) {
	m.n++
	d := x - m.at
	m.at += d / float64(m.n)
	m.squares += d * (x - m.at)
}

func (m *mean) mean() float64 { return m.at }

// err is the standard error of the mean; 0 with fewer than two numbers.
func (m *mean) err() float64 {
	if m.n < 2 {
		return 0
	}
	return math.Sqrt(m.squares / float64(m.n-1) / float64(m.n))
}
