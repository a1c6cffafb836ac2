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
	most, err := budget(p.g, p.ratio)
	return err == nil && m.BlockParams() <= most
}

// allocated returns the counts that allocate gives for the ratio or, where Config.Within decides what is small enough, for the
// largest ratio that it allows.
func (p *plan) allocated(allocate func(widths) (counts, error)) (counts, error) {
	w := p.widths()
	if p.config.Within == nil {
		return allocate(w)
	}
	g := p.g
	if p.config.Within(subnet.Dense(g)) == nil {
		p.warnings = append(p.warnings, "the dense model is within the target: nothing is dropped")
		return denseCounts(g), nil
	}
	all := []widths{w}
	if most := p.mostGroups(); w.attention && p.recipe.Widths == Uniform && most > 0 { // how many groups are best depends on the context
		all = all[:0]
		for k := range most {
			w.groups = float64(k+1) / float64(most)
			all = append(all, w)
		}
	}
	var best counts
	var why error
	for _, w := range all {
		c, outside, err := p.largest(w, allocate)
		if err != nil {
			return counts{}, err
		}
		switch {
		case outside != nil:
			if why == nil { // of the fewest groups
				why = outside
			}
		case best.groups == nil || c.params(g) > best.params(g):
			best = c
		}
	}
	if best.groups == nil {
		return counts{}, why
	}
	return best, nil
}

// mostGroups returns the largest number of KV groups of a layer.
func (p *plan) mostGroups() (most int) {
	for _, l := range p.g.Layers {
		most = max(most, l.KVHeads)
	}
	return most
}

// largest returns the counts that allocate gives for the largest ratio that Config.Within allows. outside is why there is none.
func (p *plan) largest(w widths, allocate func(widths) (counts, error)) (best counts, outside, err error) {
	found := false
	for low, high, i := 0.0, 1.0, 0; i < withinSteps; i++ {
		w.ratio = (low + high) / 2
		c, err := allocate(w)
		if errors.Is(err, ErrRatio) {
			low = w.ratio
			continue
		}
		if err != nil {
			return counts{}, nil, err
		}
		masks, err := c.masks(p.g)
		if err != nil {
			return counts{}, nil, err
		}
		if not := p.config.Within(masks); not != nil {
			high, outside = w.ratio, not
			continue
		}
		low, best, found = w.ratio, c, true
	}
	switch {
	case found:
		return best, nil, nil
	case outside == nil:
		outside = p.widths().tooSmall()
	}
	return counts{}, outside, nil
}

// outOfReach returns why the units that may be dropped are not enough for what is asked, nil if they are.
func (p *plan) outOfReach(w widths) error {
	if p.config.Within == nil {
		if !w.reachesRatio(p.recipe.Widths) {
			return w.tooSmall()
		}
		return nil
	}
	if p.recipe.Widths == Uniform {
		w.floor = 0
	}
	masks, err := w.least().masks(w.g)
	if err != nil {
		return err
	}
	return p.config.Within(masks)
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
