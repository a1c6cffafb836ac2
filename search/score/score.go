// Package score evaluates the candidates of a search with the graphs of package
// decoder: choices of levels with their re-fitted weights, or masks with the
// original weights.
//
// An [Evaluator] keeps the subnets that it scored last on the device. It builds a
// candidate from the one that differs in the fewest layers and shares the others.
package score

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/levels"
	"github.com/lathe-llm/lathe/search/space"
)

// ErrText is returned when the text is too short to score on.
var ErrText = errors.New("score: too little text")

// kept is how many subnets stay on the device.
const kept = 3

// Fitness names what is minimised.
type Fitness string

// The fitnesses, per token in nats.
const (
	// KL is the divergence of the next token's distribution from the dense
	// model's, over the 512 tokens most likely there.
	KL Fitness = "kl"
	// Perplexity is the negative log-likelihood, the logarithm of it.
	Perplexity Fitness = "perplexity"
)

// topK is how many of the dense model's most likely tokens represent its
// distribution.
const topK = 512

// Evaluator scores candidates on text. It implements [search.Evaluator]; its
// methods may be called from any goroutine and wait for each other.
type Evaluator struct {
	m       *decoder.Model
	store   *levels.Store
	windows [][]int32
	fitness Fitness
	rounded *roundedCache // of typed levels; guarded by mu

	mu     sync.Mutex
	scorer *decoder.Scorer
	recent []recent // the latest first
	// Layers computed, and layers whose result was cached.
	run, reused int
}

type recent struct {
	search.Candidate // its choice and base
	sub              *decoder.Subnet
}

// New returns an evaluator on windows of one length; the fitness "" is [KL]. The
// store may be nil where no choices of levels are scored. The caller must Close
// the evaluator, before the store and the model.
func New(m *decoder.Model, store *levels.Store, windows [][]int32, fitness Fitness) (*Evaluator, error) {
	if len(windows) == 0 || len(windows[0]) < 2 {
		return nil, ErrText
	}
	for _, w := range windows {
		if len(w) != len(windows[0]) {
			return nil, fmt.Errorf("%w: windows of %d and of %d tokens", ErrText, len(windows[0]), len(w))
		}
	}
	so := decoder.ScorerOptions{Vocab: decoder.SampledVocab(m.Geometry())}
	switch fitness {
	case "", KL:
		fitness = KL
		so.TopK = min(topK, m.Geometry().Vocab-1)
	case Perplexity:
	default:
		return nil, fmt.Errorf("%w: fitness %q: there are kl and perplexity", search.ErrConfig, fitness)
	}
	scorer, err := m.NewScorer(windows, so)
	if err != nil {
		return nil, err
	}
	return &Evaluator{m: m, store: store, windows: windows, fitness: fitness, scorer: scorer, rounded: newRoundedCache()}, nil
}

// Close releases the subnets on the device.
func (e *Evaluator) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.recent {
		r.sub.Close()
	}
	e.recent = nil
	e.scorer.Close()
}

// Fitness returns what is minimised.
func (e *Evaluator) Fitness() Fitness { return e.fitness }

// Tokens returns how many tokens of text there are.
func (e *Evaluator) Tokens() int { return len(e.windows) * len(e.windows[0]) }

// Reused returns the share of layers that were not computed, because an earlier
// candidate has the same layers up to there.
func (e *Evaluator) Reused() float64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return float64(e.reused) / float64(max(1, e.reused+e.run))
}

// Evaluate implements [search.Evaluator]. It scores the candidates in the order of
// their choices, so that those with a common prefix follow one another.
func (e *Evaluator) Evaluate(ctx context.Context, batch []search.Candidate, t search.Tier, done func(int, search.Score)) error {
	order := make([]int, len(batch))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return slices.Compare(batch[a].Choice, batch[b].Choice) })
	text := e.text(t)
	for _, i := range order {
		s, err := e.one(ctx, batch[i], text)
		if err != nil {
			return err
		}
		done(i, s)
	}
	return nil
}

// text returns the windows of a tier: whole ones starting with the one that the
// draw selects, or the beginning of that one.
func (e *Evaluator) text(t search.Tier) decoder.Text {
	n, seq := len(e.windows), len(e.windows[0])
	at := int(t.Draw % uint64(n))
	if t.Tokens < seq {
		return decoder.Text{Windows: []int{at}, Length: max(2, t.Tokens)}
	}
	var text decoder.Text
	for i := range min(t.Tokens/seq, n) {
		text.Windows = append(text.Windows, (at+i)%n)
	}
	return text
}

func (e *Evaluator) one(ctx context.Context, c search.Candidate, text decoder.Text) (search.Score, error) {
	if err := ctx.Err(); err != nil {
		return search.Score{}, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	sub, release, err := e.subnet(ctx, c)
	if err != nil {
		return search.Score{}, err
	}
	defer release()
	s, err := e.score(ctx, sub, text)
	if err == nil && e.store != nil && e.store.Levels().Typed() && c.Choice != nil {
		s = s.Plus(e.store.Levels().Level(c.Choice, len(c.Choice)-1).Loss)
	}
	return s, err
}

// Subnet scores a subnet of any weights on all of the text.
func (e *Evaluator) Subnet(ctx context.Context, s gguf.Subnet) (search.Score, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sub, err := e.m.Subnet(ctx, s)
	if err != nil {
		return search.Score{}, err
	}
	defer sub.Close()
	return e.score(ctx, sub, e.text(search.Tier{Tokens: e.Tokens()}))
}

// score is called with mu held.
func (e *Evaluator) score(ctx context.Context, sub *decoder.Subnet, text decoder.Text) (search.Score, error) {
	got, err := e.scorer.Score(ctx, sub, text)
	if err != nil {
		return search.Score{}, err
	}
	e.run, e.reused = e.run+got.LayersRun, e.reused+got.LayersReused
	tokens := float64(got.Tokens)
	s := search.Score{NLL: got.NLL / tokens, KL: got.KL / tokens, Tokens: int64(got.TokensComputed)}
	if s.Fitness = s.NLL; e.fitness == KL {
		s.Fitness = s.KL
	}
	for _, p := range got.Segments {
		sum := p.NLL
		if e.fitness == KL {
			sum = p.KL
		}
		s.Parts = append(s.Parts, sum/float64(p.Tokens))
	}
	return s, nil
}

// subnet returns a candidate on the device and a function that releases it.
func (e *Evaluator) subnet(ctx context.Context, c search.Candidate) (*decoder.Subnet, func(), error) {
	if c.Choice == nil {
		whole := gguf.Subnet{Masks: c.Masks}
		if c.Base != nil && e.store != nil {
			var err error
			if whole.Refit, err = e.store.Refit(nil, c.Base); err != nil {
				return nil, nil, err
			}
		}
		sub, err := e.m.Subnet(ctx, whole)
		if err != nil {
			return nil, nil, err
		}
		return sub, sub.Close, nil
	}
	if e.store == nil {
		return nil, nil, errors.New("score: a choice of levels without a store of levels")
	}
	sub, err := e.assemble(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	e.recent = slices.Insert(e.recent, 0, recent{c, sub})
	for len(e.recent) > kept {
		e.recent[len(e.recent)-1].sub.Close()
		e.recent = e.recent[:len(e.recent)-1]
	}
	return sub, func() {}, nil
}

// assemble makes the subnet of a choice from the nearest one on the device.
func (e *Evaluator) assemble(ctx context.Context, c search.Candidate) (*decoder.Subnet, error) {
	dense := recent{search.Candidate{Choice: e.store.Levels().Dense()}, nil}
	nearest := dense
	for _, r := range e.recent {
		if differing(r.Candidate, c) < differing(nearest.Candidate, c) {
			nearest = r
		}
	}
	// A copy, so that closing one does not close the other.
	sub := e.m.Dense()
	if nearest.sub != nil {
		for i := range c.Masks.Layers() {
			for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
				next, err := sub.WithModule(i, module, nearest.sub)
				sub.Close()
				if err != nil {
					return nil, err
				}
				sub = next
			}
		}
	}
	for _, i := range changes(nearest.Candidate, c) {
		var refit gguf.Refit
		for module := range subnet.Modules {
			slot := subnet.Modules*i + module
			if err := e.store.RefitOver(&refit, slot, c.Choice[slot], c.Base); err != nil {
				sub.Close()
				return nil, err
			}
		}
		if e.store.Levels().Typed() {
			if err := e.roundLayer(i, c, &refit); err != nil {
				sub.Close()
				return nil, err
			}
		}
		next, err := sub.WithLayer(ctx, i, c.Masks.Layer(i), refit)
		sub.Close()
		if err != nil {
			return nil, err
		}
		sub = next
	}
	return sub, nil
}

// changes lists the layers in which a candidate differs from another, those that it
// keeps first, so that no intermediate subnet drops all layers.
func changes(from, c search.Candidate) []int {
	var kept, dropped []int
	for i := range c.Masks.Layers() {
		switch {
		case layerEqual(from, c, i):
		case c.Masks.Layer(i).IsDropped():
			dropped = append(dropped, i)
		default:
			kept = append(kept, i)
		}
	}
	return append(kept, dropped...)
}

// differing counts the layers in which two candidates differ.
func differing(a, b search.Candidate) int {
	n := 0
	for i := range len(a.Choice) / subnet.Modules {
		if !layerEqual(a, b, i) {
			n++
		}
	}
	return n
}

func layerEqual(a, b search.Candidate, layer int) bool {
	lo, hi := subnet.Modules*layer, subnet.Modules*(layer+1)
	if !slices.Equal(a.Choice[lo:hi], b.Choice[lo:hi]) {
		return false
	}
	return a.Base == b.Base || !slices.Contains(a.Choice[lo:hi], space.Exact)
}

// probeLength is the length in tokens of the texts that modules are probed on:
// several short ones are more informative than a long one.
const probeLength = 512

// Probed is a module that [Evaluator.Probe] has measured.
type Probed struct {
	Slot        int     // as that of levels
	Rise        float64 // of the fitness without half of the module
	Done, Total int
}

// Others measures the fitness of modules in other processes, see [Evaluator.ProbeModule]. measured takes over that of one slot. What it leaves
// out is measured here.
type Others func(ctx context.Context, slots []int, measured func(slot int, fitness float64) error) error

// Probe measures, for every module alone, by how much the fitness rises when half
// of it is cut and re-fitted. It sets the predicted losses of the store's levels in
// proportion to the share of the module's output energy that they lose, and returns
// the factors, for a later [levels.Store.SetLosses]. MLPs, which most of a cut is
// allocated among, are measured on so many texts, attention on one. others, which may
// be nil, has modules measured elsewhere. step, unless nil, is called after each
// module; its error ends the probe.
func (e *Evaluator) Probe(ctx context.Context, texts int, others Others, step func(Probed) error) ([]float64, error) {
	l := e.store.Levels()
	var order []int
	for slot := l.Slots() - 1; slot >= 0; slot-- { // those with a common prefix follow one another
		if len(l.Ladder(slot)) > 1 {
			order = append(order, slot)
		}
	}
	var dense [subnet.Modules]float64
	for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
		s, err := e.choice(ctx, l.Dense(), e.probeText(module, texts))
		if err != nil {
			return nil, err
		}
		dense[module] = s.Fitness
	}
	factor, known := make([]float64, l.Slots()), make([]bool, l.Slots())
	done := 0
	measured := func(slot int, fitness float64) error {
		if known[slot] {
			return nil
		}
		rise := fitness - dense[slot%subnet.Modules]
		if math.IsNaN(rise) || math.IsInf(rise, 0) {
			return fmt.Errorf("score: layer %d: %v: the loss without half of it is NaN or infinite", slot/subnet.Modules, subnet.Module(slot%subnet.Modules))
		}
		known[slot] = true
		done++
		factor[slot] = max(rise, minRise) / e.store.Lost(slot, len(l.Ladder(slot))/2)
		if step == nil {
			return nil
		}
		return step(Probed{Slot: slot, Rise: rise, Done: done, Total: len(order)})
	}
	if others != nil {
		if err := others(ctx, order, measured); err != nil {
			return nil, err
		}
	}
	for _, slot := range order {
		if known[slot] {
			continue
		}
		fitness, err := e.ProbeModule(ctx, slot, texts)
		if err == nil {
			err = measured(slot, fitness)
		}
		if err != nil {
			return nil, err
		}
	}
	e.store.SetLosses(factor)
	return factor, nil
}

// ProbeModule returns the fitness when half of the module of a slot is cut and re-fitted, on as much text as [Evaluator.Probe] uses.
func (e *Evaluator) ProbeModule(ctx context.Context, slot, texts int) (float64, error) {
	l := e.store.Levels()
	if slot < 0 || slot >= l.Slots() || len(l.Ladder(slot)) < 2 {
		return 0, fmt.Errorf("score: slot %d has no levels", slot)
	}
	c := l.Dense()
	c[slot] = int16(len(l.Ladder(slot)) / 2)
	s, err := e.choice(ctx, c, e.probeText(subnet.Module(slot%subnet.Modules), texts))
	return s.Fitness, err
}

// probeText is the text that modules of a kind are probed on.
func (e *Evaluator) probeText(module subnet.Module, texts int) decoder.Text {
	n := 1
	if module == subnet.MLP {
		n = min(max(1, texts), len(e.windows))
	}
	text := decoder.Text{Length: min(probeLength, len(e.windows[0]))}
	for i := range n {
		text.Windows = append(text.Windows, i*len(e.windows)/n)
	}
	return text
}

func (e *Evaluator) choice(ctx context.Context, c space.Choice, text decoder.Text) (search.Score, error) {
	masks, err := e.store.Levels().Masks(c)
	if err != nil {
		return search.Score{}, err
	}
	return e.one(ctx, search.Candidate{Masks: masks, Choice: c}, text)
}

// minRise is the least rise of the fitness that is assumed: a measured gain is noise.
const minRise = 1e-4

// Predicted sets the predicted losses of the store's levels from a prediction for
// masks, evaluated for every module alone. It returns the factors like
// [Evaluator.Probe].
func Predicted(s *levels.Store, predict func(subnet.Masks) float64) ([]float64, error) {
	l := s.Levels()
	factor := make([]float64, l.Slots())
	for slot := range factor {
		n := len(l.Ladder(slot))
		if n < 2 {
			continue
		}
		c := l.Dense()
		c[slot] = int16(n / 2)
		masks, err := l.Masks(c)
		if err != nil {
			return nil, err
		}
		factor[slot] = max(predict(masks), minRise) / s.Lost(slot, n/2)
	}
	s.SetLosses(factor)
	return factor, nil
}
