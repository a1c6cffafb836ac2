package oneshot

import (
	"errors"
	"math/rand/v2"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// withinSteps is how often the interval of ratios is halved that meet Config.Within.
const withinSteps = 24

// enough reports whether masks are small enough.
func (p *plan) enough(m subnet.Masks) bool {
	if p.config.Within != nil {
		return p.config.Within(m) == nil
	}
	most, err := budget(p.m.Geometry(), p.ratio)
	return err == nil && m.BlockParams() <= most
}

// allocated returns the counts that allocate gives for the ratio or, where Config.Within decides what is small enough, for the
// largest ratio that it allows.
func (p *plan) allocated(allocate func(widths) (counts, error)) (counts, error) {
	w := p.widths()
	if p.config.Within == nil {
		return allocate(w)
	}
	g := p.m.Geometry()
	dense := denseCounts(g)
	if p.config.Within(subnet.Dense(g)) == nil {
		p.warnings = append(p.warnings, "the dense model is within the target: nothing is dropped")
		return dense, nil
	}
	var (
		best  counts
		found bool
		why   error // of the smallest counts
	)
	for low, high, i := 0.0, 1.0, 0; i < withinSteps; i++ {
		w.ratio = (low + high) / 2
		c, err := allocate(w)
		if errors.Is(err, ErrRatio) {
			low = w.ratio
			continue
		}
		if err != nil {
			return counts{}, err
		}
		masks, err := c.masks(g)
		if err != nil {
			return counts{}, err
		}
		if outside := p.config.Within(masks); outside != nil {
			high, why = w.ratio, outside
			continue
		}
		low, best, found = w.ratio, c, true
	}
	if !found && why == nil {
		return counts{}, p.widths().tooSmall()
	}
	if !found {
		return counts{}, why
	}
	return best, nil
}

// reaches reports whether the units that may be dropped are enough for what is asked.
func (p *plan) reaches(w widths) bool {
	if p.config.Within == nil {
		return w.reachesRatio(p.recipe.Widths)
	}
	if p.recipe.Widths == Uniform {
		w.floor = 0
	}
	masks, err := w.least().masks(w.g)
	return err == nil && p.enough(masks)
}

// masks returns masks that keep as many units of each module as c, spread as those of cuts are: files list which ones.
func (c counts) masks(g *subnet.Geometry) (subnet.Masks, error) {
	rng := rand.New(rand.NewPCG(1, 1))
	layers := make([]subnet.Layer, len(g.Layers))
	for i, lg := range g.Layers {
		l := withUnits(g, i, subnet.DenseLayer(lg), subnet.MLP, subnet.Full(lg.FFN).Sample(rng, c.channels[i]))
		if c.groups[i] < lg.KVHeads {
			l = withUnits(g, i, l, subnet.Attention, subnet.Range(lg.KVHeads, 0, c.groups[i]))
		}
		layers[i] = l
	}
	return subnet.New(g, layers)
}
