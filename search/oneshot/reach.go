package oneshot

import (
	"fmt"

	"github.com/lathe-llm/lathe/infer/subnet"
)

// Reach returns the error that OneShot returns, whatever the text, because no subnet of a model's shape is as small as the ratio or
// Config.Within asks for, and nil if one is. The error names the smallest. It wraps ErrRatio or the error of Within.
func Reach(g *subnet.Geometry, ratio float64, c Config) error {
	recipe, err := c.resolve()
	if err != nil {
		return err
	}
	p, err := newPlan(g, ratio, recipe, c)
	if err != nil {
		return err
	}
	return p.reach()
}

// reach is Reach of a plan.
func (p *plan) reach() error {
	if p.recipe.Layers != NoLayers {
		return p.reachLayers()
	}
	if p.recipe.Method == "" || p.recipe.Widths == Uniform { // equal shares do not come down to the fewest units
		alone := *p // its warnings are those of the cut
		_, err := alone.allocated(widths.uniform)
		return p.explain(err)
	}
	return p.explain(p.outOfReach(p.widths()))
}

// explain adds to the error of Config.Within that KV groups stay.
func (p *plan) explain(err error) error {
	if err == nil || p.config.Within == nil || p.recipe.Attention {
		return err
	}
	return fmt.Errorf("%w (of MLP channels alone: KV groups are kept)", err)
}

// reachLayers is reach where whole layers are dropped: one stays.
func (p *plan) reachLayers() error {
	masks := subnet.Dense(p.g)
	for i := range p.g.Layers {
		if without := masks.With(i, dropped(p.g, i)); without.Validate() == nil {
			masks = without
		}
	}
	switch {
	case p.enough(masks):
		return nil
	case p.config.Within != nil:
		return p.config.Within(masks)
	}
	return fmt.Errorf("one layer stays, which allows ratios from %.3f, not %g: %w", float64(masks.BlockParams())/float64(p.g.BlockParams()), p.ratio, ErrRatio)
}
