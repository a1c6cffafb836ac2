package quality

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/lathe-llm/lathe/infer"
	"github.com/lathe-llm/lathe/infer/internal/sample"
)

// comparedTop is how many of the reference's most likely tokens are compared one by one at each position.
const comparedTop = 256

// Ask is what a [Predictor] fills in besides the likelihood of the window's tokens.
type Ask struct {
	Top int       // number of the most likely tokens
	At  [][]int32 // tokens whose log-probabilities are asked for, of each scored position; nil for none
}

// A Predictor computes the distribution at each scored position of a window, len(w.Tokens)-w.From of them. It calls progress,
// which is never nil, with the number of tokens of the window done so far.
type Predictor func(ctx context.Context, w Window, ask Ask, progress func(done int)) ([]infer.Position, error)

// ModelPredictor predicts with a loaded model, whose context must hold the windows.
func ModelPredictor(m infer.Model) Predictor {
	return func(ctx context.Context, w Window, ask Ask, progress func(int)) ([]infer.Position, error) {
		o := infer.DistributionOptions{From: []int{w.From}, Top: ask.Top, Progress: func(p infer.Progress) { progress(p.Done) }}
		if ask.At != nil {
			o.At = [][][]int32{ask.At}
		}
		positions, err := m.Distributions(ctx, [][]int32{w.Tokens}, o)
		if err != nil {
			return nil, err
		}
		return positions[0], nil
	}
}

// A LogitSource passes the logits of a window to visit, in order and in parts of whole positions: those of part are of the
// positions from first on, each over the whole vocabulary.
type LogitSource func(ctx context.Context, window []int32, visit func(first int, part []float32) error) error

// LogitPredictor predicts with logits over a vocabulary.
func LogitPredictor(vocab int, logits LogitSource) Predictor {
	return func(ctx context.Context, w Window, ask Ask, progress func(int)) ([]infer.Position, error) {
		out := make([]infer.Position, len(w.Tokens)-w.From)
		err := logits(ctx, w.Tokens, func(first int, part []float32) error {
			n := len(part) / vocab
			bad := make([]error, n)
			var wg sync.WaitGroup
			workers := min(runtime.GOMAXPROCS(0), n)
			for k := range workers {
				wg.Go(func() {
					for j := k; j < n; j += workers {
						if i := first + j + 1 - w.From; i >= 0 && i < len(out) { // the logits of a position predict the next token
							out[i], bad[j] = positionOf(part[j*vocab:(j+1)*vocab], w.Tokens[first+j+1], i, ask)
						}
					}
				})
			}
			wg.Wait()
			for j, err := range bad {
				if err != nil {
					return fmt.Errorf("after token %d: %w", first+j, err)
				}
			}
			progress(min(first+n, len(w.Tokens)))
			return nil
		})
		return out, err
	}
}

// positionOf describes the distribution of logits at the i-th scored position.
func positionOf(logits []float32, token int32, i int, ask Ask) (infer.Position, error) {
	if err := sample.Check(logits); err != nil {
		return infer.Position{}, err
	}
	sum := sample.LogSumExp(logits)
	p := infer.Position{NLL: float32(sum - float64(logits[token])), Greedy: sample.Argmax(logits) == token}
	if ask.Top > 0 {
		p.Top, p.TopProbs = sample.Top(logits, min(ask.Top, len(logits)), sum)
	}
	if ask.At != nil {
		p.At = make([]float32, len(ask.At[i]))
		for j, id := range ask.At[i] {
			p.At[j] = float32(float64(logits[id]) - sum)
		}
	}
	return p, nil
}

// Comparison is the distance of a model from a reference, over the scored tokens of some windows.
type Comparison struct {
	Model, Reference PerplexityResult

	// KL is the mean divergence D(reference ‖ model), in nats per token, over the reference's 256 most likely tokens and all
	// others together. It is never above that over the whole vocabulary, and close to it.
	KL, KLErr float64
	MaxKL     float64 // of a position

	// Agreement is the share of positions where both find the same token most likely.
	Agreement, AgreementErr float64

	// Relative is the model's perplexity over the reference's; its error is that of the mean difference at the same tokens, which is
	// much smaller than those of the perplexities.
	Relative, RelativeErr float64

	// MaxDifference is the largest absolute difference of a log-probability, of the reference's 256 most likely tokens at all positions.
	MaxDifference float64
}

// Compare measures a model against a reference of the same vocabulary, window by window.
func Compare(ctx context.Context, windows []Window, reference, model Predictor, o PerplexityOptions) (Comparison, error) {
	var c comparing
	total := 0
	for _, w := range windows {
		total += 2 * len(w.Tokens)
	}
	done := 0
	report := func(n int) {
		if o.Progress != nil {
			o.Progress(infer.Progress{Done: done + n, Total: total})
		}
	}
	for i, w := range windows {
		if o.Gate != nil {
			if err := o.Gate(ctx); err != nil {
				return Comparison{}, err
			}
		}
		report(0)
		want, err := predict(ctx, w, reference, Ask{Top: comparedTop}, report)
		if err != nil {
			return Comparison{}, fmt.Errorf("window %d: reference: %w", i, err)
		}
		done += len(w.Tokens)
		at := make([][]int32, len(want))
		for j, p := range want {
			at[j] = p.Top
		}
		got, err := predict(ctx, w, model, Ask{Top: 1, At: at}, report)
		if err != nil {
			return Comparison{}, fmt.Errorf("window %d: %w", i, err)
		}
		done += len(w.Tokens)
		for j := range want {
			c.add(want[j], got[j])
		}
	}
	report(0)
	if c.kl.n == 0 {
		return Comparison{}, fmt.Errorf("quality: %d windows have no token to score", len(windows))
	}
	return c.result(), nil
}

// predict calls a predictor and checks that its answer is complete and finite.
func predict(ctx context.Context, w Window, p Predictor, ask Ask, progress func(int)) ([]infer.Position, error) {
	got, err := p(ctx, w, ask, progress)
	if err != nil {
		return nil, err
	}
	if len(got) != len(w.Tokens)-w.From {
		return nil, fmt.Errorf("quality: %d positions for %d tokens", len(got), len(w.Tokens)-w.From)
	}
	for i, q := range got {
		switch {
		case q.NLL-q.NLL != 0:
			return nil, fmt.Errorf("quality: the log-likelihood of token %d is %v: %w", w.From+i, -q.NLL, infer.ErrNotFinite)
		case len(q.Top) == 0, len(q.Top) != len(q.TopProbs), len(ask.At) > 0 && len(q.At) != len(ask.At[i]):
			return nil, fmt.Errorf("quality: token %d: an incomplete distribution", w.From+i)
		}
	}
	return got, nil
}

// comparing accumulates the positions of a comparison.
type comparing struct {
	kl, same, model, reference, rise mean
	maxKL, maxDifference             float64
}

func (c *comparing) add(want, got infer.Position) {
	d := divergence(want.TopProbs, got.At)
	c.kl.add(d)
	c.maxKL = max(c.maxKL, d)
	agree := 0.0
	if want.Top[0] == got.Top[0] {
		agree = 1
	}
	c.same.add(agree)
	c.model.add(float64(got.NLL))
	c.reference.add(float64(want.NLL))
	c.rise.add(float64(got.NLL) - float64(want.NLL))
	for i, p := range want.TopProbs {
		c.maxDifference = max(c.maxDifference, math.Abs(float64(p)-float64(got.At[i])))
	}
}

func (c *comparing) result() Comparison {
	r := Comparison{
		Model: c.model.perplexity(), Reference: c.reference.perplexity(), KL: c.kl.mean(), KLErr: c.kl.err(), MaxKL: c.maxKL,
		Agreement: c.same.mean(), AgreementErr: c.same.err(), Relative: math.Exp(c.rise.mean()), MaxDifference: c.maxDifference,
	}
	r.RelativeErr = r.Relative * c.rise.err()
	return r
}

// divergence returns D(p ‖ q) in nats over the given tokens, whose natural log-probabilities p and q hold, and one event more: any
// other token.
func divergence(p, q []float32) float64 {
	const least = 1e-12 // a smaller rest is rounding
	sum, restP, restQ := 0.0, 1.0, 1.0
	for i := range p {
		lp, lq := float64(p[i]), float64(q[i])
		prob := math.Exp(lp)
		restP -= prob
		restQ -= math.Exp(lq)
		if prob > 0 {
			sum += prob * (lp - lq)
		}
	}
	if restP > least {
		sum += restP * (math.Log(restP) - math.Log(max(restQ, least)))
	}
	return max(sum, 0)
}
