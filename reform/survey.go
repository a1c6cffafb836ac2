package reform

import (
	"context"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/infer/decoder"
	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/search/importance"
)

// Survey is what one pass over calibration text says about the dense model: the order of the units of every module by
// every method asked for. Matrices of second moments live only while their layer is passed.
type Survey struct {
	Tokens int
	Layers []LayerSurvey
}

// LayerSurvey is one layer's part of a survey.
type LayerSurvey struct {
	Attention, MLP ModuleSurvey
	// Cosine is between the hidden states before and after the layer (see importance.Cosine), over the first window.
	Cosine float64
}

// Module returns one module's part.
func (l *LayerSurvey) Module(m subnet.Module) *ModuleSurvey {
	if m == subnet.Attention {
		return &l.Attention
	}
	return &l.MLP
}

// ModuleSurvey is one module's part of a survey. Attention is ranked by KV groups, an MLP by channels.
type ModuleSurvey struct {
	Rankings map[importance.Method]importance.Ranking
	// Energy is E‖output‖², what shares of energy are shares of.
	Energy float64
}

func (s *ModuleSurvey) add(m importance.Method, r importance.Ranking) {
	if s.Rankings == nil {
		s.Rankings = make(map[importance.Method]importance.Ranking)
	}
	s.Rankings[m] = r
}

// units are what modules are ranked by.
func units(m subnet.Module) importance.Unit {
	if m == subnet.Attention {
		return importance.Groups
	}
	return importance.Channels
}

// NewSurvey passes windows through the dense model and ranks the units of every module by each method. Statistics that
// no method needs are not taken; by Taylor alone, which is computed on a part of the text, there are neither energies nor
// cosines. progress, where not nil, is told after each layer.
func NewSurvey(ctx context.Context, m *decoder.Model, windows [][]int32, methods []importance.Method, progress func(Event)) (*Survey, error) {
	tokens, err := checkWindows(windows)
	if err != nil {
		return nil, err
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
	st, err := newStream(ctx, m, windows, Own)
	if err != nil {
		return nil, err
	}
	defer st.close()
	dense := m.Dense()
	defer dense.Close()
	before, err := st.own.Hidden(0)
	if err != nil {
		return nil, err
	}
	for layer := range s.Layers {
		for _, module := range []subnet.Module{subnet.Attention, subnet.MLP} {
			if columns(m.Geometry(), layer, module) == 0 {
				continue
			}
			survey, err := surveyModule(ctx, st, layer, module, dense, methods)
			if err != nil {
				return nil, named(layer, module, err)
			}
			to := s.Layers[layer].Module(module)
			to.Energy = survey.Energy
			for method, r := range survey.Rankings {
				to.add(method, r)
			}
		}
		after, err := st.own.Hidden(0)
		if err != nil {
			return nil, err
		}
		s.Layers[layer].Cosine = importance.Cosine(before, after, m.Geometry().Hidden)
		before = after
		if progress != nil {
			progress(Event{Phase: Surveying, Done: layer + 1, Total: len(s.Layers)})
		}
	}
	return s, nil
}

func surveyModule(ctx context.Context, st *stream, layer int, module subnet.Module, dense *decoder.Subnet, methods []importance.Method) (ModuleSurvey, error) {
	s := ModuleSurvey{Rankings: make(map[importance.Method]importance.Ranking)}
	inner, outer := false, false
	for _, method := range methods {
		needs := importance.NeedsOf(method)
		inner, outer = inner || needs.Weights, outer || needs.Inputs
	}
	b, err := newBlock(st.m, layer, module, inner)
	if err != nil {
		return s, err
	}
	if outer {
		if b.In, err = st.innerInputs(ctx, layer, module); err != nil {
			return s, err
		}
	}
	t, err := st.tap(ctx, layer, module, dense)
	if err != nil {
		return s, err
	}
	defer t.close()
	mo, err := t.own.Moments(ctx)
	if err != nil {
		return s, err
	}
	b.Mid = asInputs(mo)
	s.Energy = importance.Energy(b)
	for _, method := range methods {
		if s.Rankings[method], err = importance.Rank(method, b, units(module), importance.Options{}); err != nil {
			return s, fmt.Errorf("rank: %w", err)
		}
	}
	return s, t.advance(ctx, dense, nil)
}
