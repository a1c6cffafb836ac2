package search

import (
	"fmt"
	"math"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Prices provides the costs of subnets besides their ratio. It may be used
// concurrently.
type Prices interface {
	// Bytes returns the size of the file of masks and that of its tensors, with
	// matrices stored in a type; "" is that of each in the source. An error means
	// that no file can hold them.
	Bytes(m subnet.Masks, typ string) (file, tensors int64, err error)
	// Seconds returns the time in which this machine generates a token, and false
	// where no times were measured.
	Seconds(m subnet.Masks, typ string) (float64, bool)
}

// TypedPrices are prices of subnets whose matrices have types of their own.
type TypedPrices interface {
	Prices
	// BytesOf is Bytes for matrices of given types, by the names of their tensors; those not listed have that of the source.
	BytesOf(m subnet.Masks, types map[string]subnet.Type) (file, tensors int64, err error)
}

// Cost returns the cost of masks in the unit of the target, infinite where it is not
// known. prices may be nil for a ratio.
func (t Target) Cost(m subnet.Masks, prices Prices) float64 {
	if t.Measure == Params {
		return float64(m.BlockParams()) / float64(m.Geometry().BlockParams())
	}
	if prices == nil {
		return math.Inf(1)
	}
	switch t.Measure {
	case Bytes, Memory:
		file, tensors, err := prices.Bytes(m, t.Type)
		if err != nil {
			return math.Inf(1)
		}
		if t.Measure == Bytes {
			return float64(file)
		}
		return float64(tensors + t.CacheBytes(m))
	case Latency, Speed:
		seconds, ok := prices.Seconds(m, t.Type)
		if !ok {
			return math.Inf(1)
		}
		if t.Measure == Latency {
			return seconds
		}
		dense, _ := prices.Seconds(subnet.Dense(m.Geometry()), t.Type)
		return seconds / dense
	default: // nothing for the others
	}
	return math.Inf(1)
}

// Best returns the index of the best of some individuals scored on equal text that
// are within a target: the one of the least fitness. The error wraps [ErrTarget] where
// none is, and then contains the least cost of one.
func Best(front []Individual, t Target, prices Prices) (int, error) {
	if err := t.check(); err != nil {
		return 0, err
	}
	best, least := -1, math.Inf(1)
	for i, in := range front {
		cost := in.cost(t, prices)
		least = min(least, cost)
		if t.allows(cost) && (best < 0 || in.Score.Fitness < front[best].Score.Fitness) {
			best = i
		}
	}
	switch {
	case best >= 0:
		return best, nil
	case len(front) == 0:
		return 0, fmt.Errorf("%w: there are no candidates", ErrTarget)
	case math.IsInf(least, 0):
		return 0, fmt.Errorf("%w: the costs of the candidates in %s are not known", ErrTarget, t.Measure)
	}
	return 0, t.unreachable(least)
}

// CacheBytes returns the size of the KV cache of masks, in the type of the target.
func (t Target) CacheBytes(m subnet.Masks) int64 {
	n := m.Size().KVBytes(t.Context)
	typ, err := subnet.ParseType(t.KV)
	if err != nil {
		return n
	}
	return n / 2 * int64(typ.BlockBytes()) / int64(typ.Block()) // F16 numbers have 2 bytes
}

// cost returns the cost of an individual in the unit of a target.
func (in Individual) cost(t Target, prices Prices) float64 {
	if in.Bytes > 0 {
		switch t.Measure {
		case Bytes:
			return float64(in.Bytes)
		case Memory:
			return float64(in.Tensors + t.CacheBytes(in.Masks))
		default: // nothing for the others
		}
	}
	return t.Cost(in.Masks, prices)
}

// sizes returns the bytes of the file of a choice of levels that have types, and of its tensors; 0 for other candidates and where no file can hold
// them.
func (p *Problem) sizes(c Candidate) (file, tensors int64) {
	prices, ok := p.Prices.(TypedPrices)
	if !ok || c.Choice == nil || p.Levels == nil || !p.Levels.Typed() {
		return 0, 0
	}
	file, tensors, err := prices.BytesOf(c.Masks, p.Levels.Types(c.Choice))
	if err != nil {
		return 0, 0
	}
	return file, tensors
}

// costOf returns the cost of a candidate in the unit of a target, infinite where it is not known.
func (p *Problem) costOf(t Target, c Candidate) float64 {
	in := Individual{Candidate: c}
	if in.Bytes, in.Tensors = p.sizes(c); in.Bytes == 0 && p.Levels != nil && p.Levels.Typed() && c.Choice != nil {
		return math.Inf(1)
	}
	return in.cost(t, p.Prices)
}

// cost returns the cost of masks in the unit of a target.
func (p *Problem) cost(t Target, m subnet.Masks) float64 { return t.Cost(m, p.Prices) }

// checkTarget reports targets that are not valid or whose costs are not known.
func (p *Problem) checkTarget(t Target) error {
	if err := t.check(); err != nil {
		return err
	}
	dense := p.cost(t, subnet.Dense(p.Geometry))
	if math.IsInf(dense, 0) && t.Timed() {
		return fmt.Errorf("%w: no times of this machine were measured for a target of %v", ErrConfig, t)
	}
	if math.IsInf(dense, 0) || math.IsNaN(dense) {
		return fmt.Errorf("%w: the cost of the dense model is not known for a target of %v", ErrConfig, t)
	}
	return nil
}

// ShareOf returns the inheriting ratio that a target corresponds to where all layers
// are cut alike: MLP channels first, then heads. Of a ratio it is the ratio.
func (p *Problem) ShareOf(t Target) float64 {
	if t.Measure == Params {
		return t.Value
	}
	const steps = 64
	share := func(m subnet.Masks) float64 { return Ratio(1).Cost(m, nil) }
	for step := range 2 * steps {
		mlp, attention := 1-float64(min(step, steps-1))/steps, 1-float64(max(0, step-steps+1))/steps
		layers := make([]subnet.Layer, len(p.Geometry.Layers))
		for i, g := range p.Geometry.Layers {
			groups := max(1, int(math.Ceil(attention*float64(g.KVHeads))))
			layers[i] = subnet.Layer{
				Heads:    subnet.Range(g.Heads, 0, min(g.Heads, groups*max(g.HeadsPerGroup(), 1))),
				Channels: subnet.Range(g.FFN, 0, min(g.FFN, max(1, int(mlp*float64(g.FFN))))),
			}
			if g.KVHeads == 0 {
				layers[i].Heads = subnet.Empty(g.Heads)
			}
		}
		m, err := subnet.New(p.Geometry, layers)
		if err == nil && t.allows(p.cost(t, m)) {
			return share(m)
		}
	}
	return 1 / float64(steps)
}

// repriced recomputes the costs of individuals after a change of target and returns
// those within it.
func repriced(p *Problem, all []Individual, t Target) []Individual {
	var kept []Individual
	for _, in := range all {
		if in.Cost = in.cost(t, p.Prices); t.allows(in.Cost) {
			kept = append(kept, in)
		}
	}
	return kept
}
