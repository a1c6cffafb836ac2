package oneshot

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform"
	"github.com/lathe-llm/lathe/reform/linalg"
	"github.com/lathe-llm/lathe/search/importance"
)

// Survey is the result of one pass of calibration text through the dense model: the order of the units of every module by
// every method asked for. Matrices of second moments are kept for one module at a time.
type Survey struct {
	Tokens int
	Layers []LayerSurvey
}

// LayerSurvey is a survey of one layer.
type LayerSurvey struct {
	Attention, MLP ModuleSurvey
	// Cosine is between the hidden states before and after the layer (see importance.Cosine), over the first window.
	Cosine float64
}

// Module returns the survey of one module.
func (l *LayerSurvey) Module(m subnet.Module) *ModuleSurvey {
	if m == subnet.Attention {
		return &l.Attention
	}
	return &l.MLP
}

// ModuleSurvey is a survey of one module. Attention is ranked by KV groups, an MLP by channels.
type ModuleSurvey struct {
	Rankings map[importance.Method]importance.Ranking
	// Energy is E‖output‖².
	Energy float64
}

func (s *ModuleSurvey) add(m importance.Method, r importance.Ranking) {
	if s.Rankings == nil {
		s.Rankings = make(map[importance.Method]importance.Ranking)
	}
	s.Rankings[m] = r
}

// NewSurvey passes windows through the dense model and ranks the units of every module by each method. Taylor is computed on a
// part of the text; a survey by Taylor alone has neither energies nor cosines. progress, unless nil, is called after each
// layer.
func NewSurvey(ctx context.Context, m *decoder.Model, windows [][]int32, methods []importance.Method, progress func(Event)) (*Survey, error) {
	tokens, err := reform.CheckText(windows)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(Event) {}
	}
	s := &Survey{Tokens: tokens, Layers: make([]LayerSurvey, len(m.Geometry().Layers))}
	if slices.Contains(methods, importance.Taylor) {
		if err := s.addTaylor(ctx, m, windows, progress); err != nil {
			return nil, err
		}
		methods = slices.DeleteFunc(slices.Clone(methods), func(m importance.Method) bool { return m == importance.Taylor })
		if len(methods) == 0 {
			return s, nil
		}
	}
	p, err := newPass(ctx, m, windows)
	if err != nil {
		return nil, err
	}
	defer p.close()
	v := visitor{
		module: func(layer int, module subnet.Module, b *importance.Block) error {
			to := s.Layers[layer].Module(module)
			if to.Energy = importance.Energy(b); math.IsNaN(to.Energy) || math.IsInf(to.Energy, 0) { // magnitude does not use the inputs
				return fmt.Errorf("inputs of the output matrix: %w", linalg.ErrNotFinite)
			}
			for _, method := range methods {
				r, err := importance.Rank(method, b, units(module), importance.Options{})
				if err != nil {
					return fmt.Errorf("rank: %w", err)
				}
				to.add(method, r)
			}
			return nil
		},
		layer: func(layer int, cosine float64) error {
			s.Layers[layer].Cosine = cosine
			progress(Event{Phase: Surveying, Done: layer + 1, Total: len(s.Layers)})
			return nil
		},
	}
	for _, method := range methods {
		needs := importance.NeedsOf(method)
		v.needs.Weights, v.needs.Inputs = v.needs.Weights || needs.Weights, v.needs.Inputs || needs.Inputs
	}
	if err := p.run(ctx, v); err != nil {
		return nil, err
	}
	return s, nil
}
