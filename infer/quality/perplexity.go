package quality

import (
	"context"
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/infer"
)

// DefaultLength is the window of most published perplexities on WikiText-2.
const DefaultLength = 2048

// Where start tokens (BOS) are put.
const (
	BOSAuto  = "auto"  // in front of every text or window if the tokenizer puts one in front of texts
	BOSEvery = "every" // in front of every text or window
	BOSFirst = "first" // in front of a text, and so of its first window only
	// BOSAutoFirst is BOSFirst if the tokenizer puts one in front of texts, else BOSNone: as most papers measure.
	BOSAutoFirst = "auto-first"
	BOSNone      = "none"
)

// A Window is a stretch of tokens of which those from From on are scored, each given all that precede it in the window.
type Window struct {
	Tokens []int32
	From   int // index of the first scored token, at least 1: the first token has no context
}

// WindowOptions describe how a tokenized text is cut into windows. The zero value is the protocol of most papers on
// pruning and quantisation: consecutive windows of 2048 tokens, the first token of each not scored, a remainder shorter
// than a window dropped.
type WindowOptions struct {
	Length  int  // tokens in a window, with a start token; 0 means DefaultLength
	Stride  int  // tokens from one window to the next; 0 means all of a window. Tokens that an earlier window scored are context only
	Limit   int  // maximum number of windows; 0 means all
	FromEnd bool // take the last whole windows of the text instead of the first

	// BOS puts Start in front of each window, as models are trained whose tokenizer does so. It is not scored; the first token
	// after it is.
	BOS   bool
	Start int32
}

// Windows cuts a tokenized text. It fails where the text is shorter than one window.
func Windows(tokens []int32, o WindowOptions) ([]Window, error) {
	if o.Length == 0 {
		o.Length = DefaultLength
	}
	length := o.Length // of the text in a window
	if o.BOS {
		length--
	}
	if o.Stride == 0 {
		o.Stride = length
	}
	if o.Length < 2 || o.Stride < 1 || o.Stride > length || o.Limit < 0 {
		return nil, fmt.Errorf("quality: %d windows of %d tokens, %d apart", o.Limit, o.Length, o.Stride)
	}
	if len(tokens) < length {
		return nil, fmt.Errorf("quality: the text has %d tokens, fewer than a window of %d", len(tokens), o.Length)
	}
	count := (len(tokens)-length)/o.Stride + 1
	if o.Limit > 0 {
		count = min(count, o.Limit)
	}
	if o.FromEnd {
		tokens = tokens[len(tokens)-length-(count-1)*o.Stride:]
	}
	windows := make([]Window, count)
	for i := range windows {
		at := i * o.Stride
		w := Window{Tokens: tokens[at : at+length : at+length], From: 1}
		if i > 0 && o.Stride < length {
			w.From = length - o.Stride
		}
		if o.BOS {
			w.Tokens = append([]int32{o.Start}, w.Tokens...)
			if i > 0 && o.Stride < length {
				w.From++
			}
		}
		windows[i] = w
	}
	return windows, nil
}

// A Scorer computes the negative log-likelihood in nats of the scored tokens of a window, len(w.Tokens)-w.From values. It
// calls progress, which is never nil, with the number of tokens of the window done so far.
type Scorer func(ctx context.Context, w Window, progress func(done int)) ([]float32, error)

// ModelScorer scores with a loaded model, whose context must hold the windows.
func ModelScorer(m infer.Model) Scorer {
	return func(ctx context.Context, w Window, progress func(int)) ([]float32, error) {
		positions, err := m.Distributions(ctx, [][]int32{w.Tokens}, infer.DistributionOptions{
			From: []int{w.From}, Progress: func(p infer.Progress) { progress(p.Done) },
		})
		if err != nil {
			return nil, err
		}
		nll := make([]float32, len(positions[0]))
		for i, p := range positions[0] {
			nll[i] = p.NLL
		}
		return nll, nil
	}
}

// PerplexityOptions follow a measurement. The zero value follows nothing.
type PerplexityOptions struct {
	// Gate, if set, is called before each window and may block to pause the measurement; its error ends it.
	Gate func(ctx context.Context) error

	// Progress, if set, receives tokens done out of all tokens of all windows.
	Progress func(infer.Progress)
}

// PerplexityResult is a perplexity over the scored tokens of some windows.
type PerplexityResult struct {
	Perplexity float64 // exp(NLL)
	Err        float64 // standard error of Perplexity to first order: Perplexity times the standard error of the mean NLL
	NLL        float64 // mean over the scored tokens, nats
	Tokens     int     // scored
}

// Perplexity scores windows one at a time, so that no more than one window's values are held. A likelihood that is NaN or
// infinite is an error.
func Perplexity(ctx context.Context, windows []Window, score Scorer, o PerplexityOptions) (PerplexityResult, error) {
	var all mean
	done, total := 0, 0
	for _, w := range windows {
		total += len(w.Tokens)
	}
	report := func(n int) {
		if o.Progress != nil {
			o.Progress(infer.Progress{Done: done + n, Total: total})
		}
	}
	for i, w := range windows {
		if o.Gate != nil {
			if err := o.Gate(ctx); err != nil {
				return PerplexityResult{}, err
			}
		}
		report(0)
		nll, err := score(ctx, w, report)
		if err != nil {
			return PerplexityResult{}, fmt.Errorf("window %d: %w", i, err)
		}
		if len(nll) != len(w.Tokens)-w.From {
			return PerplexityResult{}, fmt.Errorf("quality: window %d: %d likelihoods for %d tokens", i, len(nll), len(w.Tokens)-w.From)
		}
		for at, v := range nll {
			if v-v != 0 {
				return PerplexityResult{}, fmt.Errorf("quality: window %d: the log-likelihood of token %d is %v: %w", i, w.From+at, -v, infer.ErrNotFinite)
			}
			all.add(float64(v))
		}
		done += len(w.Tokens)
	}
	report(0)
	if all.n == 0 {
		return PerplexityResult{}, fmt.Errorf("quality: %d windows have no token to score", len(windows))
	}
	return all.perplexity(), nil
}

// mean accumulates numbers for their mean and its standard error (Welford 1962).
type mean struct {
	n            int
	sum          float64
	running      float64 // mean so far
	deviationSum float64 // of squared deviations from it
}

func (m *mean) add(x float64) {
	m.n++
	m.sum += x
	d := x - m.running
	m.running += d / float64(m.n)
	m.deviationSum += d * (x - m.running)
}

// perplexity returns the perplexity of negative log-likelihoods.
func (m *mean) perplexity() PerplexityResult {
	ppl := math.Exp(m.mean())
	return PerplexityResult{NLL: m.mean(), Tokens: m.n, Perplexity: ppl, Err: ppl * m.err()}
}

func (m *mean) mean() float64 { return m.sum / float64(m.n) }

// err returns the standard error of the mean; 0 with fewer than two numbers.
func (m *mean) err() float64 {
	if m.n < 2 {
		return 0
	}
	return math.Sqrt(m.deviationSum / float64(m.n-1) / float64(m.n))
}
