package reform

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/gguf"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

// OneShot makes a subnet of at most the given inheriting ratio over the block matrices, calibrated on windows of text,
// without a search. It chooses the units and re-fits what is left as its preset says.
func OneShot(ctx context.Context, m *decoder.Model, windows [][]int32, ratio float64, c Config) (gguf.Subnet, Report, error) {
	s, r, err := oneShot(ctx, m, windows, ratio, c)
	if err != nil {
		return gguf.Subnet{}, Report{}, fmt.Errorf("cut: %w", err)
	}
	return s, r, nil
}

func oneShot(ctx context.Context, m *decoder.Model, windows [][]int32, ratio float64, c Config) (gguf.Subnet, Report, error) {
	started := time.Now()
	if c.Preset == "" {
		c.Preset = Allocated
	}
	recipe, err := c.Preset.Recipe()
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	if c.Recipe != nil {
		recipe = *c.Recipe
	}
	if c.Granularity == 0 {
		c.Granularity = subnet.DefaultGranularity
	}
	tokens, err := checkWindows(windows)
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	if _, err := budget(m.Geometry(), ratio); err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	p := &plan{m: m, windows: windows, ratio: ratio, recipe: recipe, config: c}
	masks, choose, err := p.make(ctx)
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	s, modules, err := reformMasks(ctx, m, windows, masks, recipe, choose, c)
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	r := newReport(s, modules, tokens, started)
	r.Preset, r.Target, r.Predicted = c.Preset, ratio, p.predicted
	return s, r, nil
}

// Refit re-fits a subnet of given masks as the recipe of the configuration, or of its preset, says. How widths are chosen
// does not matter, nor how units are, unless the configuration has them chosen anew.
func Refit(ctx context.Context, m *decoder.Model, windows [][]int32, masks subnet.Masks, c Config) (gguf.Subnet, Report, error) {
	started := time.Now()
	if c.Preset == "" {
		c.Preset = Allocated
	}
	recipe, err := c.Preset.Recipe()
	if c.Recipe != nil {
		recipe, err = *c.Recipe, nil
	}
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	if err := masks.Validate(); err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	tokens, err := checkWindows(windows)
	if err != nil {
		return gguf.Subnet{}, Report{}, err
	}
	var choose *chooser
	if c.Rechoose && recipe.Method != "" {
		choose = rechosen(masks, recipe.Method)
	}
	s, modules, err := reformMasks(ctx, m, windows, masks, recipe, choose, c)
	if err != nil {
		return gguf.Subnet{}, Report{}, fmt.Errorf("reform: %w", err)
	}
	r := newReport(s, modules, tokens, started)
	r.Preset = c.Preset
	return s, r, nil
}

// reformMasks walks where there is something to do on the way; masks that stay as they are need no text.
func reformMasks(ctx context.Context, m *decoder.Model, windows [][]int32, masks subnet.Masks, recipe Recipe, choose *chooser, c Config) (gguf.Subnet, []ModuleReport, error) {
	if choose == nil && recipe.Solve.Method == None && !recipe.Solve.Bias {
		return gguf.Subnet{Masks: masks}, nil, nil
	}
	w, err := newWalk(ctx, m, windows, masks, recipe, choose, c)
	if err != nil {
		return gguf.Subnet{}, nil, err
	}
	defer w.close()
	if err := w.run(ctx); err != nil {
		return gguf.Subnet{}, nil, err
	}
	return gguf.Subnet{Masks: w.masks, Refit: w.refit}, w.modules, nil
}

func newReport(s gguf.Subnet, modules []ModuleReport, tokens int, started time.Time) Report {
	r := Report{Ratio: s.Masks.Size().Ratio, Tokens: tokens, Modules: modules, Seconds: time.Since(started).Seconds()}
	for _, m := range modules {
		if m.Warning != "" {
			r.Warnings = append(r.Warnings, fmt.Sprintf("layer %d %s: %s", m.Layer, m.Module, m.Warning))
		}
	}
	return r
}

// plan decides which units a subnet keeps, or how many of each layer.
type plan struct {
	m         *decoder.Model
	windows   [][]int32
	ratio     float64
	recipe    Recipe
	config    Config
	predicted float64
}

// make returns masks that are final, or, for units that are to be chosen on the way, the masks to start from and the
// chooser.
func (p *plan) make(ctx context.Context) (subnet.Masks, *chooser, error) {
	g := p.m.Geometry()
	dense := subnet.Dense(g)
	switch {
	case p.recipe.Layers:
		masks, err := p.dropLayers(ctx)
		return masks, nil, err
	case p.recipe.Method == "":
		masks, err := p.random(dense)
		return masks, nil, err
	case p.recipe.Sequential:
		keep, err := p.counts(ctx, nil)
		if err != nil {
			return subnet.Masks{}, nil, err
		}
		may := func(_ subnet.Masks, _ int, module subnet.Module) bool {
			return module == subnet.MLP || p.recipe.Attention
		}
		return dense, ranked(g, p.recipe.Method, may, keep.of), nil
	}
	survey, err := NewSurvey(ctx, p.m, p.windows, []importance.Method{p.recipe.Method}, p.config.Progress)
	if err != nil {
		return subnet.Masks{}, nil, err
	}
	keep, err := p.counts(ctx, survey)
	if err != nil {
		return subnet.Masks{}, nil, err
	}
	masks := dense
	for i := range g.Layers {
		l := masks.Layer(i)
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			if r, ok := survey.Layers[i].Module(module).Rankings[p.recipe.Method]; ok && keep.of(i, module) < len(r.Order) {
				l = withUnits(g, i, l, module, r.Keep(keep.of(i, module)))
			}
		}
		masks = masks.With(i, l)
	}
	return masks, nil, masks.Validate()
}

// ranked returns the chooser that keeps the best of a ranking, so many of each module.
func ranked(g *subnet.Geometry, method importance.Method, of func(subnet.Masks, int, subnet.Module) bool, keep func(layer int, m subnet.Module) int) *chooser {
	return &chooser{of, func(layer int, module subnet.Module, b *importance.Block) (subnet.Layer, error) {
		l, n := subnet.DenseLayer(g.Layers[layer]), keep(layer, module)
		if n == b.Count(units(module)) {
			return l, nil
		}
		r, err := importance.Rank(method, b, units(module), importance.Options{Keep: n})
		if err != nil {
			return l, err
		}
		return withUnits(g, layer, l, module, r.Keep(n)), nil
	}}
}

// rechosen returns the chooser that keeps as many units as masks do. Modules that are dense or dropped, or that lack other
// units than those of package importance, stay as they are.
func rechosen(masks subnet.Masks, method importance.Method) *chooser {
	g := masks.Geometry()
	of := func(_ subnet.Masks, layer int, module subnet.Module) bool {
		l, lg := masks.Layer(layer), g.Layers[layer]
		if module == subnet.MLP {
			return !l.Channels.IsFull() && !l.Channels.IsEmpty()
		}
		groups := l.Groups(lg)
		whole := withUnits(g, layer, subnet.DenseLayer(lg), module, groups)
		return l.QK == nil && l.VO == nil && l.Heads.Equal(whole.Heads) && !groups.IsFull() && !groups.IsEmpty()
	}
	return ranked(g, method, of, func(layer int, module subnet.Module) int {
		if module == subnet.MLP {
			return masks.Layer(layer).Channels.Len()
		}
		return masks.Layer(layer).Groups(g.Layers[layer]).Len()
	})
}

// withUnits returns l with the kept units of one module.
func withUnits(g *subnet.Geometry, layer int, l subnet.Layer, module subnet.Module, kept subnet.Set) subnet.Layer {
	if module == subnet.MLP {
		l.Channels = kept
		return l
	}
	lg := g.Layers[layer]
	per := lg.HeadsPerGroup()
	l.Heads = subnet.Empty(lg.Heads)
	for _, group := range kept.Indices() {
		l.Heads = l.Heads.Union(subnet.Range(lg.Heads, group*per, (group+1)*per))
	}
	return l
}

// counts shares the units out over the layers.
func (p *plan) counts(ctx context.Context, s *Survey) (counts, error) {
	g, step, attention := p.m.Geometry(), p.config.Granularity, p.recipe.Attention
	switch p.recipe.Widths {
	case Global:
		if s == nil {
			return counts{}, errors.New("scores of all layers are compared, and there is no survey")
		}
		scores := make([][subnet.Modules][]float64, len(g.Layers))
		for i := range g.Layers {
			for _, m := range []subnet.Module{subnet.Attention, subnet.MLP} {
				scores[i][m] = standardized(s.Layers[i].Module(m).Rankings[p.recipe.Method])
			}
		}
		return cheapest(g, p.ratio, step, attention, p.recipe.Floor, func(layer int, m subnet.Module, have, keep int) float64 {
			all := scores[layer][m] // from the first to drop to the last
			return sumOf(all[len(all)-have : len(all)-keep])
		})
	case Sensitive:
		loss, err := p.sensitivity(ctx)
		if err != nil {
			return counts{}, err
		}
		c, err := cheapest(g, p.ratio, step, attention, p.recipe.Floor, func(layer int, m subnet.Module, have, keep int) float64 {
			return loss.at(layer, m, keep) - loss.at(layer, m, have)
		})
		if err == nil {
			p.predicted = loss.total(c)
		}
		return c, err
	default:
		return uniform(g, p.ratio, step, attention)
	}
}

// random keeps units drawn by chance, as many of each layer.
func (p *plan) random(masks subnet.Masks) (subnet.Masks, error) {
	g := p.m.Geometry()
	keep, err := uniform(g, p.ratio, p.config.Granularity, p.recipe.Attention)
	if err != nil {
		return subnet.Masks{}, err
	}
	rng := rand.New(rand.NewPCG(p.config.Seed, 0))
	for i, lg := range g.Layers {
		l := withUnits(g, i, masks.Layer(i), subnet.Attention, subnet.Full(lg.KVHeads).Sample(rng, keep.groups[i]))
		masks = masks.With(i, withUnits(g, i, l, subnet.MLP, subnet.Full(lg.FFN).Sample(rng, keep.channels[i])))
	}
	return masks, masks.Validate()
}
