// Package searchtest provides an evaluator without a model: a landscape of losses
// over the masks of a small artificial model, cheap and exactly repeatable, with a
// known optimum, for tests and comparisons of strategies.
package searchtest

import (
	"cmp"
	"context"
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search"
	"github.com/lathe-llm/lathe/search/space"
)

// Options shape a landscape.
type Options struct {
	Seed   uint64
	Layers int // 0 for 6
	// Coupling scales the additional loss when two neighbouring modules are both
	// cut: 0 makes the loss the sum over modules.
	Coupling float64
	// Noise is the standard deviation, in nats, of the score on one token, drawn
	// for every candidate.
	Noise float64
	// Text is the relative standard deviation of each module's loss on one token,
	// drawn for every text.
	Text float64
	// Error is the standard deviation of the logarithm of the factor between the
	// predicted and the true losses of each module.
	Error float64
}

// Landscape is an artificial model with levels, and a [search.Evaluator] of its
// subnets. Cutting a share x of a module, weighted by the importance of its units,
// raises the loss by sensitivity · x^exponent nats.
type Landscape struct {
	Geometry *subnet.Geometry
	Levels   *space.Levels

	// Before, unless nil, is called before each candidate is scored; an error
	// ends the evaluation. Fitness, unless nil, replaces the fitness.
	Before  func(ctx context.Context, c search.Candidate, t search.Tier) error
	Fitness func(c search.Candidate, fitness float64) float64

	options     Options
	sensitivity []float64   // by slot
	exponent    []float64   // by slot
	channels    [][]float64 // importance of MLP channels by layer, sum 1
	groups      [][]float64 // importance of KV groups by layer, sum 1
	head        []float64   // importance of in-head channels, sum 1
}

// denseNLL is the negative log-likelihood of the dense model.
const denseNLL = 2.5

// steps is how many levels the ladder of an MLP has below dense.
const steps = 16

// New returns the landscape of the options.
func New(o Options) *Landscape {
	if o.Layers == 0 {
		o.Layers = 6
	}
	rng := rand.New(rand.NewPCG(o.Seed, 0x5EA))
	g := &subnet.Geometry{Arch: "llama", Hidden: 32, Vocab: 256, HeadDim: 16, Tied: true}
	l := &Landscape{Geometry: g, options: o, head: falling(rng, g.HeadDim)}
	for range o.Layers {
		lg := subnet.LayerGeometry{Heads: 8, KVHeads: 4, FFN: 256}
		g.Layers = append(g.Layers, lg)
		l.channels = append(l.channels, falling(rng, lg.FFN))
		l.groups = append(l.groups, falling(rng, lg.KVHeads))
		for range subnet.Modules {
			l.sensitivity = append(l.sensitivity, 0.3*math.Exp(rng.NormFloat64()))
			l.exponent = append(l.exponent, 1.5+rng.Float64())
		}
	}
	l.Levels = l.levels(rng)
	return l
}

// falling returns n positive weights with sum 1 that fall, up to 10 % of noise.
func falling(rng *rand.Rand, n int) []float64 {
	w := make([]float64, n)
	sum := 0.0
	for i := range w {
		w[i] = math.Exp(-3*float64(i)/float64(n)) * (0.9 + 0.2*rng.Float64())
		sum += w[i]
	}
	for i := range w {
		w[i] /= sum
	}
	return w
}

// levels makes the ladders: they drop KV groups one by one and MLP channels in
// steps, the least important first.
func (l *Landscape) levels(rng *rand.Rand) *space.Levels {
	levels := &space.Levels{Geometry: l.Geometry, Key: "landscape"}
	for i, g := range l.Geometry.Layers {
		factor := [subnet.Modules]float64{math.Exp(l.options.Error * rng.NormFloat64()), math.Exp(l.options.Error * rng.NormFloat64())}
		var attention, mlp space.Ladder
		add := func(ladder *space.Ladder, module subnet.Module, cut subnet.Layer) {
			a, f := cut.ModuleParams(l.Geometry, i)
			level := space.Level{Mask: cut, Params: f}
			if module == subnet.Attention {
				level.Params = a
			}
			level.Loss = factor[module] * l.moduleLoss(i, module, cut)
			*ladder = append(*ladder, level)
		}
		for kept := g.KVHeads; kept >= 0; kept-- {
			cut := subnet.DenseLayer(g)
			cut.Heads = subnet.Range(g.Heads, 0, kept*g.HeadsPerGroup())
			add(&attention, subnet.Attention, cut)
		}
		for step := range steps + 1 {
			cut := subnet.DenseLayer(g)
			cut.Channels = subnet.Range(g.FFN, 0, g.FFN-step*g.FFN/steps)
			add(&mlp, subnet.MLP, cut)
		}
		levels.Attention, levels.MLP = append(levels.Attention, attention), append(levels.MLP, mlp)
	}
	return levels
}

// moduleLoss returns the loss of cutting one module alone.
func (l *Landscape) moduleLoss(layer int, module subnet.Module, cut subnet.Layer) float64 {
	g, kept := l.Geometry.Layers[layer], 0.0
	if module == subnet.MLP {
		for _, c := range cut.Channels.Indices() {
			kept += l.channels[layer][c]
		}
	} else {
		for _, group := range cut.Groups(g).Indices() {
			heads := cut.Heads.Overlap(subnet.Range(g.Heads, group*g.HeadsPerGroup(), (group+1)*g.HeadsPerGroup()))
			share := 0.0
			for _, set := range []subnet.Set{cut.QKOf(group, l.Geometry.HeadDim), cut.VOOf(group, l.Geometry.HeadDim)} {
				for _, c := range set.Indices() {
					share += l.head[c] / 2
				}
			}
			kept += l.groups[layer][group] * share * float64(heads) / float64(g.HeadsPerGroup())
		}
	}
	slot := subnet.Modules*layer + int(module)
	return l.sensitivity[slot] * math.Pow(max(0, 1-kept), l.exponent[slot])
}

// Loss returns the loss of masks relative to the dense model, without noise.
func (l *Landscape) Loss(m subnet.Masks) float64 {
	return l.loss(m, func() float64 { return 1 })
}

// loss returns the loss of masks with that of each module multiplied by a factor.
func (l *Landscape) loss(m subnet.Masks, factor func() float64) float64 {
	sum, before := 0.0, 0.0
	for i := range m.Layers() {
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			loss := l.moduleLoss(i, module, m.Layer(i)) * factor()
			sum += loss + l.options.Coupling*math.Sqrt(loss*before)
			before = loss
		}
	}
	return sum
}

// Evaluate scores masks with noise seeded by their bits and by the tier.
func (l *Landscape) Evaluate(ctx context.Context, batch []search.Candidate, t search.Tier, done func(int, search.Score)) error {
	for i, c := range batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.Before != nil {
			if err := l.Before(ctx, c, t); err != nil {
				return err
			}
		}
		h := fnv.New64a()
		var key [16]byte
		binary.LittleEndian.PutUint64(key[:], t.Draw)
		binary.LittleEndian.PutUint64(key[8:], uint64(t.Tokens))
		_, _ = h.Write(key[:])
		text := rand.New(rand.NewPCG(h.Sum64(), l.options.Seed))
		_, _ = h.Write(c.Masks.AppendBits(nil))
		own := rand.New(rand.NewPCG(h.Sum64(), l.options.Seed))
		each := 1 / math.Sqrt(float64(t.Tokens))
		nll := denseNLL + own.NormFloat64()*l.options.Noise*each
		nll += l.loss(c.Masks, func() float64 { return max(0, 1+text.NormFloat64()*l.options.Text*each) })
		fitness := nll
		if l.Fitness != nil {
			fitness = l.Fitness(c, fitness)
		}
		done(i, search.Score{Fitness: fitness, NLL: nll, Tokens: int64(t.Tokens)})
	}
	return nil
}

// Start is the Start of a [search.Problem]: it keeps the most important channels of
// every head and MLP.
func (l *Landscape) Start(s space.Space, attention, mlp float64) (subnet.Masks, error) {
	layers := make([]subnet.Layer, len(l.Geometry.Layers))
	for i, g := range l.Geometry.Layers {
		in := subnet.Range(l.Geometry.HeadDim, 0, subnet.Count(l.Geometry.HeadDim, attention, s.HeadGranularity))
		layers[i] = subnet.Layer{Heads: subnet.Full(g.Heads), Channels: subnet.Range(g.FFN, 0, subnet.Count(g.FFN, mlp, s.Granularity))}
		for range g.KVHeads {
			layers[i].VO = append(layers[i].VO, in)
		}
		layers[i].QK = layers[i].VO
	}
	return subnet.New(l.Geometry, layers)
}

// Bytes implements [search.Prices]: files have no metadata, and matrices are F16 by
// default.
func (l *Landscape) Bytes(m subnet.Masks, typ string) (file, tensors int64, err error) {
	bytes := m.GGUFBytes(cmp.Or(typ, "F16"))
	return bytes, bytes, nil
}

// Seconds implements [search.Prices]: a module takes a microsecond and a nanosecond
// for each parameter, all else a fifth of a millisecond.
func (l *Landscape) Seconds(m subnet.Masks, _ string) (float64, bool) {
	seconds := 2e-4
	for i := range m.Layers() {
		attention, mlp := m.Layer(i).ModuleParams(l.Geometry, i)
		seconds += subnet.Modules*1e-6 + 1e-9*float64(attention+mlp)
	}
	return seconds, true
}

// Problem returns the problem of searching the landscape.
func (l *Landscape) Problem(t search.Target, seed uint64) search.Problem {
	return search.Problem{Model: "landscape", Geometry: l.Geometry, Levels: l.Levels, Start: l.Start, Target: t, Seed: seed, Prices: l}
}
