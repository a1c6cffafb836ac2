package oneshot

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/search/importance"
)

// OneShot makes a subnet of at most the given inheriting ratio over the block matrices, calibrated on windows of text,
// without a search: it chooses the units and re-fits what is left as its preset does.
func OneShot(ctx context.Context, m *decoder.Model, windows [][]int32, ratio float64, c Config) (gguf.Subnet, Report, error) {
	s, r, err := oneShot(ctx, m, windows, ratio, c)
	if err != nil {
		return gguf.Subnet{}, Report{}, fmt.Errorf("cut: %w", err)
	}
	return s, r, nil
}

func oneShot(ctx context.Context, m *decoder.Model, windows [][]int32, ratio float64, c Config) (gguf.Subnet, Report, error) {
	started := time.Now()
	recipe, err := c.resolve()
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	if _, err := reform.CheckText(windows); err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	p, err := newPlan(m.Geometry(), ratio, recipe, c)
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	if err := p.reach(); err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	p.m, p.windows = m, windows
	masks, chooser, err := p.make(ctx)
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	s, r, err := reform.Refit(ctx, m, windows, masks, c.refit(recipe, chooser))
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	r.Seconds = time.Since(started).Seconds()
	r.Warnings = append(p.warnings, r.Warnings...)
	if c.Within != nil {
		ratio = 0
	}
	report := Report{Preset: c.Preset, Target: ratio, Predicted: p.predicted, Report: r}
	if p.recipe.Layers == NoLayers {
		report.Attention, report.Granularity = p.recipe.Attention, p.config.Granularity
	}
	return s, report, nil
}

// Refit re-fits a subnet of given masks with the recipe of the configuration or of its preset. It ignores how the recipe
// chooses widths and, unless Rechoose is set, units.
func Refit(ctx context.Context, m *decoder.Model, windows [][]int32, masks subnet.Masks, c Config) (gguf.Subnet, Report, error) {
	recipe, err := c.resolve()
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	if err := masks.Validate(); err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	var chooser reform.Chooser
	if c.Rechoose && recipe.Method != "" {
		chooser = rechooser(m, masks, recipe.Method)
	}
	s, r, err := reform.Refit(ctx, m, windows, masks, c.refit(recipe, chooser))
	if err != nil {
		return gguf.Subnet{}, Report{}, fmt.Errorf("reform: %w", err)
	}
	return s, Report{Preset: c.Preset, Report: r}, nil
}

// plan decides which units a subnet keeps, or how many of each layer.
type plan struct {
	g         *subnet.Geometry
	m         *decoder.Model
	windows   [][]int32
	ratio     float64
	recipe    Recipe
	config    Config
	predicted float64
	warnings  []string
	saved     savings // of Config.Cost
}

// newPlan returns the plan of a cut, without a model and text.
func newPlan(g *subnet.Geometry, ratio float64, r Recipe, c Config) (*plan, error) {
	if c.Within != nil {
		ratio = 1
	}
	if _, err := budget(g, ratio); err != nil {
		return nil, err
	}
	if err := g.CheckGranularity(c.Granularity); err != nil {
		return nil, err
	}
	if c.Granularity == 0 {
		c.Granularity = subnet.DefaultGranularity
	}
	p := &plan{g: g, ratio: ratio, recipe: r, config: c}
	if c.Within != nil && c.Cost != nil {
		var err error
		if p.saved, err = savingsOf(g, c.Cost); err != nil {
			return nil, err
		}
	}
	p.decideAttention()
	return p, nil
}

// decideAttention decides whether KV groups are dropped too. It adds a warning where they are because MLP channels alone are not
// enough.
func (p *plan) decideAttention() {
	if p.config.Attention != nil {
		p.recipe.Attention = *p.config.Attention
		return
	}
	if w := p.widths(); p.recipe.Layers == NoLayers && !w.attention && p.outOfReach(w) != nil {
		p.recipe.Attention = true
		p.warnings = append(p.warnings, fmt.Sprintf("MLP channels alone allow ratios from %.3f: KV groups are dropped too", w.leastRatio()))
	}
}

func (p *plan) widths() widths {
	return widths{g: p.g, ratio: p.ratio, step: p.config.Granularity, attention: p.recipe.Attention, floor: p.recipe.Floor, saved: p.saved}
}

// make returns final masks, or, for units that are chosen during the re-fit, the masks to start from and the chooser.
func (p *plan) make(ctx context.Context) (subnet.Masks, reform.Chooser, error) {
	switch {
	case p.recipe.Layers == ByCosine:
		masks, err := p.dropSimilarLayers(ctx)
		return masks, nil, err
	case p.recipe.Layers == ByLoss:
		masks, err := p.dropLayers(ctx)
		return masks, nil, err
	case p.recipe.Method == "":
		masks, err := p.random()
		return masks, nil, err
	case p.recipe.Sequential:
		keep, err := p.counts(ctx, nil)
		if err != nil {
			return subnet.Masks{}, nil, err
		}
		g := p.g
		chooses := func(layer int, module subnet.Module) bool {
			return module == subnet.MLP || keep.groups[layer] < g.Layers[layer].KVHeads
		}
		return subnet.Dense(g), &ranker{p.m, p.recipe.Method, chooses, keep.of}, nil
	}
	masks, err := p.ranked(ctx)
	return masks, nil, err
}

// ranked keeps the best units by a survey of the dense model.
func (p *plan) ranked(ctx context.Context) (subnet.Masks, error) {
	survey, err := NewSurvey(ctx, p.m, p.windows, []importance.Method{p.recipe.Method}, p.config.Progress)
	if err != nil {
		return subnet.Masks{}, err
	}
	keep, err := p.counts(ctx, survey)
	if err != nil {
		return subnet.Masks{}, err
	}
	g := p.g
	masks := subnet.Dense(g)
	for i := range g.Layers {
		l := masks.Layer(i)
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			if r, ok := survey.Layers[i].Module(module).Rankings[p.recipe.Method]; ok && keep.of(i, module) < len(r.Order) {
				l = withUnits(g, i, l, module, r.Keep(keep.of(i, module)))
			}
		}
		masks = masks.With(i, l)
	}
	return masks, masks.Validate()
}

// counts shares the units out over the layers.
func (p *plan) counts(ctx context.Context, s *Survey) (counts, error) {
	switch p.recipe.Widths {
	case Global:
		if s == nil {
			return counts{}, errors.New("global widths need a survey: the recipe may not be sequential")
		}
		scores := make([][subnet.Modules][]float64, len(s.Layers))
		for i := range s.Layers {
			for _, m := range []subnet.Module{subnet.Attention, subnet.MLP} {
				scores[i][m] = standardized(s.Layers[i].Module(m).Rankings[p.recipe.Method])
			}
		}
		return p.allocated(func(w widths) (counts, error) {
			return w.allocateGreedy(func(layer int, m subnet.Module, have, keep int) float64 {
				all := scores[layer][m] // from the first to drop to the last
				return sumOf(all[len(all)-have : len(all)-keep])
			})
		})
	case Sensitive:
		loss, err := p.sensitivity(ctx)
		if err != nil {
			return counts{}, err
		}
		c, err := p.allocated(func(w widths) (counts, error) {
			return w.allocateGreedy(func(layer int, m subnet.Module, have, keep int) float64 {
				return loss.at(layer, m, keep) - loss.at(layer, m, have)
			})
		})
		if err == nil {
			p.predicted = loss.total(c)
		}
		return c, err
	default:
		return p.allocated(widths.uniform)
	}
}

// random keeps random units, the same share of each layer.
func (p *plan) random() (subnet.Masks, error) {
	g := p.g
	keep, err := p.allocated(widths.uniform)
	if err != nil {
		return subnet.Masks{}, err
	}
	rng := rand.New(rand.NewPCG(p.config.Seed, 0))
	masks := subnet.Dense(g)
	for i, lg := range g.Layers {
		l := withUnits(g, i, masks.Layer(i), subnet.Attention, subnet.Full(lg.KVHeads).Sample(rng, keep.groups[i]))
		masks = masks.With(i, withUnits(g, i, l, subnet.MLP, subnet.Full(lg.FFN).Sample(rng, keep.channels[i])))
	}
	return masks, masks.Validate()
}
