package decoder

import (
	"context"
	"fmt"
	"sync"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// ScorerOptions are what a scorer measures and how much memory it may use.
type ScorerOptions struct {
	// TopK is how many of the dense model's likeliest tokens the divergence distinguishes, all others being merged into one;
	// 512 lose little. 0 measures no divergence.
	TopK int

	// Vocab is how many vocabulary entries logits are computed for; 0 is the whole vocabulary. Two thirds of them are the tokens
	// of the window and the likeliest in the dense model, the others a weighted sample of the rest (an importance-sampled
	// softmax): with a quarter of the vocabulary, log-likelihoods are off by some thousandths of a nat. The same window has the
	// same sample in every scorer. Windows that have nearly as many different tokens are scored on the whole vocabulary.
	Vocab int

	// Memory is how many bytes of hidden states are kept for subnets that begin alike, 1 GiB where 0.
	Memory int64
}

// Text is what a subnet is scored on: windows of the scorer by index, and of each the first Length tokens, all where Length is 0.
type Text struct {
	Windows []int
	Length  int
}

// Scored is the result of [Scorer.Score].
type Scored struct {
	Score
	KL             float64   // divergence from the dense model, the sum over the tokens scored, in nats
	Segments       []Segment // consecutive segments of the text, of at most segmentTokens tokens each
	TokensComputed int       // tokens of the text
	LayersRun      int       // layers computed, over all windows
	LayersReused   int       // layers whose result was cached
}

// segmentTokens is how many tokens a segment of text has: few enough that a text has several, many enough that segments differ
// about as random ones do.
const segmentTokens = 512

// Segment is the score of a segment of the text.
type Segment struct {
	NLL, KL float64 // sums over the tokens scored, in nats; KL is 0 where it was not measured
	Tokens  int
}

// Scorer scores many subnets on the same windows. It reuses common prefixes: the state of a window after the first layers of a
// subnet is cached once a second subnet with the same first layers is scored. The score of a subnet on a text is the same to the
// last bit, whatever is cached. Windows of one length are computed in batches of as many as Model.AtOnce.
//
// Calls are serialised.
type Scorer struct {
	m       *Model
	windows [][]int32
	o       ScorerOptions

	mu     sync.Mutex
	dense  map[int]*distribution // by window
	texts  map[windowKey]*targets
	states *prefixCache
	closed bool
}

// windowKey is the first tokens of a window.
type windowKey struct{ window, length int }

// textKey is the first tokens of windows that are computed at once, as text.
type textKey struct {
	windows string
	length  int
}

// targets is what the LM head needs of a text, on the device.
type targets struct {
	next             *tensors.Tensor // [tokens]
	tokens, logProbs *tensors.Tensor // [tokens, k], nil without divergence
	sample, offsets  *tensors.Tensor // [entries], nil for the whole vocabulary
}

// NewScorer returns a scorer of windows, which are not copied. The caller must Close it before the model.
func (m *Model) NewScorer(windows [][]int32, o ScorerOptions) (*Scorer, error) {
	for i, w := range windows {
		if len(w) < 2 {
			return nil, fmt.Errorf("window %d: %w", i, errShort)
		}
	}
	if o.TopK < 0 || o.TopK >= m.config.Vocab {
		return nil, fmt.Errorf("decoder: TopK is %d for a vocabulary of %d", o.TopK, m.config.Vocab)
	}
	if o.Vocab < 0 {
		return nil, fmt.Errorf("decoder: a sampled vocabulary of %d", o.Vocab)
	}
	if o.Memory == 0 {
		o.Memory = 1 << 30
	}
	return &Scorer{
		m: m, windows: windows, o: o,
		dense: make(map[int]*distribution), texts: make(map[windowKey]*targets), states: newPrefixCache(o.Memory),
	}, nil
}

// Close frees what the scorer cached.
func (sc *Scorer) Close() {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.closed = true
	for _, t := range sc.texts {
		t.free()
	}
	sc.texts, sc.dense = nil, nil
	sc.states.clear()
}

// Score scores a subnet. The first time a text is scored with divergence the dense model runs on it too, which
// TokensComputed and LayersRun do not count.
func (sc *Scorer) Score(ctx context.Context, s *Subnet, text Text) (Scored, error) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	if sc.closed {
		return Scored{}, ErrClosed
	}
	if err := sc.m.check(s); err != nil {
		return Scored{}, err
	}
	var out Scored
	lengths := make([]int, len(text.Windows))
	for i, w := range text.Windows {
		if w < 0 || w >= len(sc.windows) {
			return Scored{}, fmt.Errorf("decoder: window %d of %d", w, len(sc.windows))
		}
		lengths[i] = len(sc.windows[w])
		if text.Length > 0 {
			lengths[i] = min(text.Length, lengths[i])
		}
	}
	for _, b := range sc.m.batches(lengths) {
		if err := sc.batch(ctx, s, b, text.Windows[b.first:b.first+b.windows], lengths[b.first], &out); err != nil {
			return Scored{}, err
		}
	}
	return out, nil
}

// batch adds the scores of the first tokens of some windows, which are a batch of a text's.
func (sc *Scorer) batch(ctx context.Context, s *Subnet, b batch, windows []int, length int, out *Scored) error {
	named := func(w int, err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("window %d: %w", w, err)
	}
	for _, w := range windows {
		if _, err := sc.targets(ctx, windowKey{w, length}); err != nil {
			return named(w, err)
		}
	}
	x, err := sc.last(ctx, s, windows, length, out)
	if err != nil {
		return named(windows[0], err)
	}
	defer free(x)
	return b.each(ctx, sc.m.dev, x, func(i int, x *tensors.Tensor) error {
		w := windows[i-b.first]
		return named(w, sc.window(ctx, x, windowKey{w, length}, out))
	})
}

// window adds the score of the first tokens of one window, given the state after the last layer.
func (sc *Scorer) window(ctx context.Context, x *tensors.Tensor, key windowKey, out *Scored) error {
	t, err := sc.targets(ctx, key)
	if err != nil {
		return err
	}
	nll, kl, err := sc.head(ctx, x, t)
	if err != nil {
		return err
	}
	n := key.length - 1
	out.add(nll[:n])
	for from := 0; from < n; from += segmentTokens {
		p := Segment{Tokens: min(segmentTokens, n-from)}
		for i := from; i < from+p.Tokens; i++ {
			p.NLL += float64(nll[i])
			if i < len(kl) {
				p.KL += float64(kl[i])
			}
		}
		out.KL += p.KL
		out.Segments = append(out.Segments, p)
	}
	out.TokensComputed += key.length
	return nil
}

// last returns the states of the first tokens of some windows after all layers, which the caller owns.
func (sc *Scorer) last(ctx context.Context, s *Subnet, windows []int, length int, out *Scored) (*tensors.Tensor, error) {
	chain := newChain(textKey{fmt.Sprint(windows), length}, s)
	layers, count := len(sc.m.layers), len(windows)
	from, x := sc.states.longest(chain, layers-1)
	own := x == nil // whether x is to be freed
	if x == nil {
		texts := make([][]int32, count)
		for i, w := range windows {
			texts[i] = sc.windows[w][:length]
		}
		var err error
		if x, err = sc.m.embed(ctx, texts...); err != nil {
			return nil, err
		}
	}
	out.LayersReused += from * count
	for i := from; i < layers; i++ {
		y, err := sc.m.passLayer(ctx, s, i, x, count)
		if err != nil {
			if own {
				free(x)
			}
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
		out.LayersRun += count
		if y == x {
			continue
		}
		if own {
			free(x)
		}
		// No other subnet can use the states after the last layer.
		own = i == layers-1 || !sc.states.offer(chain, i+1, y)
		x = y
	}
	if own {
		return x, nil
	}
	return sc.m.dev.run1(ctx, "copy", identity, x)
}

// head returns the negative log-likelihoods and divergences of all tokens of a text.
func (sc *Scorer) head(ctx context.Context, x *tensors.Tensor, t *targets) (nll, kl []float32, err error) {
	args := []*tensors.Tensor{t.next}
	some, diverges := t.sample != nil, t.tokens != nil
	if some {
		args = append(args, t.sample, t.offsets)
	}
	if diverges {
		args = append(args, t.tokens, t.logProbs)
	}
	outs, err := sc.m.onHead(ctx, fmt.Sprintf("score %t %t", some, diverges), func(head lmHead, in []*graph.Node) []*graph.Node {
		xn, v, next, rest := head.norm(in[0], in[1]), fullVocab(in[2]), in[3], in[4:]
		if some {
			v, rest = partialVocab(in[2], rest[0], rest[1]), rest[2:]
		}
		if !diverges {
			return []*graph.Node{head.negLogLikelihood(xn, v, next)}
		}
		nll, kl := head.divergence(xn, v, next, rest[0], rest[1])
		return []*graph.Node{nll, kl}
	}, x, args...)
	if err != nil {
		return nil, nil, err
	}
	defer free(outs...)
	if nll, err = sc.m.dev.fetch(outs[0]); err == nil && len(outs) > 1 {
		kl, err = sc.m.dev.fetch(outs[1])
	}
	return nll, kl, err
}

// targets returns what the LM head needs of a text, made at the first use.
func (sc *Scorer) targets(ctx context.Context, key windowKey) (*targets, error) {
	if t := sc.texts[key]; t != nil {
		return t, nil
	}
	t := &targets{}
	var err error
	if t.next, err = sc.m.targets(sc.windows[key.window][:key.length]); err != nil {
		return nil, err
	}
	if sc.o.TopK > 0 || sc.o.Vocab > 0 {
		d, err := sc.distribution(ctx, key)
		if err == nil {
			err = sc.upload(t, d, key.length)
		}
		if err != nil {
			t.free()
			return nil, err
		}
	}
	sc.texts[key] = t
	return t, nil
}

// distribution returns the dense model's distribution of a text or more of the window, computed at the first use. With a sampled
// vocabulary it covers the whole window, so that the sample does not depend on which text is scored first.
func (sc *Scorer) distribution(ctx context.Context, key windowKey) (*distribution, error) {
	d, window := sc.dense[key.window], sc.windows[key.window]
	if sc.o.Vocab == 0 {
		window = window[:key.length]
	}
	if d != nil && len(d.tokens) >= len(window)*sc.o.TopK {
		return d, nil
	}
	d, err := sc.m.distribution(ctx, window, sc.o.TopK, sc.o.Vocab)
	if err == nil {
		sc.dense[key.window] = d
	}
	return d, err
}

// upload puts on the device what the LM head needs of the first tokens of a window.
func (sc *Scorer) upload(t *targets, d *distribution, length int) (err error) {
	dev, k := sc.m.dev, sc.o.TopK
	if k > 0 {
		if t.tokens, err = dev.uploadInts(d.tokens[:length*k], length, k); err != nil {
			return err
		}
		if t.logProbs, err = dev.upload(d.logProbs[:length*k], length, k); err != nil {
			return err
		}
	}
	if w := d.sample; w != nil {
		if t.sample, err = dev.uploadInts(w.ids, len(w.ids)); err == nil {
			t.offsets, err = dev.upload(w.offsets, len(w.offsets))
		}
	}
	return err
}

func (t *targets) free() { free(t.next, t.tokens, t.logProbs, t.sample, t.offsets) }
