package importance

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/lathe-llm/lathe/infer/subnet"
	"github.com/lathe-llm/lathe/reform/linalg"
)

// Options configure a ranking. The zero value has the defaults.
type Options struct {
	// Ridge is added to second moments before they are inverted, as a share of their mean diagonal; 0 is 0.01, and a negative
	// ridge is none.
	Ridge float64
	// Step is how many channels OBS drops between updates; 0 is 16. Heads and groups are dropped one by one.
	Step int
	// Keep is how many units will be kept. OBS stops when so many are left, orders those by their cost at that point, and computes
	// neither Loss nor Alone. 0 orders all.
	Keep int
}

const (
	defaultRidge = 0.01
	defaultStep  = 16
)

func (o Options) ridge() float64 {
	if o.Ridge == 0 {
		return defaultRidge
	}
	return max(0, o.Ridge)
}

// Ranking is an order of the units of a block.
type Ranking struct {
	// Scores has one value per unit, larger is more important. Scores of one method are comparable over the units of one
	// block; those of OBS are the cost of each unit at the moment it was dropped.
	Scores []float64
	// Order lists the units from the first to drop to the last.
	Order []int
	// Alone is the cost that OBS computes for each unit when only that unit is dropped, as a share of the outputs' energy; nil
	// for other methods. It is usually less than the cost after others are dropped.
	Alone []float64
	// Loss[k] is the share of the outputs' energy that is lost when the first k units of Order are dropped and the rest
	// re-fitted. It has one value more than there are units, and is nil for methods other than
	// OBS.
	Loss []float64
}

// Keep returns the count units that go last.
func (r Ranking) Keep(count int) subnet.Set {
	return subnet.Of(len(r.Order), r.Order[len(r.Order)-count:]...)
}

type needs int

const (
	needMid needs = 1 << iota
	needMidDiagonal
	needVar
	needInner
	needIn
)

type scorer struct {
	needs needs
	score func(*Block, Unit, Options) ([]float64, error)
}

func scorerOf(m Method) (scorer, bool) {
	switch m {
	case Phi:
		return scorer{needMid | needInner | needIn, phi}, true
	case PhiDiagonal:
		return scorer{needMidDiagonal | needInner | needIn, phiDiagonal}, true
	case OBS:
		return scorer{needMid, nil}, true
	case FLAP:
		return scorer{needVar, flap}, true
	case Magnitude:
		return scorer{needInner, magnitude}, true
	case Wanda:
		return scorer{needMidDiagonal, wanda}, true
	case Leverage:
		return scorer{needMid, leverage}, true
	case Taylor:
		return scorer{needInner, taylor}, true
	}
	return scorer{}, false
}

// Needs is what a method uses beside the output matrix and its inputs.
type Needs struct {
	Weights   bool // the inner matrices
	Inputs    bool // second moments of their inputs
	Gradients bool // of all matrices
}

// NeedsOf returns what a method uses.
func NeedsOf(m Method) Needs {
	s, _ := scorerOf(m)
	return Needs{Weights: s.needs&needInner != 0, Inputs: s.needs&needIn != 0, Gradients: m == Taylor}
}

// Rank orders the units of a block by a method.
func Rank(m Method, b *Block, u Unit, o Options) (Ranking, error) {
	method, ok := scorerOf(m)
	if !ok {
		return Ranking{}, fmt.Errorf("%s: %q: %w", b.Name, m, ErrMethod)
	}
	if err := b.check(u, method.needs); err != nil {
		return Ranking{}, fmt.Errorf("%s: %s: %w", b.Name, m, err)
	}
	if m == OBS {
		if u == HeadChannels {
			return Ranking{}, fmt.Errorf("%s: %s of in-head channels: %w", b.Name, m, ErrMethod)
		}
		r, err := obs(b, u, o)
		if err != nil {
			return Ranking{}, fmt.Errorf("%s: %s: %w", b.Name, m, err)
		}
		return r, nil
	}
	scores, err := method.score(b, u, o)
	if err != nil {
		return Ranking{}, fmt.Errorf("%s: %s: %w", b.Name, m, err)
	}
	if err := linalg.CheckFinite(scores); err != nil {
		return Ranking{}, fmt.Errorf("%s: %s: scores: %w", b.Name, m, err)
	}
	return ByScore(scores), nil
}

// ByScore ranks units by given scores, in their own order where scores are equal.
func ByScore(scores []float64) Ranking {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	return Ranking{Scores: scores, Order: order}
}

// Energy returns E‖W·x‖² of the output matrix.
func Energy(b *Block) float64 {
	w := linalg.Widen(b.Output.Data)
	return linalg.Dot(linalg.Product(b.Output.Out, b.Output.In, b.Output.In, w, b.Mid.Gram), w)
}

// relative divides by the whole unless that is zero.
func relative(loss []float64, whole float64) []float64 {
	if whole > 0 {
		for i := range loss {
			loss[i] /= whole
		}
	}
	return loss
}

func sum(x []float64) float64 {
	var s float64
	for _, v := range x {
		s += v
	}
	return s
}
